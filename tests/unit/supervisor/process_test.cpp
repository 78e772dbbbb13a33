#include "supervisor/process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "common/process_name.h"
#include "supervisor/preflight.h"

namespace tidegate {
namespace {

// A script of the test's own.
class Script {
 public:
  explicit Script(const std::string& text) {
    static int number = 0;
    path_ = testing::TempDir() + "tidegate-script-" + std::to_string(::getpid()) + "-" +
            std::to_string(number++);
    std::ofstream(path_) << text;
    ::chmod(path_.c_str(), 0755);
  }
  ~Script() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

ProbeEnd Probe(const std::string& script, Duration timeout = std::chrono::seconds(10),
               const Identity* identity = nullptr) {
  Script file(script);
  ProbeEnd end;
  {
    Loop loop;
    Children children(loop);
    auto program = OpenProgram(file.path());
    EXPECT_TRUE(program);
    TaskScope scope;
    auto story = [](Loop& the_loop, Children& the_children, SpawnRequest request, Duration limit,
                    ProbeEnd& out) -> Task<void> {
      auto result = co_await RunProbe(the_loop, the_children, std::move(request), 0, limit);
      out = std::move(result);
      the_loop.Stop();
    };
    scope.Start(story(
        loop, children,
        SpawnRequest{.program = &*program, .argv = {file.path(), "argument"}, .identity = identity},
        timeout, end));
    loop.Run();
    ReadyQueue::Drain();
  }
  return end;
}

TEST(Process, RunsAScriptAndKeepsWhatItWrote) {
  ProbeEnd end = Probe("#!/bin/sh\necho out $1; echo err >&2; exit 3\n");
  EXPECT_FALSE(end.ok);
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_EQ(end.output, "out argument\nerr\n");
  EXPECT_NE(end.reason.find("exited with 3"), std::string::npos);
  EXPECT_TRUE(Probe("#!/bin/sh\nexit 0\n").ok);
}

TEST(Process, KillsWhoDoesNotEnd) {
  ProbeEnd end = Probe("#!/bin/sh\nexec sleep 100\n", std::chrono::milliseconds(100));
  EXPECT_FALSE(end.ok);
  EXPECT_NE(end.reason.find("100ms"), std::string::npos) << end.reason;
}

TEST(Process, SaysThatThereAreTooFewDescriptorsToStartOne) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // Enough for our own, and not for those above the child's.
  rlimit limit{.rlim_cur = 60, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  ProbeEnd end = Probe("#!/bin/sh\nexit 0\n");
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_FALSE(end.ok);
  EXPECT_TRUE(end.reason.starts_with("start ")) << end.reason;
  EXPECT_TRUE(end.reason.ends_with(": Too many open files")) << end.reason;
}

TEST(Process, SaysWhyAProgramCannotBeExecuted) {
  ProbeEnd end = Probe(
      "\x7f"
      "ELF nonsense");
  EXPECT_FALSE(end.ok);
  EXPECT_NE(end.reason.find("execute"), std::string::npos) << end.reason;
}

TEST(Process, OpensOnlyWhatCanBeExecuted) {
  EXPECT_EQ(OpenProgram("/no/such/file").error().system_errno(), ENOENT);
  EXPECT_EQ(OpenProgram("/etc/passwd").error().system_errno(), EACCES);
  EXPECT_EQ(OpenProgram("/tmp").error().system_errno(), EACCES);
}

TEST(Process, AProgramStaysTheSameWhenItsPathIsReplaced) {
  Script first("#!/bin/sh\nexit 0\n");
  auto before = OpenProgram(first.path());
  auto again = OpenProgram(first.path());
  EXPECT_TRUE(IsSameProgram(*before, *again));
  std::filesystem::remove(first.path());
  std::ofstream(first.path()) << "#!/bin/sh\nexit 1\n";
  ::chmod(first.path().c_str(), 0755);
  auto after = OpenProgram(first.path());
  EXPECT_FALSE(IsSameProgram(*before, *after));
}

TEST(Process, IsKnownByTheFileThatItExecutes) {
  auto ours = OpenOwnProgram();
  auto other = OpenProgram("/bin/sh");
  ASSERT_TRUE(ours && other);
  EXPECT_TRUE(Executes(::getpid(), *ours));
  EXPECT_FALSE(Executes(::getpid(), *other));
  EXPECT_FALSE(Executes(0, *ours)) << "nobody";
  EXPECT_FALSE(Executes(::getpid(), Program()));
}

TEST(Process, AChildHasNoDescriptorOfOursAndNoNewPrivileges) {
  // Not close-on-exec, as somebody's parent may have left it.
  int stray = ::fcntl(STDIN_FILENO, F_DUPFD, 200);
  ASSERT_GE(stray, 200);
  ProbeEnd end = Probe(
      "#!/bin/sh\ngrep NoNewPrivs /proc/self/status\nfor f in /proc/$$/fd/*; do echo ${f##*/}; "
      "done\n");
  ::close(stray);
  EXPECT_TRUE(end.ok) << end.reason;
  EXPECT_NE(end.output.find("NoNewPrivs:\t1"), std::string::npos) << end.output;
  EXPECT_EQ(end.output.find("\n" + std::to_string(stray) + "\n"), std::string::npos) << end.output;
}

TEST(Process, RootsWorkersGiveUpEverything) {
  if (::geteuid() != 0) {
    // Whoever is not root has nothing to give up; the end-to-end tests hold that path.
    EXPECT_FALSE(LookUpUser("no-such-user-here"));
    return;
  }
  auto nobody = LookUpUser("nobody");
  ASSERT_TRUE(nobody);
  ProbeEnd end = Probe("#!/bin/sh\ngrep -E '^(Uid|Gid|Groups|Cap)' /proc/self/status\n",
                       std::chrono::seconds(10), &*nobody);
  EXPECT_TRUE(end.ok) << end.reason << end.output;
  for (const char* name : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    EXPECT_NE(end.output.find(std::string(name) + ":\t0000000000000000"), std::string::npos)
        << end.output;
  }
  std::string uid = std::to_string(nobody->uid);
  EXPECT_NE(end.output.find("Uid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid),
            std::string::npos)
      << end.output;
  EXPECT_FALSE(LookUpUser("no-such-user-here"));
}

TEST(Process, TheWorkerIsFoundBesideOrInLibexec) {
  std::string root = testing::TempDir() + "tidegate-tree-" + std::to_string(::getpid());
  std::filesystem::create_directories(root + "/sbin");
  std::filesystem::create_directories(root + "/libexec/tidegate");
  EXPECT_EQ(WorkerPathFor(root + "/sbin/tidegate"), root + "/sbin/tidegate-worker");
  std::ofstream(root + "/libexec/tidegate/tidegate-worker") << "x";
  EXPECT_EQ(WorkerPathFor(root + "/sbin/tidegate"), root + "/libexec/tidegate/tidegate-worker");
  std::ofstream(root + "/sbin/tidegate-worker") << "x";
  EXPECT_EQ(WorkerPathFor(root + "/sbin/tidegate"), root + "/sbin/tidegate-worker");
  std::filesystem::remove_all(root);
}

TEST(Children, WhatOneHasLeftIsLookedAtBeforeItsEndIsTold) {
  Loop loop;
  {
    Children children(loop);
    std::string order;
    children.BeforeEach([&order] { order += "look, "; });
    pid_t pid = ::fork();
    if (pid == 0) {
      ::_exit(3);
    }
    children.Watch(pid, [&order](int status) { order += DescribeExit(status); });
    while (!order.ends_with("3")) {
      loop.RunNoWait();
    }
    EXPECT_EQ(order, "look, exited with 3");
  }
  loop.RunUntilClosed();
}

TEST(Children, OfUsAreKnownUntilSomebodyHasWaitedForThem) {
  auto known = [](pid_t pid) {
    const std::vector<Child> children = ChildrenOfUs();
    auto found = std::ranges::find(children, pid, &Child::pid);
    return found == children.end() ? std::nullopt : std::optional(*found);
  };
  const std::uint64_t before = TicksSinceBoot();
  int named[2];
  ASSERT_EQ(::pipe(named), 0);
  pid_t pid = ::fork();
  if (pid == 0) {
    NameProcess("a ) b (1 2");
    ::close(named[0]);
    ::close(named[1]);
    ::pause();
    ::_exit(0);
  }
  ::close(named[1]);
  char octet = 0;
  EXPECT_EQ(::read(named[0], &octet, 1), 0);
  const std::optional<Child> child = known(pid);
  ASSERT_TRUE(child);
  EXPECT_EQ(child->name, "a ) b (1 2");
  EXPECT_GE(child->started, before);
  EXPECT_LE(child->started, TicksSinceBoot());
  EXPECT_FALSE(known(::getpid()));
  ::kill(pid, SIGKILL);
  EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
  EXPECT_FALSE(known(pid));
  ::close(named[0]);
}

TEST(Children, AWorkerIsKnownByItsName) {
  EXPECT_TRUE(IsNamedWorker("tidegate-worker"));
  EXPECT_FALSE(IsNamedWorker("tidegate"));
  EXPECT_FALSE(IsNamedWorker("7"));
}

TEST(Preflight, AnyProgramMayExitWith0ButOnlyOursSaysTheWords) {
  EXPECT_EQ(VersionFromPreflight(""), "");
  EXPECT_EQ(VersionFromPreflight("garbage\n"), "");
  EXPECT_EQ(VersionFromPreflight("tidegate can adopt the state, version 1.2.3\n"), "1.2.3");
}

}  // namespace
}  // namespace tidegate
