#include "supervisor/notify.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <fmt/format.h>

#include "common/unique_fd.h"

namespace tidegate {
namespace {

// How long systemd may take to read.
constexpr int kPatienceMilliseconds = 200;

}  // namespace

Notify::Notify(Loop& loop) : watchdog_due_(loop.timers(), Bind<&Notify::OnWatchdog>(this)) {
  if (const char* path = std::getenv("NOTIFY_SOCKET")) {
    path_ = path;
  }
  if (const char* microseconds = std::getenv("WATCHDOG_USEC")) {
    watchdog_ = Duration(std::strtol(microseconds, nullptr, 10) / 1000);
  }
}

void Notify::Send(const std::string& text) const {
  sockaddr_un address{};
  if (path_.empty() || path_.size() >= sizeof(address.sun_path)) {
    return;
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  if (path_.front() == '@') {
    address.sun_path[0] = '\0';
  }
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size());
  // READY=1 must not be lost because a busy system has a full queue for a moment.
  for (int tries = 0; tries < 2; ++tries) {
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0 &&
        ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) >= 0) {
      return;
    }
    if (errno != EAGAIN) {
      return;
    }
    pollfd entry{.fd = fd.get(), .events = POLLOUT, .revents = 0};
    ::poll(&entry, 1, kPatienceMilliseconds);
  }
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
