#include "supervisor/notify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <fmt/format.h>

namespace tidegate {
namespace {

// How long systemd may take to read what must not be lost.
constexpr int kPatienceMilliseconds = 400;
constexpr int kPauseMilliseconds = 10;
constexpr int kSendBuffer = 8 * 1024 * 1024;

}  // namespace

Notify::Notify(Loop& loop) : watchdog_due_(loop.timers(), Bind<&Notify::OnWatchdog>(this)) {
  if (const char* path = std::getenv("NOTIFY_SOCKET")) {
    path_ = path;
    HasSocket();
  }
  // sd_watchdog_enabled(3): somebody else of the service may be meant.
  const char* watched = std::getenv("WATCHDOG_PID");
  const bool ours = watched == nullptr || std::strtol(watched, nullptr, 10) == ::getpid();
  if (const char* microseconds = std::getenv("WATCHDOG_USEC"); ours && microseconds != nullptr) {
    watchdog_ = Duration(std::strtol(microseconds, nullptr, 10) / 1000);
  }
}

bool Notify::HasSocket() {
  if (!socket_) {
    socket_.Reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // What systemd has not read yet is counted as ours: as many as its queue takes, if the system
    // allows it.
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof(kSendBuffer));
  }
  return static_cast<bool>(socket_);
}

Notify::Told Notify::SendOnce(const std::string& text, int passed) {
  sockaddr_un address{};
  if (path_.empty() || path_.size() >= sizeof(address.sun_path)) {
    return Told::kNobody;
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  if (path_.front() == '@') {
    address.sun_path[0] = '\0';
  }
  if (!HasSocket()) {
    return Told::kLater;
  }
  iovec octets{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size());
  message.msg_iov = &octets;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (passed >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &passed, sizeof(int));
  }
  if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) >= 0) {
    return Told::kSent;
  }
  // ETOOMANYREFS: too many descriptors of ours wait to be read.
  bool passes = errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS;
  return passes ? Told::kLater : Told::kNobody;
}

void Notify::Send(const std::string& text) {
  // READY=1 must not be lost because a busy system has a full queue for a moment.
  for (int waited = 0; SendOnce(text, -1) == Told::kLater && waited < kPatienceMilliseconds;
       waited += kPauseMilliseconds) {
    ::poll(nullptr, 0, kPauseMilliseconds);
  }
}

Notify::Told Notify::Store(const std::string& name, int fd) {
  // A listener that has been shut down is still ours to judge: FDPOLL=0.
  return SendOnce(fmt::format("FDSTORE=1\nFDNAME={}\nFDPOLL=0\n", name), fd);
}

Notify::Told Notify::Forget(const std::string& name) {
  return SendOnce(fmt::format("FDSTOREREMOVE=1\nFDNAME={}\n", name), -1);
}

bool Notify::Barrier(Duration limit) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return false;
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  if (SendOnce("BARRIER=1", theirs.get()) != Told::kSent) {
    return false;
  }
  theirs.Reset();
  pollfd entry{.fd = ours.get(), .events = 0, .revents = 0};
  return ::poll(&entry, 1, static_cast<int>(limit.count())) == 1;
}

void Notify::Ready(std::string_view status) {
  Send(fmt::format("READY=1\nSTATUS={}\n", status));
}

void Notify::Reloading(std::string_view status) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  Send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS={}\n",
                   now.tv_sec * 1'000'000 + now.tv_nsec / 1000, status));
}

void Notify::Stopping() {
  Send("STOPPING=1\nSTATUS=draining\n");
}

void Notify::MayTake(Duration limit) {
  constexpr Duration kMore = std::chrono::seconds(10);
  constexpr Duration kMost = std::chrono::hours(24 * 365);
  Duration most = limit == kNever ? kMost : std::min(limit, kMost) + kMore;
  Send(fmt::format("EXTEND_TIMEOUT_USEC={}\n",
                   std::chrono::duration_cast<std::chrono::microseconds>(most).count()));
  // systemd puts off its watchdog, too (service_extend_timeout): that must not wait for hours. Not
  // before ours runs: it would begin at the start, and nobody would feed it.
  if (watchdog_due_.armed()) {
    OnWatchdog();
  }
}

void Notify::Status(std::string_view status) {
  Send(fmt::format("STATUS={}\n", status));
}

void Notify::StartWatchdog() {
  if (watchdog_.count() > 1 && !path_.empty()) {
    OnWatchdog();
  }
}

void Notify::OnWatchdog() {
  Send("WATCHDOG=1\n");
  watchdog_due_.Arm(watchdog_ / 2);
}

}  // namespace tidegate
