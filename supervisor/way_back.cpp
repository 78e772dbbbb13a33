#include "supervisor/way_back.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

namespace tidegate {
namespace {

constexpr const char* kStateVariable = "TIDEGATE_STATE_FD";
constexpr const char* kWayBackVariable = "TIDEGATE_WAY_BACK_FD";
constexpr const char* kReturnedVariable = "TIDEGATE_RETURNED";

std::vector<std::string> EnvironmentWith(const std::vector<std::string>& more) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    environment.emplace_back(*entry);
  }
  environment.insert(environment.end(), more.begin(), more.end());
  return environment;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) {
    pointers.push_back(text.data());
  }
  pointers.push_back(nullptr);
  return pointers;
}

// A trap is what a compiler makes of what cannot be, on some machines.
constexpr std::array kCrashes = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
constexpr std::size_t kStackBytes = 64UL * 1024;

// A descriptor of the state, and what it was: its number may be another's by the time of a crash.
struct Kept {
  int fd;
  dev_t device;
  ino_t inode;
};

// All that the signal handlers need, made before: they may run while the heap is locked or broken.
struct Guard {
  int program_fd = -1;
  int state_fd = -1;
  std::vector<Kept> fds;
  std::vector<std::string> argv;
  // The last one says why.
  std::vector<std::string> environment;
  std::vector<char*> argv_pointers;
  std::vector<char*> environment_pointers;
  // By the places of kCrashes: what the last one says then.
  std::array<std::string, kCrashes.size()> crash_reasons;
  // One that has no stack left crashes, too.
  std::vector<char> stack;
  // As they were.
  std::array<struct sigaction, kCrashes.size()> crash_actions{};
  stack_t stack_before{};
};
Guard* guard = nullptr;

std::string ReturnedBecause(const std::string& reason) {
  return fmt::format("{}={}", kReturnedVariable, reason);
}

void ExecuteGuard() {
  for (const Kept& kept : guard->fds) {
    struct stat info{};
    if (::fstat(kept.fd, &info) == 0 && info.st_dev == kept.device && info.st_ino == kept.inode) {
      ::fcntl(kept.fd, F_SETFD, 0);
    }
  }
  ::fcntl(guard->state_fd, F_SETFD, 0);
  ::execveat(guard->program_fd, "", guard->argv_pointers.data(), guard->environment_pointers.data(),
             AT_EMPTY_PATH);
}

void OnAlarm(int) {
  if (guard != nullptr) {
    ExecuteGuard();
  }
  ::_exit(1);
}

// Everything is blocked meanwhile: another crash is the end. So is this one if there is no way.
void OnCrash(int number) {
  ::alarm(0);
  // One that is on its way would end the old image.
  std::signal(SIGALRM, SIG_IGN);
  std::signal(SIGALRM, SIG_DFL);
  for (std::size_t i = 0; i < kCrashes.size(); ++i) {
    if (kCrashes[i] == number) {
      guard->environment_pointers[guard->environment.size() - 1] = guard->crash_reasons[i].data();
    }
  }
  ExecuteGuard();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void GuardCrashes() {
  guard->stack.resize(kStackBytes);
  stack_t stack{};
  stack.ss_sp = guard->stack.data();
  stack.ss_size = guard->stack.size();
  ::sigaltstack(&stack, &guard->stack_before);
  struct sigaction action{};
  action.sa_handler = &OnCrash;
  action.sa_flags = SA_ONSTACK;
  ::sigfillset(&action.sa_mask);
  // EnterImage has blocked them, and the kernel ends whoever crashes then.
  sigset_t crashes;
  ::sigemptyset(&crashes);
  for (std::size_t i = 0; i < kCrashes.size(); ++i) {
    guard->crash_reasons[i] = ReturnedBecause(fmt::format(
        "the new supervisor crashed by signal {} ({})", kCrashes[i], ::strsignal(kCrashes[i])));
    ::sigaction(kCrashes[i], &action, &guard->crash_actions[i]);
    ::sigaddset(&crashes, kCrashes[i]);
  }
  ::sigprocmask(SIG_UNBLOCK, &crashes, nullptr);
}

void LeaveCrashes() {
  for (std::size_t i = 0; i < kCrashes.size(); ++i) {
    ::sigaction(kCrashes[i], &guard->crash_actions[i], nullptr);
  }
  ::sigaltstack(&guard->stack_before, nullptr);
}

int TakeNumber(const char* variable) {
  const char* text = std::getenv(variable);
  int number = text == nullptr ? -1 : std::atoi(text);
  ::unsetenv(variable);
  return number;
}

}  // namespace

Error EnterImage(const Program& program, const SavedState& state,
                 const std::vector<std::string>& argv, const Program* way_back) {
  std::vector<int> keep = state.fds;
  keep.push_back(state.memfd.get());
  std::vector<std::string> more = {fmt::format("{}={}", kStateVariable, state.memfd.get())};
  Program back;
  if (way_back != nullptr) {
    // A descriptor of its own: the state names the program as well.
    back = way_back->Duplicate();
    keep.push_back(back.fd.get());
    more.push_back(fmt::format("{}={}", kWayBackVariable, back.fd.get()));
  }
  // Signals wait for the new image, which lets them through when it can handle them (signals.h;
  // those of a crash in GuardWayBack); but not the alarm: it is what ends an image that never gets
  // that far.
  sigset_t blocked;
  sigset_t before;
  ::sigfillset(&blocked);
  ::sigdelset(&blocked, SIGALRM);
  ::sigprocmask(SIG_SETMASK, &blocked, &before);
  if (way_back != nullptr) {
    ::alarm(2 * kHangLimitSeconds);
  }
  KeepAcrossExec(keep, true);
  Error error = Execute(program.fd.get(), argv, EnvironmentWith(more));
  KeepAcrossExec(keep, false);
  ::alarm(0);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return error;
}

std::optional<Entrance> TakeEntrance() {
  int state = TakeNumber(kStateVariable);
  if (state < 0) {
    return std::nullopt;
  }
  Entrance entrance;
  entrance.state.Reset(state);
  entrance.way_back.Reset(TakeNumber(kWayBackVariable));
  // No child of ours has a use for them; ExecuteGuard lets the state through again.
  KeepAcrossExec({entrance.state.get(), entrance.way_back.get()}, false);
  if (const char* reason = std::getenv(kReturnedVariable)) {
    entrance.returned_because = reason;
    ::unsetenv(kReturnedVariable);
  }
  return entrance;
}

void GuardWayBack(const Entrance& entrance, const std::vector<std::string>& argv) {
  if (!entrance.way_back) {
    ::alarm(0);
    return;
  }
  guard = new Guard;
  guard->program_fd = entrance.way_back.get();
  guard->state_fd = entrance.state.get();
  guard->argv = argv;
  guard->environment =
      EnvironmentWith({fmt::format("{}={}", kStateVariable, entrance.state.get()),
                       ReturnedBecause(fmt::format("the new supervisor did not answer for {} s",
                                                   kHangLimitSeconds))});
  guard->argv_pointers = Pointers(guard->argv);
  guard->environment_pointers = Pointers(guard->environment);
  std::signal(SIGALRM, &OnAlarm);
  GuardCrashes();
  StillAlive();
}

void GuardDescriptors(const std::vector<int>& state_fds) {
  if (guard == nullptr) {
    return;
  }
  for (int fd : state_fds) {
    struct stat info{};
    if (::fstat(fd, &info) == 0) {
      guard->fds.push_back({.fd = fd, .device = info.st_dev, .inode = info.st_ino});
    }
  }
}

bool WayBackIsOpen() {
  return guard != nullptr;
}

void StillAlive() {
  if (guard != nullptr) {
    ::alarm(kHangLimitSeconds);
  }
}

void EndGuard() {
  ::alarm(0);
  std::signal(SIGALRM, SIG_DFL);
  if (guard != nullptr) {
    LeaveCrashes();
  }
  delete std::exchange(guard, nullptr);
}

void ReturnToOldImage(const std::string& reason) {
  if (guard == nullptr) {
    return;
  }
  guard->environment.back() = ReturnedBecause(reason);
  guard->environment_pointers = Pointers(guard->environment);
  ::alarm(0);
  ExecuteGuard();
}

}  // namespace tidegate
