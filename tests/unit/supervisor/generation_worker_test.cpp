#include "supervisor/generation_worker.h"

#include <unistd.h>

#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/supervisor/worker_rig.h"

namespace tidegate {
namespace {

using nlohmann::json;

struct FakeGeneration final : WorkerProcess::Owner {
  void OnHello(WorkerProcess&) override {}
  void OnPrepared(WorkerProcess&, std::uint64_t) override {}
  void OnRejected(WorkerProcess&, const std::string&) override {}
  void OnCommitted(WorkerProcess&, std::uint64_t) override {}
  void OnReleased(WorkerProcess&, const std::vector<std::uint64_t>&) override {}
  void OnDraining(WorkerProcess&) override {}
  void OnGate(WorkerProcess&) override {}
  void OnResolved(WorkerProcess&, const KnownAddresses& addresses) override {
    resolved.push_back(addresses);
  }
  void OnWorkerGone(WorkerProcess&, const std::string&, bool) override { gone = true; }

  std::vector<KnownAddresses> resolved;
  bool gone = false;
};

class WorkerProcessTest : public WorkerRig {
 protected:
  void SetUp() override {
    WorkerRig::SetUp();
    worker_.emplace(surroundings_, generation_, 0U, row_);
    worker_->Adopt(pid_, std::move(channel_), UniqueFd(), WorkerState::kServing, 0, false);
  }
  void TearDown() override {
    worker_.reset();
    WorkerRig::TearDown();
  }

  FakeGeneration generation_;
  std::optional<WorkerProcess> worker_;
};

TEST_F(WorkerProcessTest, TellsWhatIsKnownWithPrepare) {
  auto config = MakeMemfd("config", "{}");
  ASSERT_TRUE(config);
  PrepareRound round{.id = 4,
                     .config_memfd = config->get(),
                     .access_fd = -1,
                     .listeners = {},
                     .known_addresses = {{"app.test", {"192.0.2.1"}}},
                     .with_new_sockets = false};
  worker_->SendPrepare(round);
  auto message = ReceiveControl(worker_end_.get(), std::chrono::seconds(1));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->type(), "name_files");
  message = ReceiveControl(worker_end_.get(), std::chrono::seconds(1));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->type(), "prepare");
  EXPECT_EQ(KnownAddressesOf(message->body, "known_addresses"), round.known_addresses);

  // However much it is.
  for (std::size_t i = 0; i < kMostKnownNames; ++i) {
    round.known_addresses[std::to_string(i) + ".test"] = {"192.0.2.1", "2001:db8::1"};
  }
  worker_->SendPrepare(round);
  message = ReceiveControl(worker_end_.get(), std::chrono::seconds(1));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->body["known_addresses"].size(), kMostKnownNames + 1);
  EXPECT_EQ(message->fds.size(), 1U);
}

TEST_F(WorkerProcessTest, TellsTheTicketKeysOfNow) {
  for (std::uint64_t now : {std::uint64_t{0}, std::uint64_t{90'000}}) {
    keys_.RotateIfDue(now, std::chrono::minutes(1));
    worker_->SendKeys();
    auto message = ReceiveControl(worker_end_.get(), std::chrono::seconds(1));
    ASSERT_TRUE(message);
    EXPECT_EQ(message->type(), "rotate_keys");
    ASSERT_EQ(message->fds.size(), 1U);
    auto ring = TicketRing::Unpack(message->fds[0].get());
    ASSERT_TRUE(ring);
    EXPECT_EQ(ring->rotated_at(), now);
    EXPECT_EQ(ring->current().mac, keys_.ring().current().mac);
  }
}

TEST_F(WorkerProcessTest, TellsTheNameFilesOnceUntilTheyChange) {
  const std::string path = testing::TempDir() + "tidegate-hosts-" + std::to_string(::getpid());
  name_files_ = NameFilesOwner({.resolv_conf = path + ".none", .hosts = path});
  worker_->SendNameFiles();
  worker_->Ask("ping", {}, [](const json&) {});
  auto message = ReceiveControl(worker_end_.get(), std::chrono::seconds(1));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->type(), "query") << "nobody has looked at them yet";
  for (const char* text : {"192.0.2.1 app\n", "192.0.2.2 app\n"}) {
    std::ofstream(path) << text;
    ASSERT_TRUE(name_files_.Look());
    worker_->SendNameFiles();
    worker_->SendNameFiles();
    worker_->Ask("ping", {}, [](const json&) {});
    message = ReceiveControl(worker_end_.get(), std::chrono::seconds(1));
    ASSERT_TRUE(message);
    EXPECT_EQ(message->type(), "name_files");
    ASSERT_EQ(message->fds.size(), 2U);
    EXPECT_EQ(ReadMemfd(message->fds[0].get()).value_or("unreadable"), "");
    EXPECT_EQ(ReadMemfd(message->fds[1].get()).value_or("unreadable"), text);
    message = ReceiveControl(worker_end_.get(), std::chrono::seconds(1));
    ASSERT_TRUE(message);
    EXPECT_EQ(message->type(), "query");
  }
  ::unlink(path.c_str());
}

TEST_F(WorkerProcessTest, HearsWhatNamesResolveToAndNothingElse) {
  json told = MakeControlMessage("resolved");
  told["addresses"] = {{"app.test", {"192.0.2.1", "not an address"}}, {"db.test", 7}};
  Say(told);
  told["addresses"] = "nonsense";
  Say(told);
  EXPECT_EQ(generation_.resolved, (std::vector<KnownAddresses>{{{"app.test", {"192.0.2.1"}}}, {}}));
  EXPECT_FALSE(generation_.gone);
}

}  // namespace
}  // namespace tidegate
