#include "supervisor/control_server.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

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
  bool closed = false;

 private:
  void OnControlMessage(ControlChannel&, ControlMessage message) override {
    answer = std::move(message.body);
  }
  void OnControlClosed(ControlChannel&, const Error&) override { closed = true; }

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
            [this](pid_t pid) {
              if (more_ > 0) {
                --more_;
                others_.push_back(*ConnectControl(path_, std::chrono::seconds(1)));
              }
              return pid == worker_;
            }) {
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
  // How often somebody connects while another one is judged.
  int more_ = 0;
  std::vector<UniqueFd> others_;
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
  while (!peer.closed) {
    loop_.RunNoWait();
  }
  EXPECT_FALSE(peer.answer) << "it holds no descriptor of ours";
  EXPECT_EQ(commands_, "");
}

// It connects often and ends before we look once.
TEST_F(ControlServerTest, AWorkerThatHasEndedLeavesNoCommandInTheQueue) {
  worker_ = ::fork();
  if (worker_ == 0) {
    json message = MakeControlMessage("command");
    message["command"] = "upgrade";
    for (int i = 0; i < 20; ++i) {
      Result<UniqueFd> fd = ConnectControl(path_, std::chrono::seconds(1));
      bool sent = fd && SendControl(fd->get(), message, {}, std::chrono::seconds(1));
      if (!sent) {
        ::_exit(1);
      }
      std::ignore = fd->Release();
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(worker_, &status, 0), worker_);
  ASSERT_EQ(status, 0);
  server_.AcceptWaiting();
  worker_ = 0;
  // Who is read after them has been read after all of them.
  Peer peer(loop_, path_);
  peer.Ask("status");
  AnswerTo(peer);
  EXPECT_EQ(commands_, "status");
}

TEST_F(ControlServerTest, OneTurnTakesAllThatWait) {
  std::vector<UniqueFd> peers;
  for (int i = 0; i < 5; ++i) {
    peers.push_back(*ConnectControl(path_, std::chrono::seconds(1)));
  }
  loop_.RunNoWait();
  EXPECT_EQ(server_.SilentFds().size(), 5U);
  peers.clear();
  while (!server_.SilentFds().empty()) {
    loop_.RunNoWait();
  }
}

TEST_F(ControlServerTest, WhoConnectsAsFastAsWeAcceptDoesNotKeepATurn) {
  others_.push_back(*ConnectControl(path_, std::chrono::seconds(1)));
  more_ = 200;
  server_.AcceptWaiting();
  EXPECT_EQ(server_.SilentFds().size(), std::size_t{kControlBacklog} + 1);
  more_ = 0;
  others_.clear();
  do {
    loop_.RunNoWait();
  } while (!server_.SilentFds().empty());
}

TEST_F(ControlServerTest, OnlyRootAndOurOwnUserMayNameAProgram) {
  auto client_of = [this](uid_t uid) {
    int ends[2];
    // The peer of a pair is who made it.
    EXPECT_EQ(::seteuid(uid), 0);
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    EXPECT_EQ(::seteuid(::getuid()), 0);
    others_.emplace_back(ends[1]);
    return server_.AdoptClient(UniqueFd(ends[0]), false);
  };
  EXPECT_TRUE(server_.MayNamePrograms(client_of(::geteuid())));
  EXPECT_FALSE(server_.MayNamePrograms(999)) << "it has left";
  if (::geteuid() == 0) {
    EXPECT_FALSE(server_.MayNamePrograms(client_of(65534)));
  }
  others_.clear();
  while (!server_.SilentFds().empty()) {
    loop_.RunNoWait();
  }
}

}  // namespace
}  // namespace tidegate
