#include "supervisor/state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string>
#include <tuple>

#include <gtest/gtest.h>

#include "common/config_load.h"
#include "common/control.h"

namespace tidegate {
namespace {

using nlohmann::json;

json Command(const std::string& name) {
  json message = MakeControlMessage("command");
  message["command"] = name;
  return message;
}

// A supervisor that listens at `path` and serves nothing.
class State : public testing::Test {
 protected:
  void SetUp() override {
    auto loaded = LoadConfigText("test.json",
                                 R"({"listen": "127.0.0.1:0", "upstream": "127.0.0.1:3000"})", {});
    ASSERT_TRUE(loaded);
    Result<ActiveConfigPtr> config = Activate(std::move(loaded->config));
    Result<Program> ours = OpenOwnProgram();
    ASSERT_TRUE(config && ours);
    ::unlink(path_.c_str());
    before_.emplace(loop_, [](ClientId, const std::string&, const json&) {});
    before_->config = *config;
    before_->supervisor_program = std::move(*ours);
    before_->worker_program = *OpenProgram("/bin/sh");
    ASSERT_TRUE(before_->counters.Create());
    ASSERT_TRUE(before_->logs.Prepare(before_->config->config.logging));
    before_->logs.Commit();
    ASSERT_TRUE(before_->server.Listen(path_));
  }
  void TearDown() override {
    before_.reset();
    loop_.RunUntilClosed();
  }
  json Saved() {
    Result<SavedState> saved = SaveState(*before_, json::object(), {});
    EXPECT_TRUE(saved);
    Result<json> state = ReadState(saved->memfd.get());
    EXPECT_TRUE(state);
    return *state;
  }

  const std::string path_ =
      testing::TempDir() + "tidegate-state-" + std::to_string(::getpid()) + ".sock";
  Loop loop_;
  std::optional<Holdings> before_;
};

// Asks three times and ends.
int AskAndEnd(const std::string& path) {
  for (int i = 0; i < 3; ++i) {
    Result<UniqueFd> fd = ConnectControl(path, std::chrono::seconds(1));
    if (!fd || !SendControl(fd->get(), Command("upgrade"), {}, std::chrono::seconds(1))) {
      return 1;
    }
    std::ignore = fd->Release();
  }
  return 0;
}

// In a process of its own, as an image is: the descriptors are the ones of the state. What it is
// asked, when somebody asks for the status last.
std::string CommandsAfter(const json& state, const std::string& path) {
  Loop loop;
  std::string commands;
  Holdings after(loop, [&commands](ClientId, const std::string& command, const json&) {
    commands += command + " ";
  });
  Result<> restored = RestoreState(after, state);
  Result<UniqueFd> peer = ConnectControl(path, std::chrono::seconds(1));
  if (!restored || !peer ||
      !SendControl(peer->get(), Command("status"), {}, std::chrono::seconds(1))) {
    return restored ? "nobody listens" : restored.error().ToString();
  }
  while (commands.find("status") == std::string::npos) {
    loop.RunNoWait();
  }
  return commands;
}

// What a program wrote before it died, or a line of a file that was refused.
TEST_F(State, NeedNotBeUtf8) {
  before_->last_operation = {{"reason", "caf\xe9 is odd"}};
  const Outcome outcome{.message = "no", .data = {}, .more = {{"output", "\xff\xfe"}}};
  Result<SavedState> saved = SaveState(*before_, {{"outcome", SaveOutcome(outcome)}}, {});
  ASSERT_TRUE(saved);
  Result<json> state = ReadState(saved->memfd.get());
  ASSERT_TRUE(state);
  EXPECT_EQ(state->at("last_operation").at("reason"), "caf\xef\xbf\xbd is odd");
}

TEST_F(State, WhatIsNotAsItShouldBeIsRefused) {
  auto refused = [](const json& state) {
    Result<json> read = ReadState(MakeMemfd("test", state.dump())->get());
    Result<> there = read ? CheckDescriptors(*read) : Fail(read.error());
    return !there || !DescriptorsOf(state);
  };
  const json state = Saved();
  EXPECT_FALSE(refused(state));
  for (const auto& [name, value] : state.items()) {
    json damaged = state;
    damaged[name] = {{"a", json::array({1, "b"})}};
    if (name == "fds" || name == "counters" || name == "listeners" || name == "config") {
      EXPECT_TRUE(refused(damaged)) << name;
    } else {
      (void)refused(damaged);
    }
  }
  for (const json& odd : {json(7), json("x"), json::array({7}), json::array({{"a"}})}) {
    json damaged = state;
    damaged["fds"] = odd;
    EXPECT_TRUE(refused(damaged)) << odd;
  }
}

// Its channel was gone when the state was saved, or has gone before the next image came.
TEST_F(State, AWorkerThatHasGoneLeavesNoDescriptor) {
  int output[2];
  ASSERT_EQ(::pipe2(output, O_CLOEXEC | O_NONBLOCK), 0);
  json state = Saved();
  struct stat info{};
  ASSERT_EQ(::fstat(output[0], &info), 0);
  state["fds"].push_back({output[0], info.st_ino});
  state["generations"].push_back(
      {{"number", 3},
       {"state", static_cast<int>(GenerationState::kDraining)},
       {"since", 1.0},
       {"version", "1"},
       {"worker_path", "/bin/sh"},
       {"worker_fd", ::dup(before_->worker_program.fd.get())},
       {"slots", json::array({{{"restarts", 0},
                               {"worker", {{"pid", 0}, {"channel", -1}, {"output", output[0]}}}}})},
       {"accepting", false},
       {"killed_workers", 0},
       {"drain_total", 0},
       {"drain_ms", 1000},
       {"config", state["config"]}});
  pid_t image = ::fork();
  if (image == 0) {
    Loop loop;
    Holdings after(loop, [](ClientId, const std::string&, const json&) {});
    Result<> restored = RestoreState(after, state);
    // The number may be another's by now.
    struct stat now{};
    bool is_there = ::fstat(output[0], &now) == 0 && now.st_ino == info.st_ino;
    ::_exit(!restored ? 1 : is_there ? 2 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(image, &status, 0), image);
  EXPECT_EQ(status, 0);
  ::close(output[0]);
  ::close(output[1]);
  ::close(state["generations"][0]["worker_fd"].get<int>());
}

TEST_F(State, WhatWaitsAtTheControlSocketIsJudgedWhileFormerWorkersAreKnown) {
  pid_t worker = ::fork();
  if (worker == 0) {
    ::_exit(AskAndEnd(path_));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(worker, &status, 0), worker);
  ASSERT_EQ(status, 0);
  json state = Saved();
  // It closed its channel before, so that it is not restored.
  state["generations"] = json::array(
      {{{"number", 1},
        {"config", state["config"]},
        {"worker_path", "/bin/sh"},
        {"worker_fd", state["worker_program"]["fd"]},
        {"version", "1"},
        {"state", GenerationState::kExited},
        {"since", 0.0},
        {"accepting", false},
        {"drain_total", 0},
        {"drain_ms", 0},
        {"slots",
         {{{"restarts", 0}, {"worker", {{"pid", worker}, {"output", -1}, {"channel", -1}}}}}}}});
  pid_t image = ::fork();
  if (image == 0) {
    const std::string commands = CommandsAfter(state, path_);
    std::fprintf(stderr, "%s\n", commands.c_str());
    ::_exit(commands == "status " ? 0 : 1);
  }
  ASSERT_EQ(::waitpid(image, &status, 0), image);
  EXPECT_EQ(status, 0) << "it has taken a command of a worker";
}

}  // namespace
}  // namespace tidegate
