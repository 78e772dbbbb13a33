#include "supervisor/way_back.h"

#include <fcntl.h>
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

// All that the signal handler needs, made before: it may run while the heap is locked.
struct Guard {
  int program_fd = -1;
  int state_fd = -1;
  std::vector<int> fds;
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::vector<char*> argv_pointers;
  std::vector<char*> environment_pointers;
};
Guard* guard = nullptr;

void ExecuteGuard() {
  for (int fd : guard->fds) {
    ::fcntl(fd, F_SETFD, 0);
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
  // Signals wait for the new image, which unblocks them when it can handle them; but not the alarm:
  // it is what ends an image that never gets that far.
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

void GuardWayBack(const Entrance& entrance, const std::vector<int>& state_fds,
                  const std::vector<std::string>& argv) {
  if (!entrance.way_back) {
    ::alarm(0);
    return;
  }
  guard = new Guard;
  guard->program_fd = entrance.way_back.get();
  guard->state_fd = entrance.state.get();
  guard->fds = state_fds;
  guard->argv = argv;
  guard->environment = EnvironmentWith({fmt::format("{}={}", kStateVariable, entrance.state.get()),
                                        fmt::format("{}=the new supervisor did not answer for {} s",
                                                    kReturnedVariable, kHangLimitSeconds)});
  guard->argv_pointers = Pointers(guard->argv);
  guard->environment_pointers = Pointers(guard->environment);
  std::signal(SIGALRM, &OnAlarm);
  StillAlive();
}

void StillAlive() {
  if (guard != nullptr) {
    ::alarm(kHangLimitSeconds);
  }
}

void EndGuard() {
  ::alarm(0);
  std::signal(SIGALRM, SIG_DFL);
  delete std::exchange(guard, nullptr);
}

void ReturnToOldImage(const std::string& reason) {
  if (guard == nullptr) {
    return;
  }
  guard->environment.back() = fmt::format("{}={}", kReturnedVariable, reason);
  guard->environment_pointers = Pointers(guard->environment);
  ::alarm(0);
  ExecuteGuard();
}

}  // namespace tidegate
