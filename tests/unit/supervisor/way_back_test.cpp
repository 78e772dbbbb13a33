#include "supervisor/way_back.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "common/control.h"

namespace tidegate {
namespace {

constexpr const char* kEnvironment = "/usr/bin/env";

struct End {
  // What the old image, which tells its environment, has heard of why it is back.
  std::string returned_because;
  int status = 0;
};

// An image that was entered as EnterImage does it, with `way_back`, does `act` under its guard.
End AfterGuarded(const std::function<void()>& act, const std::string& way_back = kEnvironment) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  pid_t image = ::fork();
  if (image == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    Entrance entrance;
    entrance.state = *MakeMemfd("test", "{}");
    if (!way_back.empty()) {
      entrance.way_back = std::move(OpenProgram(way_back)->fd);
    }
    GuardWayBack(entrance, {"env"});
    act();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string output;
  char buffer[4096];
  ssize_t size = 0;
  while ((size = ::read(ends[0], buffer, sizeof(buffer))) > 0) {
    output.append(buffer, static_cast<std::size_t>(size));
  }
  ::close(ends[0]);
  End end;
  EXPECT_EQ(::waitpid(image, &end.status, 0), image);
  constexpr std::string_view kName = "TIDEGATE_RETURNED=";
  std::size_t begin = output.find(kName);
  if (begin != std::string::npos) {
    begin += kName.size();
    end.returned_because = output.substr(begin, output.find('\n', begin) - begin);
  }
  return end;
}

// NOLINTNEXTLINE(misc-no-recursion)
int Deeper(int depth) {
  volatile char frame[4096];
  frame[depth % 4096] = static_cast<char>(depth);
  return depth == 0 ? 0 : Deeper(depth - 1) + frame[depth % 4096];
}

TEST(WayBack, AnImageThatCrashesGivesWayToTheOldOne) {
  constexpr const char* kAborted = "the new supervisor crashed by signal 6 (Aborted)";
  constexpr const char* kFault = "the new supervisor crashed by signal 11 (Segmentation fault)";
  EXPECT_EQ(AfterGuarded([] { std::abort(); }).returned_because, kAborted);
  EXPECT_EQ(AfterGuarded([] { std::terminate(); }).returned_because, kAborted);
  EXPECT_EQ(AfterGuarded([] {
              void* page = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              *static_cast<volatile char*>(page) = 1;
            }).returned_because,
            kFault);
  EXPECT_EQ(AfterGuarded([] { (void)Deeper(1 << 20); }).returned_because, kFault)
      << "of an image without stack";
  for (int number : {SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS}) {
    EXPECT_NE(AfterGuarded([number] {
                std::raise(number);
              }).returned_because.find("signal " + std::to_string(number) + " ("),
              std::string::npos);
  }
}

TEST(WayBack, ARefusalSaysWhy) {
  EXPECT_EQ(AfterGuarded([] { ReturnToOldImage("no such state"); }).returned_because,
            "no such state");
}

TEST(WayBack, WithoutOneACrashIsTheEnd) {
  auto aborted = [](const End& end) {
    return WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGABRT &&
           end.returned_because.empty();
  };
  EXPECT_TRUE(aborted(AfterGuarded([] { std::abort(); }, "")));
  EXPECT_TRUE(aborted(AfterGuarded([] {
    EndGuard();
    std::abort();
  }))) << "it has decided";
  // A program that cannot be executed.
  const std::string garbage =
      testing::TempDir() + "tidegate-way-back-" + std::to_string(::getpid());
  UniqueFd file(::open(garbage.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0700));
  ASSERT_EQ(::write(file.get(), "garbage", 7), 7);
  file.Reset();
  EXPECT_TRUE(aborted(AfterGuarded([] { std::abort(); }, garbage)));
  ::unlink(garbage.c_str());
}

}  // namespace
}  // namespace tidegate
