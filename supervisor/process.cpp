#include "supervisor/process.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "common/check.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

constexpr std::size_t kTailBytes = 2048;

struct stat StatOf(const Program& program) {
  struct stat info{};
  ::fstat(program.fd.get(), &info);
  return info;
}

}  // namespace

Program Program::Duplicate() const {
  return Program{.path = path, .fd = UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3))};
}

Result<Program> OpenProgram(const std::string& path) {
  Program program{.path = path, .fd = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC))};
  if (!program.fd) {
    return Fail(Error::System(errno, "open " + path));
  }
  struct stat info = StatOf(program);
  if (!S_ISREG(info.st_mode) || (info.st_mode & 0111) == 0) {
    return Fail(Error::System(EACCES, "execute " + path));
  }
  return program;
}

Result<Program> OpenOwnProgram() {
  std::error_code error;
  std::string path = std::filesystem::read_symlink("/proc/self/exe", error).string();
  Program program{.path = path, .fd = UniqueFd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC))};
  if (error || !program.fd) {
    return Fail(Error::System(errno, "open our own program (is /proc mounted?)"));
  }
  // The file may have been replaced while we start: its name is still where the next one lies.
  constexpr std::string_view kDeleted = " (deleted)";
  if (program.path.ends_with(kDeleted)) {
    program.path.resize(program.path.size() - kDeleted.size());
  }
  return program;
}

std::string WorkerPathFor(const std::string& supervisor_path) {
  std::filesystem::path folder = std::filesystem::path(supervisor_path).parent_path();
  std::filesystem::path installed = folder.parent_path() / "libexec/tidegate/tidegate-worker";
  std::filesystem::path beside = folder / "tidegate-worker";
  std::error_code error;
  bool use_installed =
      !std::filesystem::exists(beside, error) && std::filesystem::exists(installed, error);
  return (use_installed ? installed : beside).string();
}

bool IsSameProgram(const Program& a, const Program& b) {
  struct stat left = StatOf(a);
  struct stat right = StatOf(b);
  return left.st_dev == right.st_dev && left.st_ino == right.st_ino &&
         left.st_size == right.st_size && left.st_mtim.tv_sec == right.st_mtim.tv_sec &&
         left.st_mtim.tv_nsec == right.st_mtim.tv_nsec;
}

bool Executes(pid_t pid, const Program& program) {
  struct stat info{};
  const struct stat ours = StatOf(program);
  return ::stat(fmt::format("/proc/{}/exe", pid).c_str(), &info) == 0 &&
         info.st_dev == ours.st_dev && info.st_ino == ours.st_ino;
}

// As the kernel cuts it.
bool IsNamedWorker(std::string_view name) {
  return name == std::string_view("tidegate-worker").substr(0, 15);
}

std::uint64_t TicksSinceBoot() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  const auto ticks = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  return static_cast<std::uint64_t>(now.tv_sec) * ticks +
         static_cast<std::uint64_t>(now.tv_nsec) * ticks / 1'000'000'000;
}

// Not /proc/self/task/*/children, which not every kernel has.
std::vector<Child> ChildrenOfUs() {
  std::vector<Child> children;
  std::error_code error;
  std::filesystem::directory_iterator at("/proc", error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    std::ifstream file(at->path() / "stat");
    std::string stat;
    std::getline(file, stat);
    // "PID (NAME) STATE PPID ... STARTTIME ...": a name may have anything in it (proc_pid_stat(5)).
    const std::size_t name = stat.find('(');
    const std::size_t name_ends = stat.rfind(')');
    if (name == std::string::npos || name_ends == std::string::npos) {
      continue;
    }
    Child child{.name = stat.substr(name + 1, name_ends - name - 1)};
    int parent = 0;
    if (std::sscanf(stat.c_str(), "%d", &child.pid) == 1 &&
        std::sscanf(stat.c_str() + name_ends,
                    ") %*c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                    "%" SCNu64,
                    &parent, &child.started) == 2 &&
        parent == ::getpid()) {
      children.push_back(std::move(child));
    }
  }
  return children;
}

std::string DescribeExit(int status) {
  if (WIFSIGNALED(status)) {
    return fmt::format("was killed by signal {} ({})", WTERMSIG(status),
                       ::strsignal(WTERMSIG(status)));
  }
  return fmt::format("exited with {}", WEXITSTATUS(status));
}

Children::Children(Loop& loop) : signal_(new uv_signal_t) {
  TG_CHECK(uv_signal_init(loop.uv(), signal_) == 0);
  signal_->data = this;
  uv_signal_start(
      signal_, [](uv_signal_t* handle, int) { static_cast<Children*>(handle->data)->Reap(); },
      SIGCHLD);
}

Children::~Children() {
  uv_close(reinterpret_cast<uv_handle_t*>(signal_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_signal_t*>(handle); });
}

void Children::Watch(pid_t pid, Ended ended) {
  watched_[pid] = std::move(ended);
}

// Everyone is reaped: children of an image that had to go back to us are ours as well, and nobody
// watches them.
void Children::Reap() {
  int status = 0;
  pid_t pid = 0;
  while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
    auto watched = watched_.find(pid);
    if (watched == watched_.end()) {
      continue;
    }
    if (before_each_) {
      before_each_();
    }
    Ended ended = std::move(watched->second);
    watched_.erase(watched);
    ended(status);
  }
}

Result<std::pair<UniqueFd, UniqueFd>> ChildOutput::MakePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    return Fail(Error::System(errno, "make a pipe"));
  }
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

ChildOutput::ChildOutput(Loop& loop, UniqueFd fd, bool echo)
    : fd_(std::move(fd)), echo_(echo), poll_(new uv_poll_t) {
  TG_CHECK(uv_poll_init(loop.uv(), poll_, fd_.get()) == 0);
  poll_->data = this;
  uv_poll_start(poll_, UV_READABLE, [](uv_poll_t* handle, int, int) {
    static_cast<ChildOutput*>(handle->data)->Read();
  });
}

ChildOutput::~ChildOutput() {
  uv_close(reinterpret_cast<uv_handle_t*>(poll_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
}

void ChildOutput::Read() {
  char buffer[4096];
  ssize_t size = 0;
  while ((size = ::read(fd_.get(), buffer, sizeof(buffer))) > 0) {
    std::string_view text(buffer, static_cast<std::size_t>(size));
    if (echo_) {
      WriteWithoutBlocking(STDERR_FILENO, text);
    }
    tail_.append(text);
    if (tail_.size() > kTailBytes) {
      tail_.erase(0, tail_.size() - kTailBytes);
    }
  }
  if (size == 0) {
    uv_poll_stop(poll_);
  }
}

std::string ChildOutput::Tail() {
  Read();
  return tail_;
}

}  // namespace tidegate
