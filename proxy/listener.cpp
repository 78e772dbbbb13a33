#include "proxy/listener.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "common/log.h"

namespace tidegate {
namespace {

// Descriptors that are never spent on clients: loop, channel, logs, listeners, the resolver.
constexpr std::uint64_t kOwnDescriptors = 32;
// One turn accepts no more than this, so that a flood of connections does not starve those that are
// there.
constexpr int kMaxAcceptsATurn = 64;
constexpr Duration kPause = std::chrono::milliseconds(100);
// Milliseconds between two log lines about a shut gate.
constexpr TimePoint kSayEvery = 60'000;

// Every connection may need another one to an upstream: half of what is left.
std::uint64_t LimitByDescriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return kUnlimited;
  }
  std::uint64_t all = limit.rlim_cur;
  return std::max<std::uint64_t>(1, all > kOwnDescriptors ? (all - kOwnDescriptors) / 2 : 1);
}

}  // namespace

AcceptGate::AcceptGate(Loop& loop, Callback on_change)
    : loop_(loop),
      on_change_(on_change),
      pause_(loop.timers(), Bind<&AcceptGate::OnPauseOver>(this)),
      by_descriptors_(LimitByDescriptors()),
      limit_(by_descriptors_) {}

void AcceptGate::Configure(std::optional<std::uint64_t> max_connections, unsigned workers) {
  limit_ = by_descriptors_ = LimitByDescriptors();
  limited_by_descriptors_ = true;
  if (max_connections && *max_connections != kUnlimited) {
    std::uint64_t share = (*max_connections + workers - 1) / workers;
    limited_by_descriptors_ = limit_ < share;
    limit_ = std::min(limit_, share);
  }
  Count(sessions_);
}

void AcceptGate::Count(std::size_t sessions) {
  sessions_ = sessions;
  bool full = sessions >= limit_;
  // Opens again a little below the limit, so that it does not flutter.
  if (!full && full_ && sessions > limit_ - std::max<std::uint64_t>(1, limit_ / 32)) {
    full = true;
  }
  if (full == full_) {
    return;
  }
  full_ = full;
  Say(full);
  on_change_();
}

void AcceptGate::Say(bool full) {
  if (!full) {
    LogDebug("accepting again: {} connections", sessions_);
    return;
  }
  if (said_ && loop_.now() < *said_ + kSayEvery) {
    return;
  }
  said_ = loop_.now();
  LogWarn("not accepting while this worker has {} connections: {}", sessions_,
          limited_by_descriptors_
              ? "half of its descriptors (RLIMIT_NOFILE), the others are for upstreams"
              : "its share of limits.max_connections");
}

void AcceptGate::Pause(int error) {
  if (!pausing_) {
    if (!said_ || loop_.now() >= *said_ + kSayEvery) {
      said_ = loop_.now();
      LogWarn("not accepting for a moment: {}", std::strerror(error));
    }
    pausing_ = true;
    on_change_();
  }
  pause_.Arm(kPause);
}

void AcceptGate::OnPauseOver() {
  pausing_ = false;
  on_change_();
}

AcceptingSocket::AcceptingSocket(Loop& loop, AcceptGate& gate, SessionStarter& starter, UniqueFd fd,
                                 unsigned slot)
    : loop_(loop), gate_(gate), starter_(starter), handle_(new Handle), slot_(slot) {
  handle_->socket = this;
  handle_->poll.data = handle_;
  handle_->fd = std::move(fd);
  sockaddr_storage local{};
  socklen_t length = sizeof(local);
  ::getsockname(handle_->fd.get(), reinterpret_cast<sockaddr*>(&local), &length);
  port_ = PortOf(reinterpret_cast<sockaddr*>(&local), length);
  TG_CHECK(uv_poll_init(loop.uv(), &handle_->poll, handle_->fd.get()) == 0);
}

AcceptingSocket::~AcceptingSocket() {
  handle_->socket = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&handle_->poll),
           [](uv_handle_t* handle) { delete static_cast<Handle*>(handle->data); });
}

void AcceptingSocket::SetListener(const ListenerConfig& listener,
                                  std::shared_ptr<const ServerTls> tls) {
  listener_ = listener;
  tls_ = std::move(tls);
}

std::uint16_t AcceptingSocket::port() const {
  std::uint16_t port = 0;
  std::from_chars(port_.data(), port_.data() + port_.size(), port);
  return port;
}

void AcceptingSocket::Update(bool wanted) {
  wanted_ = wanted;
  bool poll = wanted_ && gate_.open();
  if (poll == polling_) {
    return;
  }
  polling_ = poll;
  if (poll) {
    uv_poll_start(&handle_->poll, UV_READABLE, &AcceptingSocket::OnPoll);
  } else {
    uv_poll_stop(&handle_->poll);
  }
}

void AcceptingSocket::OnPoll(uv_poll_t* handle, int, int) {
  AcceptingSocket* socket = static_cast<Handle*>(handle->data)->socket;
  if (socket != nullptr) {
    socket->AcceptAll();
  }
}

void AcceptingSocket::AcceptAll() {
  for (int i = 0; i < kMaxAcceptsATurn && polling_; ++i) {
    sockaddr_storage peer{};
    socklen_t peer_length = sizeof(peer);
    int fd = ::accept4(handle_->fd.get(), reinterpret_cast<sockaddr*>(&peer), &peer_length,
                       SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      switch (errno) {
        case EINTR:
        case ECONNABORTED:  // the client gave up while it waited
        case EPROTO:
        case ENETDOWN:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case EPERM:  // a firewall rule (accept(2))
          continue;
        case EAGAIN:
          return;
        default:
          gate_.Pause(errno);
          return;
      }
    }
    last_accept_ = loop_.now();
    starter_.StartSession(
        UniqueFd(fd),
        MakeClientInfo(reinterpret_cast<sockaddr*>(&peer), peer_length, port_, listener_), tls_);
  }
}

}  // namespace tidegate
