#include "proxy/control_client.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include <gtest/gtest.h>

#include "common/control.h"

namespace tidegate {
namespace {

using nlohmann::json;

struct FakeWorker final : WorkerHandler {
  Result<> Init(WorkerInit init) override {
    generation = init.generation;
    return {};
  }
  Result<> Prepare(PrepareRequest request) override {
    prepared = std::move(request);
    if (prepared.config == "bad") {
      return Fail(ErrorKind::kConfig, "it is bad");
    }
    return {};
  }
  void Commit(std::uint64_t id) override { committed = id; }
  void Abandon(std::uint64_t id) override { abandoned = id; }
  void Accept(const std::vector<unsigned>& the_slots) override { slots = the_slots; }
  void DropListeners(const std::vector<std::uint64_t>& ids) override { dropped = ids; }
  void Drain(DrainLimits limits) override { drain = limits; }
  void HandOverTo(UniqueFd channel, UniqueFd lifeline) override {
    hands_over = channel && lifeline;
  }
  void AdoptFrom(UniqueFd channel, UniqueFd lifeline) override { adopts = channel && lifeline; }
  void RotateKeys(TicketRing the_keys) override { keys = std::move(the_keys); }
  void UseNameFiles(NameFiles files) override { name_files = std::move(files); }
  void ReopenLogs(UniqueFd, UniqueFd) override { ++reopened; }
  void SetLogLevel(LogLevel the_level, Duration) override { level = the_level; }
  Result<std::string> Query(std::string_view what, std::string_view) override {
    if (what == "connections") {
      return std::string("[]");
    }
    return Fail(ErrorKind::kProtocol, "unknown");
  }
  KnownAddresses LastAddresses() override { return last_addresses; }
  void OnOrphaned() override { orphaned = true; }
  void OnAdopted() override { orphaned = false; }

  std::uint64_t generation = 0;
  PrepareRequest prepared;
  std::uint64_t committed = 0;
  std::uint64_t abandoned = 0;
  std::vector<unsigned> slots;
  std::vector<std::uint64_t> dropped;
  std::optional<DrainLimits> drain;
  std::optional<TicketRing> keys;
  std::optional<NameFiles> name_files;
  int reopened = 0;
  std::optional<LogLevel> level;
  KnownAddresses last_addresses;
  bool orphaned = false;
  bool hands_over = false;
  bool adopts = false;
};

// The supervisor's end, spoken by hand.
class ControlClientTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "tidegate-client-" + std::to_string(::getpid()) + ".sock";
    std::filesystem::remove(path_);
    auto pair = MakeControlPair();
    ASSERT_TRUE(pair);
    supervisor_ = std::move(pair->first);
    client_ = std::make_unique<ControlClient>(loop_, std::move(pair->second), worker_);
    client_->Start({.seccomp = {.in_force = true}, .landlock = {.note = "none here"}});
  }
  void TearDown() override {
    client_.reset();
    loop_.RunUntilClosed();
    std::filesystem::remove(path_);
  }

  // Turns the loop until nothing is left to do.
  void Turn() {
    for (int i = 0; i < 5; ++i) {
      uv_run(loop_.uv(), UV_RUN_NOWAIT);
    }
  }
  void Say(const json& message, std::vector<int> fds = {}) {
    ASSERT_TRUE(SendControl(supervisor_.get(), message, fds, std::chrono::seconds(1)));
    Turn();
  }
  ControlMessage Hear() {
    Turn();
    auto message = ReceiveControl(supervisor_.get(), std::chrono::seconds(1));
    EXPECT_TRUE(message);
    return message ? std::move(*message) : ControlMessage{};
  }
  static json Message(const char* type, const json& fields) {
    json message = MakeControlMessage(type);
    message.update(fields);
    return message;
  }
  void Initialise() {
    EXPECT_EQ(Hear().type(), "hello");
    auto listener = ListenControl(path_, 0660);
    ASSERT_TRUE(listener);
    UniqueFd counters(::memfd_create("counters", MFD_CLOEXEC));
    Say(Message("init", {{"generation", 7}, {"slot", 1}, {"workers", 2}, {"row", 3}}),
        {counters.get(), listener->get(), STDERR_FILENO});
  }
  void PrepareWith(const std::string& config, std::uint64_t id, const json& more = json::object()) {
    auto memfd = MakeMemfd("config", config);
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM, 0));
    Say(Message("sockets", {{"sockets", {{{"listener", 4}, {"slot", 0}}}}}), {socket.get()});
    json message = Message(
        "prepare",
        {{"id", id},
         {"listeners", {{{"name", "web"}, {"id", 4}, {"bound", "127.0.0.1:1"}, {"key", ":1"}}}}});
    message.update(more);
    Say(message, {memfd->get()});
  }

  Loop loop_;
  FakeWorker worker_;
  UniqueFd supervisor_;
  std::unique_ptr<ControlClient> client_;
  std::string path_;
};

TEST_F(ControlClientTest, PreparesAndCommits) {
  Initialise();
  EXPECT_EQ(worker_.generation, 7U);
  PrepareWith("good", 11);
  ControlMessage answer = Hear();
  EXPECT_EQ(answer.type(), "prepared");
  EXPECT_EQ(NumberOf(answer.body, "id"), 11U);
  EXPECT_EQ(worker_.prepared.config, "good");
  ASSERT_EQ(worker_.prepared.sockets.size(), 1U);
  EXPECT_EQ(worker_.prepared.sockets[0].listener_id, 4U);
  ASSERT_EQ(worker_.prepared.listeners.size(), 1U);
  EXPECT_EQ(worker_.prepared.listeners[0].name, "web");
  EXPECT_EQ(worker_.committed, 0U);
  Say(Message("commit", {{"id", 11}}));
  EXPECT_EQ(Hear().type(), "committed");
  EXPECT_EQ(worker_.committed, 11U);
}

TEST_F(ControlClientTest, SaysWhyItRefuses) {
  Initialise();
  PrepareWith("bad", 12);
  ControlMessage answer = Hear();
  EXPECT_EQ(answer.type(), "rejected");
  EXPECT_EQ(TextOf(answer.body, "diagnostics"), "it is bad\n");
}

TEST_F(ControlClientTest, HearsWhatIsKnownAndTellsWhatResolves) {
  Initialise();
  KnownAddresses known = {{"app.test", {"192.0.2.1", "2001:db8::1"}}};
  PrepareWith("good", 1, {{"known_addresses", known}});
  EXPECT_EQ(Hear().type(), "prepared");
  EXPECT_EQ(worker_.prepared.known_addresses, known);
  client_->Resolved({{"app.test", {"192.0.2.2"}}});
  ControlMessage told = Hear();
  EXPECT_EQ(told.type(), "resolved");
  EXPECT_EQ(told.body["addresses"], json::parse(R"({"app.test": ["192.0.2.2"]})"));
  // Of a supervisor that knows nothing of it, or sends something else.
  PrepareWith("good", 2);
  EXPECT_EQ(Hear().type(), "prepared");
  EXPECT_TRUE(worker_.prepared.known_addresses.empty());
  PrepareWith("good", 3, {{"known_addresses", {{"app.test", "192.0.2.1"}}}});
  EXPECT_EQ(Hear().type(), "prepared");
  EXPECT_TRUE(worker_.prepared.known_addresses.empty());
}

TEST_F(ControlClientTest, PassesTheRestOn) {
  Initialise();
  Say(Message("accept", {{"slots", {0, 2}}}));
  EXPECT_EQ(worker_.slots, (std::vector<unsigned>{0, 2}));
  Say(Message("drop_listeners", {{"listeners", {4}}}));
  EXPECT_EQ(worker_.dropped, std::vector<std::uint64_t>{4});
  Say(Message("loglevel", {{"level", "debug"}, {"seconds", 0}}));
  EXPECT_EQ(worker_.level, LogLevel::kDebug);
  Say(Message("reopen_logs", {{"access_log", false}}), {STDERR_FILENO});
  EXPECT_EQ(worker_.reopened, 1);
  Say(Message("query", {{"id", 1}, {"what", "connections"}, {"argument", ""}}));
  EXPECT_EQ(Hear().body["data"], json::array());
  Say(Message("query", {{"id", 2}, {"what", "nonsense"}}));
  EXPECT_TRUE(Hear().body.contains("error"));
  Say(Message("drain", {{"drain_seconds", 2.5}, {"drain_tunnels_seconds", nullptr}}));
  ASSERT_TRUE(worker_.drain);
  EXPECT_EQ(worker_.drain->drain, Duration(2500));
  EXPECT_EQ(worker_.drain->drain_tunnels, kNever);
  EXPECT_FALSE(worker_.drain->close_idle);
}

TEST_F(ControlClientTest, PassesTheEndsOfAHandOverOn) {
  Initialise();
  Say(Message("hand_over", {{"to", "8.0"}}), {STDERR_FILENO});
  Say(Message("adopt_from", {{"from", "6.0"}}));
  EXPECT_FALSE(worker_.hands_over || worker_.adopts) << "an end is missing";
  Say(Message("hand_over", {{"to", "8.0"}}), {STDERR_FILENO, STDERR_FILENO});
  Say(Message("adopt_from", {{"from", "6.0"}}), {STDERR_FILENO, STDERR_FILENO});
  EXPECT_TRUE(worker_.hands_over && worker_.adopts);
  client_->ReportDraining(
      {.left = 3, .handing_over = true, .moved = {1, 2, 0}, .declined = {0, 0, 4, 0, 0, 0, 0, 0}});
  ControlMessage report = Hear();
  EXPECT_EQ(report.body["handing_over"], true);
  EXPECT_EQ(report.body["moved"], json::parse(R"({"idle":1,"tunnel":2,"upstream":0})"));
  EXPECT_EQ(report.body["declined"], json::parse(R"({"route":4})"));
}

TEST_F(ControlClientTest, IgnoresWhatItDoesNotKnow) {
  Initialise();
  Say(Message("from_the_future", {{"x", 1}}));
  Say(Message("accept", {{"slots", "none"}}));
  Say(Message("ping", {{"id", 5}}));
  EXPECT_EQ(Hear().type(), "pong");
}

TEST_F(ControlClientTest, SaysHowItIsConfined) {
  const ConfinementReport wanted{.seccomp = {.in_force = true}, .landlock = {.note = "none here"}};
  ControlMessage hello = Hear();
  EXPECT_EQ(hello.type(), "hello");
  EXPECT_EQ(ConfinementReportOf(hello.body["confinement"]), wanted);
}

TEST_F(ControlClientTest, TakesNameFiles) {
  Initialise();
  auto resolv_conf = MakeMemfd("resolv.conf", "nameserver 192.0.2.53\n");
  auto hosts = MakeMemfd("hosts", "192.0.2.7 app\n");
  ASSERT_TRUE(resolv_conf && hosts);
  Say(MakeControlMessage("name_files"), {resolv_conf->get(), hosts->get()});
  const NameFiles both{.resolv_conf = "nameserver 192.0.2.53\n", .hosts = "192.0.2.7 app\n"};
  EXPECT_EQ(worker_.name_files, both);
  // Whatever else comes changes nothing.
  Say(MakeControlMessage("name_files"));
  Say(MakeControlMessage("name_files"), {hosts->get()});
  Say(MakeControlMessage("name_files"), {STDERR_FILENO, hosts->get()});
  EXPECT_EQ(worker_.name_files, both);
}

TEST_F(ControlClientTest, TakesTicketKeysAndGivesThemToASuccessor) {
  Initialise();
  TicketRing ring(5);
  Say(MakeControlMessage("rotate_keys"), {ring.Pack()->get()});
  ASSERT_TRUE(worker_.keys);
  EXPECT_EQ(worker_.keys->current().mac, ring.current().mac);
  // Whatever else comes changes nothing.
  Say(MakeControlMessage("rotate_keys"));
  Say(MakeControlMessage("rotate_keys"), {STDERR_FILENO});
  EXPECT_EQ(worker_.keys->current().mac, ring.current().mac);
  ring.Rotate(6);
  Say(MakeControlMessage("rotate_keys"), {ring.Pack()->get()});
  EXPECT_EQ(worker_.keys->rotated_at(), 6U);

  PrepareWith("good", 1);
  EXPECT_EQ(Hear().type(), "prepared");
  Say(Message("commit", {{"id", 1}}));
  EXPECT_EQ(Hear().type(), "committed");
  supervisor_.Reset();
  Turn();
  auto successor = ConnectControl(path_, std::chrono::seconds(1));
  ASSERT_TRUE(successor);
  supervisor_ = std::move(*successor);
  Say(MakeControlMessage("takeover"));
  EXPECT_TRUE(FlagOf(Hear().body, "ticket_keys"));
  EXPECT_EQ(Hear().type(), "sockets");
  ControlMessage message = Hear();
  EXPECT_EQ(message.type(), "ticket_keys");
  ASSERT_EQ(message.fds.size(), 1U);
  auto given = TicketRing::Unpack(message.fds[0].get());
  ASSERT_TRUE(given);
  EXPECT_EQ(given->rotated_at(), 6U);
  EXPECT_EQ(given->next().cipher, ring.next().cipher);
}

TEST_F(ControlClientTest, AnOrphanGivesItsSocketsToASuccessor) {
  Initialise();
  PrepareWith("good", 1);
  EXPECT_EQ(Hear().type(), "prepared");
  Say(Message("commit", {{"id", 1}}));
  EXPECT_EQ(Hear().type(), "committed");
  supervisor_.Reset();
  Turn();
  EXPECT_TRUE(worker_.orphaned);
  EXPECT_TRUE(client_->orphaned());

  worker_.last_addresses = {{"app.test", {"192.0.2.1"}}};
  client_->Resolved(worker_.last_addresses);

  // Someone who only wants to know hears that there is no daemon.
  auto asking = ConnectControl(path_, std::chrono::seconds(1));
  ASSERT_TRUE(asking);
  supervisor_ = std::move(*asking);
  Say(Message("command", {{"command", "status"}}));
  ControlMessage result = Hear();
  EXPECT_EQ(result.body["exit_code"], 4);
  // Behind "tidegate: ".
  EXPECT_TRUE(TextOf(result.body, "message").starts_with("the supervisor is gone"));

  auto successor = ConnectControl(path_, std::chrono::seconds(1));
  ASSERT_TRUE(successor);
  supervisor_ = std::move(*successor);
  Say(MakeControlMessage("takeover"));
  ControlMessage adopted = Hear();
  ASSERT_EQ(adopted.type(), "adopted");
  EXPECT_EQ(adopted.body["generation"], 7);
  EXPECT_EQ(adopted.body["slot"], 1);
  EXPECT_EQ(adopted.body["row"], 3);
  EXPECT_EQ(adopted.body["listeners"][0]["key"], ":1");
  EXPECT_EQ(KnownAddressesOf(adopted.body, "known_addresses"), worker_.last_addresses);
  EXPECT_EQ(adopted.fds.size(), 1U);
  EXPECT_FALSE(FlagOf(adopted.body, "ticket_keys")) << "no supervisor has sent any";
  ControlMessage sockets = Hear();
  EXPECT_EQ(sockets.type(), "sockets");
  EXPECT_EQ(sockets.fds.size(), 1U);
  EXPECT_FALSE(worker_.orphaned);

  // A successor that dies before it has said where to wait: we wait where we did.
  supervisor_.Reset();
  Turn();
  EXPECT_TRUE(worker_.orphaned);
  auto third = ConnectControl(path_, std::chrono::seconds(1));
  ASSERT_TRUE(third);
  supervisor_ = std::move(*third);
  Say(MakeControlMessage("takeover"));
  EXPECT_EQ(Hear().type(), "adopted");
  EXPECT_EQ(Hear().type(), "sockets");
  std::string next_path = path_ + ".0";
  std::filesystem::remove(next_path);
  auto next = ListenControl(next_path, 0660);
  ASSERT_TRUE(next);
  Say(MakeControlMessage("control_listener"), {next->get()});
  next->Reset();
  // Its copy of the first socket is closed: a further connect says that nobody is left.
  EXPECT_EQ(ConnectControl(path_, Duration(10)).error().system_errno(), ECONNREFUSED);
  Say(Message("accept", {{"slots", {9}}}));
  EXPECT_EQ(worker_.slots, std::vector<unsigned>{9});

  // And from then on it waits there, or nowhere.
  supervisor_.Reset();
  Turn();
  auto fourth = ConnectControl(next_path, std::chrono::seconds(1));
  ASSERT_TRUE(fourth);
  supervisor_ = std::move(*fourth);
  Say(MakeControlMessage("takeover"));
  EXPECT_EQ(Hear().type(), "adopted");
  Say(MakeControlMessage("control_listener"));
  EXPECT_EQ(ConnectControl(next_path, Duration(10)).error().system_errno(), ECONNREFUSED);
  std::filesystem::remove(next_path);
}

TEST_F(ControlClientTest, ADrainingWorkerHoldsNoListener) {
  Initialise();
  int before = 0;
  auto count = [] {
    int open = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator("/proc/self/fd")) {
      ++open;
    }
    return open;
  };
  PrepareWith("good", 1);
  Hear();
  worker_.prepared.sockets.clear();
  before = count();
  Say(Message("drain", {{"drain_seconds", 1}}));
  EXPECT_EQ(count(), before - 1);
}

}  // namespace
}  // namespace tidegate
