#include "supervisor/daemon_client.h"

#include <sys/stat.h>

#include "tests/unit/supervisor/fake_daemon.h"

namespace tidegate {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Json = nlohmann::json;

struct Recorder final : ProgressListener {
  void OnProgress(const Json& message) override { messages.push_back(message); }
  void OnTick() override { ++ticks; }
  std::vector<Json> messages;
  int ticks = 0;
};

Question About(const std::string& path, const char* command = "upgrade") {
  return {.socket_path = path, .command = command, .timeout = seconds(20)};
}

TEST(DaemonClient, HearsProgressAndReturnsTheResult) {
  FakeDaemon daemon(
      FakeDaemon::Saying({R"({"type":"progress","phase":"prepare","state":"running"})",
                          R"({"type":"progress","phase":"prepare","state":"ok"})",
                          R"({"type":"news","of":"a later version"})",
                          R"({"type":"result","exit_code":0,"data":{"generation":8}})"}));
  Recorder recorder;
  auto result = Ask(About(daemon.path()), {{"force", true}}, recorder);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ((*result)["data"]["generation"], 8);
  EXPECT_EQ(recorder.messages.size(), 2U);
  ASSERT_EQ(daemon.commands().size(), 1U);
  EXPECT_EQ(daemon.commands()[0]["type"], "command");
  EXPECT_EQ(daemon.commands()[0]["command"], "upgrade");
  EXPECT_EQ(daemon.commands()[0]["args"], (Json{{"force", true}}));
}

TEST(DaemonClient, NobodyAtTheSocketIsNoDaemon) {
  Recorder recorder;
  auto result = Ask(About("/nowhere/control.sock"), Json::object(), recorder);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().exit_code, ExitCode::kNoDaemon);
  EXPECT_EQ(result.error().message,
            "no daemon at /nowhere/control.sock: start one with \"tidegate run\"");

  // The socket of a daemon that was killed.
  std::string path = testing::TempDir() + "tidegate_stale_" + std::to_string(::getpid());
  ::unlink(path.c_str());
  ListenControl(path, 0600).value().Reset();
  result = Ask(About(path), Json::object(), recorder);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().exit_code, ExitCode::kNoDaemon);
  ::unlink(path.c_str());
}

TEST(DaemonClient, ADaemonThatGoesAwayIsAFailureThatSaysWhere) {
  FakeDaemon daemon(FakeDaemon::Saying(
      {R"({"type":"progress","phase":"drain","state":"running","text":"3 left"})"}));
  Recorder recorder;
  auto result = Ask(About(daemon.path()), Json::object(), recorder);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().exit_code, ExitCode::kFailed);
  EXPECT_NE(result.error().message.find("went away before it answered upgrade (in drain: 3 left)"),
            std::string::npos)
      << result.error().message;
}

// Keeps the connection until the client has gone.
void Hang(int fd) {
  auto ignored = ReceiveControl(fd, seconds(20));
}

TEST(DaemonClient, ATimeoutSaysWhatStillGoesOn) {
  FakeDaemon daemon([](int fd, const Json&) {
    FakeDaemon::Say(fd, R"({"type":"progress","phase":"drain","state":"running","text":"3 left"})");
    Hang(fd);
  });
  Recorder recorder;
  Question question = About(daemon.path());
  question.timeout = milliseconds(250);
  auto result = Ask(question, Json::object(), recorder);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().exit_code, ExitCode::kTimedOut);
  EXPECT_EQ(result.error().message,
            "not done within 250ms; upgrade goes on (drain: 3 left). See \"tidegate status\"");
  EXPECT_GE(recorder.ticks, 1);
}

TEST(DaemonClient, ADaemonThatSaysNothingIsNamed) {
  FakeDaemon daemon([](int fd, const Json&) { Hang(fd); });
  Recorder recorder;
  Question question = About(daemon.path(), "status");
  question.timeout = milliseconds(150);
  auto result = Ask(question, Json::object(), recorder);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().exit_code, ExitCode::kTimedOut);
  EXPECT_EQ(result.error().message,
            "the daemon (pid " + std::to_string(::getpid()) + ") has not answered within 150ms");
}

TEST(DaemonClient, ARefusalIsHeardAlsoIfTheCommandWasNeverRead) {
  FakeDaemon daemon(FakeDaemon::Saying({}),
                    R"({"type":"result","exit_code":5,"message":"not you"})");
  Recorder recorder;
  for (int i = 0; i < 50; ++i) {
    auto result = Ask(About(daemon.path(), "status"), Json::object(), recorder);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ((*result)["exit_code"], 5);
  }
}

TEST(DaemonClient, AnotherVersionOfTheProtocolIsRefused) {
  FakeDaemon daemon([](int fd, const Json&) {
    EXPECT_TRUE(SendControl(fd, {{"v", 2}, {"type", "result"}}, {}, seconds(5)));
    Hang(fd);
  });
  Recorder recorder;
  auto result = Ask(About(daemon.path()), Json::object(), recorder);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().exit_code, ExitCode::kFailed);
  EXPECT_NE(result.error().message.find("another"), std::string::npos);
}

TEST(DaemonClient, AStopThatEndsWithoutAWordIsDone) {
  FakeDaemon daemon([](int, const Json&) {});
  Recorder recorder;
  Question question = About(daemon.path(), "stop");
  question.ends_daemon = true;
  // This process is the daemon here, and does not end.
  question.timeout = milliseconds(200);
  auto result = Ask(question, Json::object(), recorder);
  ASSERT_TRUE(result);
  EXPECT_EQ((*result)["exit_code"], 0);
}

}  // namespace
}  // namespace tidegate
