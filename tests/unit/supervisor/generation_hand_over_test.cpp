#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

#include <memory>

#include "common/config_load.h"
#include "supervisor/generation.h"
#include "tests/unit/supervisor/worker_rig.h"

namespace tidegate {
namespace {

using nlohmann::json;

// Two generations, with the workers' ends of their channels spoken by hand.
class GenerationHandOverTest : public WorkerRig {
 protected:
  void SetUp() override {
    WorkerRig::SetUp();
    auto loaded = LoadConfigText("test.json", R"({"listen": ":0", "upstream": "app.test:80"})",
                                 [](std::string_view) { return std::nullopt; });
    ASSERT_TRUE(loaded);
    auto config = std::make_shared<ActiveConfig>();
    config->config = loaded->config;
    config_ = config;
    old_ = Make(7);
    next_ = Make(8);
  }
  void TearDown() override {
    old_.reset();
    next_.reset();
    WorkerRig::TearDown();
  }

  std::unique_ptr<Generation> Make(std::uint64_t number) {
    return std::make_unique<Generation>(surroundings_, Generation::Parts{.number = number,
                                                                         .config = config_,
                                                                         .worker_program = {},
                                                                         .version = "1.0.0",
                                                                         .workers = 1,
                                                                         .identity = std::nullopt});
  }

  struct Worker {
    UniqueFd end;
    CountersRow row;
  };
  // A worker that serves.
  Worker Add(Generation& generation, unsigned slot) {
    auto pair = MakeControlPair();
    auto row = counters_.Allocate();
    EXPECT_TRUE(pair && row);
    generation.AdoptWorker(slot, pid_, std::move(pair->first), *row);
    return Worker{.end = std::move(pair->second), .row = *row};
  }

  void Turn() {
    for (int i = 0; i < 5; ++i) {
      loop_.RunNoWait();
    }
  }
  void Report(const Worker& worker, json report) {
    report.update(MakeControlMessage("draining"));
    ASSERT_TRUE(SendControl(worker.end.get(), report, {}, std::chrono::seconds(1)));
    Turn();
  }
  // The next message to it of `type`; none if there is none.
  static std::optional<ControlMessage> Next(const Worker& worker, std::string_view type) {
    while (true) {
      auto message = ReceiveControl(worker.end.get(), Duration::zero());
      if (!message) {
        return std::nullopt;
      }
      if (message->type() == type) {
        return std::move(*message);
      }
    }
  }

  ActiveConfigPtr config_;
  std::unique_ptr<Generation> old_;
  std::unique_ptr<Generation> next_;
};

bool HasEnded(int fd) {
  char octet = 0;
  return ::read(fd, &octet, 1) == 0;
}

TEST_F(GenerationHandOverTest, EachPairHasAChannelAndALifelineThatNobodyElseHolds) {
  Worker first = Add(*old_, 0);
  Worker second = Add(*old_, 1);
  Worker heir = Add(*next_, 0);
  old_->HandOver(*next_);
  for (const auto& [worker, name] : {std::pair(&first, "7.0"), std::pair(&second, "7.1")}) {
    auto give = Next(*worker, "hand_over");
    auto take = Next(heir, "adopt_from");
    ASSERT_TRUE(give && take);
    EXPECT_EQ(TextOf(give->body, "to"), "8.0");
    EXPECT_EQ(TextOf(take->body, "from"), name);
    ASSERT_EQ(give->fds.size(), 2U);
    ASSERT_EQ(take->fds.size(), 2U);

    ASSERT_TRUE(SendControl(give->fds[0].get(), MakeControlMessage("offer"), {}, Duration::zero()));
    auto offer = ReceiveControl(take->fds[0].get(), Duration::zero());
    ASSERT_TRUE(offer) << "the two are of one pair";
    ASSERT_EQ(::write(give->fds[1].get(), "x", 1), 1);
    char octet = 0;
    ASSERT_EQ(::read(take->fds[1].get(), &octet, 1), 1);
    EXPECT_EQ(::read(take->fds[1].get(), &octet, 1), -1) << "nobody waits for it";
    EXPECT_EQ(errno, EAGAIN);

    give->fds.clear();
    EXPECT_TRUE(HasEnded(take->fds[0].get())) << "its death is seen";
    EXPECT_TRUE(HasEnded(take->fds[1].get()));
  }
}

TEST_F(GenerationHandOverTest, WhoTakesThePlaceOfALostHeirIsConnected) {
  Worker first = Add(*old_, 0);
  Worker second = Add(*old_, 1);
  Worker heir = Add(*next_, 0);
  Worker other = Add(*next_, 1);
  old_->HandOverAgain(*next_, 0);
  EXPECT_FALSE(Next(first, "hand_over")) << "nothing was to go there";
  old_->HandOver(*next_);
  old_->Drain(std::chrono::seconds(30), std::chrono::seconds(30));
  ASSERT_TRUE(Next(first, "hand_over") && Next(second, "hand_over"));
  ASSERT_TRUE(Next(heir, "adopt_from") && Next(other, "adopt_from"));

  heir.end.Reset();
  Turn();
  EXPECT_EQ(next_->serving_count(), 1U);
  Worker again = Add(*next_, 0);
  old_->HandOverAgain(*next_, 0);
  EXPECT_TRUE(Next(first, "hand_over"));
  EXPECT_TRUE(Next(again, "adopt_from"));
  EXPECT_FALSE(Next(second, "hand_over")) << "its heir lives";
  EXPECT_FALSE(Next(other, "adopt_from"));

  auto another = Make(9);
  Worker stranger = Add(*another, 0);
  old_->HandOverAgain(*another, 0);
  EXPECT_FALSE(Next(first, "hand_over"));
  old_->HandOver(*another);
  auto give = Next(first, "hand_over");
  ASSERT_TRUE(give) << "the next upgrade: whoever drains still has a new heir";
  EXPECT_EQ(TextOf(give->body, "to"), "9.0");
}

TEST_F(GenerationHandOverTest, AnHeirThatIsLostAlreadyIsWaitedFor) {
  Worker worker = Add(*old_, 0);
  Worker heir = Add(*next_, 0);
  heir.end.Reset();
  Turn();
  old_->HandOver(*next_);
  old_->Drain(std::chrono::seconds(30), std::chrono::seconds(30));
  EXPECT_FALSE(Next(worker, "hand_over"));
  Worker again = Add(*next_, 0);
  old_->HandOverAgain(*next_, 0);
  EXPECT_TRUE(Next(worker, "hand_over"));
  EXPECT_TRUE(Next(again, "adopt_from"));
}

TEST_F(GenerationHandOverTest, WithoutDescriptorsTheyDrain) {
  Worker worker = Add(*old_, 0);
  Worker heir = Add(*next_, 0);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // Down to one that is left, and to none: the pipe fails, and the channel does.
  int highest = ::fcntl(0, F_DUPFD_CLOEXEC, 3);
  ASSERT_GE(highest, 0);
  ::close(highest);
  for (int room : {0, 2}) {
    rlimit tight{.rlim_cur = static_cast<rlim_t>(highest + room), .rlim_max = before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    old_->HandOver(*next_);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_FALSE(Next(worker, "hand_over"));
    EXPECT_FALSE(Next(heir, "adopt_from"));
  }
  int again = ::fcntl(0, F_DUPFD_CLOEXEC, 3);
  EXPECT_EQ(again, highest) << "nothing is left open";
  ::close(again);
}

TEST_F(GenerationHandOverTest, WhatMovedIsSummedAlsoOfWorkersThatAreGone) {
  Worker first = Add(*old_, 0);
  Worker second = Add(*old_, 1);
  old_->Drain(std::chrono::seconds(30), std::chrono::seconds(30));
  EXPECT_TRUE(old_->hands_over()) << "nobody was heard of";
  EXPECT_FALSE(old_->tells_hand_over());

  Report(first, {{"left", 2}, {"handing_over", false}, {"moved", {{"idle", 5}, {"tunnel", 1}}}});
  EXPECT_TRUE(old_->hands_over());
  EXPECT_TRUE(old_->tells_hand_over());
  Report(second, {{"left", 4}, {"handing_over", true}, {"moved", {{"idle", 3}}}});
  EXPECT_TRUE(old_->hands_over());
  Report(second, {{"left", 3},
                  {"handing_over", false},
                  {"moved", {{"idle", 3}}},
                  {"declined", {{"route", 1}, {"whatever", 8}}}});
  EXPECT_FALSE(old_->hands_over());

  Report(first, {{"left", 0}, {"handing_over", false}, {"moved", {{"idle", 6}, {"tunnel", 2}}}});
  first.end.Reset();
  Turn();
  EXPECT_EQ(old_->cut(), 0U);
  EXPECT_EQ(HandOverText(old_->handed_over()),
            "9 idle connections, 2 tunnels moved; 1 declined (route 1)");
  json status = old_->Status();
  EXPECT_EQ(status["draining"]["moved"], json::parse(R"({"idle":9,"tunnels":2,"upstream":0})"));
  EXPECT_EQ(status["draining"]["declined"], json::parse(R"({"route":1})"));
  EXPECT_EQ(status["draining"]["left"], 3);
  EXPECT_EQ(status["workers"][0]["draining"]["moved"]["idle"], 3);
}

TEST_F(GenerationHandOverTest, WhatMovedBeforeADeathAndWasNotSaidIsNotCut) {
  Worker worker = Add(*old_, 0);
  old_->Drain(std::chrono::seconds(30), std::chrono::seconds(30));
  Report(worker, {{"left", 7}, {"handing_over", true}, {"moved", {{"idle", 2}}}});
  auto counters = Counters::Map(counters_.memfd(), worker.row.row);
  ASSERT_TRUE(counters);
  counters->Add(CounterId::kHandedOverIdle, 5);
  counters->Add(CounterId::kHandedOverTunnels, 1);
  worker.end.Reset();
  Turn();
  EXPECT_EQ(old_->handed_over().moved, (std::array<std::uint64_t, 3>{5, 1, 0}));
  EXPECT_EQ(old_->cut(), 3U);
}

TEST_F(GenerationHandOverTest, AWorkerOfBeforeTellsNothing) {
  Worker worker = Add(*old_, 0);
  old_->HandOver(*next_);
  old_->Drain(std::chrono::seconds(30), std::chrono::seconds(30));
  Report(worker, {{"left", 7}, {"tunnels", 2}});
  EXPECT_FALSE(old_->hands_over());
  EXPECT_FALSE(old_->tells_hand_over());
  EXPECT_FALSE(old_->Status()["draining"].contains("moved"));
  // Another that counts what it should not.
  Report(worker, {{"left", std::uint64_t{18446744073709551615U}},
                  {"cut", -1},
                  {"handing_over", "perhaps"},
                  {"moved", {{"idle", std::uint64_t{18446744073709551615U}}}},
                  {"declined", 4}});
  EXPECT_FALSE(old_->hands_over());
  worker.end.Reset();
  Turn();
  EXPECT_EQ(old_->cut(), kMostCounted);
  EXPECT_EQ(old_->handed_over().moved_connections(), kMostCounted);
}

TEST_F(GenerationHandOverTest, AnotherImageCountsAWorkerThatWasGoing) {
  Worker worker = Add(*old_, 0);
  Worker other = Add(*old_, 1);
  old_->Drain(std::chrono::seconds(30), std::chrono::seconds(30));
  Report(worker, {{"left", 1}, {"cut", 2}, {"handing_over", false}, {"moved", {{"idle", 4}}}});
  Report(other, {{"left", 0}, {"handing_over", false}, {"moved", {{"idle", 1}}}});
  std::vector<int> fds;
  json state = old_->Save(fds);
  // As state.cpp does where the channel has ended.
  for (json& slot : state["slots"]) {
    slot["gone"] = slot["worker"]["drain"];
    slot.erase("worker");
  }
  old_ = Make(7);
  old_->Restore(json::parse(state.dump()));
  EXPECT_EQ(old_->cut(), 3U);
  EXPECT_EQ(old_->handed_over().moved_connections(), 5U);
  EXPECT_TRUE(old_->tells_hand_over());
}

TEST_F(GenerationHandOverTest, AnotherImageKnowsTheHeirsAndWhatHasMoved) {
  Worker gone = Add(*old_, 0);
  Worker worker = Add(*old_, 1);
  Worker heir = Add(*next_, 0);
  old_->HandOver(*next_);
  old_->Drain(std::chrono::seconds(30), std::chrono::seconds(30));
  ASSERT_TRUE(Next(worker, "hand_over") && Next(heir, "adopt_from"));
  Report(gone, {{"left", 0}, {"handing_over", false}, {"moved", {{"tunnel", 1}}}});
  gone.end.Reset();
  Turn();
  Report(worker, {{"left", 3},
                  {"tunnels", 2},
                  {"handing_over", true},
                  {"moved", {{"idle", 4}, {"tunnel", 1}}},
                  {"declined", {{"limits", 2}}}});

  std::vector<int> fds;
  json state = old_->Save(fds);
  // The descriptor outlives the first image.
  json& channel = state["slots"][1]["worker"]["channel"];
  channel = ::fcntl(channel.get<int>(), F_DUPFD_CLOEXEC, 3);
  HandOverCounts before = old_->handed_over();
  old_ = Make(7);
  old_->Restore(json::parse(state.dump()));

  EXPECT_EQ(old_->handed_over(), before);
  EXPECT_EQ(before.moved, (std::array<std::uint64_t, 3>{4, 2, 0}));
  EXPECT_TRUE(old_->hands_over());
  EXPECT_EQ(old_->drain_report().tunnels, 2U);
  EXPECT_TRUE(old_->tells_hand_over());
  Worker again = Add(*next_, 1);
  old_->HandOverAgain(*next_, 1);
  EXPECT_FALSE(Next(worker, "hand_over")) << "not its heir";
  old_->HandOverAgain(*next_, 0);
  EXPECT_TRUE(Next(worker, "hand_over"));
}

}  // namespace
}  // namespace tidegate
