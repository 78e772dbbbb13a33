#include "supervisor/control_server.h"

#include <unistd.h>

#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "common/control.h"
#include "common/loop.h"

namespace tidegate {
namespace {

using nlohmann::json;

// A client that we are ourselves, in the same loop.
class Peer final : public ControlChannel::Handler {
 public:
  Peer(Loop& loop, const std::string& path)
      : channel_(loop, *ConnectControl(path, std::chrono::seconds(1)), *this) {}

  void Ask(const std::string& command) {
    json message = MakeControlMessage("command");
    message["command"] = command;
    channel_.Send(message);
  }
  std::optional<json> answer;

 private:
  void OnControlMessage(ControlChannel&, ControlMessage message) override {
    answer = std::move(message.body);
  }
  void OnControlClosed(ControlChannel&, const Error&) override {}

  ControlChannel channel_;
};

class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest()
      : path_(testing::TempDir() + "tidegate_control_" + std::to_string(::getpid()) + ".sock"),
        server_(
            loop_,
            [this](ClientId client, const std::string& command, const json&) {
              commands_ += command;
              server_.Finish(client, 0, "done");
            },
            [this](pid_t pid) { return pid == worker_; }) {
    ::unlink(path_.c_str());
    EXPECT_TRUE(server_.Listen(path_));
  }
  ~ControlServerTest() override {
    server_.StopListening();
    loop_.RunUntilClosed();
  }

  json AnswerTo(Peer& peer) {
    while (!peer.answer) {
      loop_.RunNoWait();
    }
    return *peer.answer;
  }

  Loop loop_;
  std::string path_;
  std::string commands_;
  pid_t worker_ = 0;
  ControlServer server_;
};

TEST_F(ControlServerTest, WhoIsOurOwnUserGivesCommands) {
  Peer peer(loop_, path_);
  peer.Ask("status");
  EXPECT_EQ(AnswerTo(peer).at("exit_code"), 0);
  EXPECT_EQ(commands_, "status");
}

TEST_F(ControlServerTest, AWorkerGivesNoneAlsoAsOurOwnUser) {
  worker_ = ::getpid();
  Peer peer(loop_, path_);
  peer.Ask("upgrade");
  EXPECT_EQ(AnswerTo(peer).at("exit_code"), 5);
  EXPECT_EQ(commands_, "");
}

}  // namespace
}  // namespace tidegate
