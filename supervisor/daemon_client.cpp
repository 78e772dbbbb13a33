#include "supervisor/daemon_client.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/control.h"
#include "common/control_messages.h"

namespace tidegate {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Duration kTick{100};
// For a place in the daemon's queue: also who waits for ever for the answer does not wait for ever
// for that.
constexpr Duration kConnect{10000};
// A daemon that has answered `stop` closes what it holds and ends.
constexpr Duration kGone{5000};

volatile std::sig_atomic_t caught_signal = 0;

// What is left of the time for the talk.
class Patience {
 public:
  explicit Patience(Duration limit) : limit_(limit), start_(Clock::now()) {}
  Duration left() const {
    if (limit_ == kNever) {
      return kNever;
    }
    auto passed = std::chrono::duration_cast<Duration>(Clock::now() - start_);
    return std::max(Duration::zero(), limit_ - passed);
  }
  Duration limit() const { return limit_; }

 private:
  Duration limit_;
  Clock::time_point start_;
};

DaemonFault ConnectFault(const std::string& path, const Error& error) {
  switch (error.system_errno()) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
    case EPROTOTYPE:
      return {ExitCode::kNoDaemon,
              fmt::format("no daemon at {}: start one with \"tidegate run\"", path)};
    case EACCES:
    case EPERM:
      return {ExitCode::kPermission,
              fmt::format("no permission to use {}: be root, or a member of its group", path)};
    case ETIMEDOUT:
      return {ExitCode::kTimedOut,
              fmt::format("the daemon at {} takes no connection: it hangs or is stopped", path)};
    default:
      return {ExitCode::kFailed, fmt::format("{}: {}", path, error.ToString())};
  }
}

// `: phase drain, 13 of 412 left`, or nothing if no progress came.
std::string Doing(const nlohmann::json& last_progress) {
  std::string phase = TextOf(last_progress, "phase");
  if (phase.empty()) {
    return {};
  }
  std::string text = TextOf(last_progress, "text");
  return text.empty() ? phase : fmt::format("{}: {}", phase, text);
}

DaemonFault TimeoutFault(const Question& question, pid_t pid, const nlohmann::json& last_progress) {
  std::string doing = Doing(last_progress);
  std::string limit = FormatDuration(question.timeout);
  if (doing.empty()) {
    return {ExitCode::kTimedOut,
            fmt::format("the daemon (pid {}) has not answered within {}", pid, limit)};
  }
  return {ExitCode::kTimedOut,
          fmt::format("not done within {}; {} goes on ({}). See \"tidegate status\"", limit,
                      question.command, doing)};
}

DaemonFault LostFault(const Question& question, pid_t pid, const nlohmann::json& last_progress) {
  std::string doing = Doing(last_progress);
  return {ExitCode::kFailed,
          fmt::format("the daemon (pid {}) went away before it answered {}{}", pid,
                      question.command, doing.empty() ? "" : fmt::format(" (in {})", doing))};
}

// Until the process is gone, so that what follows `tidegate stop` finds its ports free. Nothing if
// it cannot be watched.
void AwaitEnd(const UniqueFd& process, Duration limit) {
  if (!process) {
    return;
  }
  pollfd ended{.fd = process.get(), .events = POLLIN, .revents = 0};
  ::poll(&ended, 1, static_cast<int>(std::min(limit, kGone).count()));
}

UniqueFd OpenProcess(pid_t pid) {
  // glibc 2.36 has no wrapper that all our systems have.
  return UniqueFd(pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)) : -1);
}

}  // namespace

std::expected<nlohmann::json, DaemonFault> Ask(const Question& question, const nlohmann::json& args,
                                               ProgressListener& listener) {
  Patience patience(question.timeout);
  auto fd = ConnectControl(question.socket_path, std::min(patience.left(), kConnect));
  if (!fd) {
    return std::unexpected(ConnectFault(question.socket_path, fd.error()));
  }
  auto peer = PeerOf(fd->get());
  pid_t pid = peer ? peer->pid : 0;
  UniqueFd process = question.ends_daemon ? OpenProcess(pid) : UniqueFd();

  nlohmann::json last_progress = nlohmann::json::object();
  nlohmann::json message = MakeControlMessage("command");
  message["command"] = question.command;
  message["args"] = args;
  auto sent = SendControl(fd->get(), message, {}, patience.left());
  if (!sent && sent.error().kind() == ErrorKind::kTimeout) {
    return std::unexpected(TimeoutFault(question, pid, last_progress));
  }
  // Any other failure means that it has closed already; it may have said why (no permission) before
  // it read anything.

  while (!WasInterrupted()) {
    Duration left = patience.left();
    if (left == Duration::zero()) {
      return std::unexpected(TimeoutFault(question, pid, last_progress));
    }
    auto received = ReceiveControl(fd->get(), std::min(left, kTick));
    if (received && received->type() == "progress") {
      last_progress = received->body;
      listener.OnProgress(received->body);
    } else if (received && received->type() == "result") {
      if (question.ends_daemon && NumberOf(received->body, "exit_code", 1) == 0) {
        AwaitEnd(process, patience.left());
      }
      return received->body;
    } else if (!received && received.error().kind() == ErrorKind::kTimeout) {
      listener.OnTick();
    } else if (!received && received.error().kind() == ErrorKind::kProtocol) {
      return std::unexpected(DaemonFault{
          ExitCode::kFailed, fmt::format("the daemon (pid {}) speaks another protocol: {}", pid,
                                         received.error().ToString())});
    } else if (!received && question.ends_daemon) {
      // It was to end, and did, without a last word.
      AwaitEnd(process, patience.left());
      return nlohmann::json{{"exit_code", 0}, {"message", "stopped"}};
    } else if (!received) {
      return std::unexpected(LostFault(question, pid, last_progress));
    }
  }
  return std::unexpected(DaemonFault{ExitCode::kFailed, {}});
}

void CatchInterrupts() {
  struct sigaction action{};
  action.sa_handler = [](int signal) { caught_signal = signal; };
  // No SA_RESTART: what waits shall wake.
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool WasInterrupted() {
  return caught_signal != 0;
}

void EndInterrupted() {
  std::signal(caught_signal, SIG_DFL);
  ::raise(caught_signal);
  std::_Exit(static_cast<int>(ExitCode::kFailed));
}

}  // namespace tidegate
