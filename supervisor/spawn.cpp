// Starting a program in a child, without its parent's privileges (process.h).

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "common/check.h"
#include "supervisor/process.h"

namespace tidegate {
namespace {

// What the child could not do, told to its parent through a pipe that execve closes.
struct ChildFailure {
  int error;
  char doing[32];
};

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) {
    pointers.push_back(const_cast<char*>(text.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

void ExecutePointers(int program_fd, char* const* argv, char* const* environment) {
  ::execveat(program_fd, "", argv, environment, AT_EMPTY_PATH);
  if (errno != ENOENT) {
    return;
  }
  // A script: its interpreter opens it by a path, so the descriptor must survive.
  ::fcntl(program_fd, F_SETFD, 0);
  char path[32] = "/proc/self/fd/";
  char digits[16];
  int count = 0;
  for (int rest = program_fd; rest > 0 || count == 0; rest /= 10) {
    digits[count++] = static_cast<char>('0' + rest % 10);
  }
  std::reverse(digits, digits + count);
  std::memcpy(path + std::strlen(path), digits, static_cast<std::size_t>(count));
  ::execve(path, argv, environment);
  int execve_errno = errno;
  ::fcntl(program_fd, F_SETFD, FD_CLOEXEC);
  errno = execve_errno;
}

[[noreturn]] void FailChild(int report, const char* doing) {
  ChildFailure failure{.error = errno, .doing = {}};
  std::strncpy(failure.doing, doing, sizeof(failure.doing) - 1);
  [[maybe_unused]] ssize_t ignored = ::write(report, &failure, sizeof(failure));
  ::_exit(127);
}

void DropPrivileges(const Identity& identity, int report) {
  // The bounding set first: it needs CAP_SETPCAP. EINVAL ends the list that this kernel knows;
  // EPERM means that we may not, and that execve without capabilities gives none either.
  for (unsigned long capability = 0; ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0;
       ++capability) {
  }
  if (::setgroups(0, nullptr) != 0 || ::setresgid(identity.gid, identity.gid, identity.gid) != 0 ||
      ::setresuid(identity.uid, identity.uid, identity.uid) != 0) {
    FailChild(report, "change the user of");
  }
}

// Between fork and execve: only what is safe there.
[[noreturn]] void RunChild(const SpawnRequest& request, int program_fd, int report,
                           const std::vector<int>& sources, char* const* argv) {
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (::dup2(sources[i], request.fds[i].second) < 0) {
      FailChild(report, "give descriptors to");
    }
  }
  int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) {
    ::dup2(null, STDIN_FILENO);
  }
  if (request.output >= 0) {
    ::dup2(request.output, STDOUT_FILENO);
    ::dup2(request.output, STDERR_FILENO);
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    FailChild(report, "take privileges from");
  }
  // A supervisor that is not root may have been given capabilities (AmbientCapabilities= of a
  // unit); without these, execve gives its child none of them.
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  if (request.identity != nullptr) {
    DropPrivileges(*request.identity, report);
  }
  // Also what our own parent has left open: a worker has what it was given, nothing else.
  int last = STDERR_FILENO;
  for (const auto& [ours, theirs] : request.fds) {
    last = std::max(last, theirs);
  }
  ::close_range(static_cast<unsigned>(last) + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  for (int number = 1; number < NSIG; ++number) {
    std::signal(number, SIG_DFL);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ExecutePointers(program_fd, argv, environ);
  FailChild(report, "execute");
}

}  // namespace

Result<Identity> LookUpUser(const std::string& name) {
  const passwd* entry = ::getpwnam(name.c_str());
  if (entry == nullptr) {
    return Fail(ErrorKind::kConfig, "user: there is no user \"" + name + "\" on this system");
  }
  return Identity{.name = name, .uid = entry->pw_uid, .gid = entry->pw_gid};
}

Result<pid_t> Spawn(const SpawnRequest& request) {
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) {
    return Fail(Error::System(errno, "make a pipe"));
  }
  UniqueFd report_in(report[0]);
  UniqueFd report_low(report[1]);
  // Above every number that the child wants to have, so that no dup2 overwrites a source.
  constexpr int kAbove = 64;
  int failure_errno = 0;
  auto lift = [&](int fd) {
    UniqueFd lifted(::fcntl(fd, F_DUPFD_CLOEXEC, kAbove));
    if (!lifted) {
      // EINVAL: RLIMIT_NOFILE ends below kAbove.
      failure_errno = errno == EINVAL ? EMFILE : errno;
    }
    return lifted;
  };
  UniqueFd report_out = lift(report_low.get());
  report_low.Reset();
  UniqueFd program_fd = lift(request.program->fd.get());
  std::vector<UniqueFd> held;
  std::vector<int> sources;
  for (const auto& [ours, theirs] : request.fds) {
    TG_CHECK(theirs < kAbove);
    held.push_back(lift(ours));
    sources.push_back(held.back().get());
  }
  if (failure_errno != 0) {
    return Fail(Error::System(failure_errno, "start " + request.program->path));
  }
  std::vector<char*> argv = Pointers(request.argv);

  // A signal that arrives in the child before execve must not run the parent's handlers.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  pid_t pid = ::fork();
  if (pid == 0) {
    RunChild(request, program_fd.get(), report_out.get(), sources, argv.data());
  }
  int fork_errno = errno;
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) {
    return Fail(Error::System(fork_errno, "fork"));
  }
  report_out.Reset();
  ChildFailure failure{};
  ssize_t size = 0;
  while ((size = ::read(report_in.get(), &failure, sizeof(failure))) < 0 && errno == EINTR) {
  }
  if (size == sizeof(failure)) {
    // The child is a zombie in a moment; Children reaps whom nobody watches.
    return Fail(
        Error::System(failure.error, std::string(failure.doing) + " " + request.program->path));
  }
  return pid;
}

Error Execute(int program_fd, const std::vector<std::string>& argv,
              const std::vector<std::string>& environment) {
  ExecutePointers(program_fd, Pointers(argv).data(), Pointers(environment).data());
  return Error::System(errno, "execute the program");
}

}  // namespace tidegate
