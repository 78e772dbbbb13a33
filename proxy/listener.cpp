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

std::uint64_t DescriptorsForClients() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return kUnlimited;
  }
  std::uint64_t all = limit.rlim_cur;
  constexpr std::uint64_t kOneSession = 2;
  return std::max(kOneSession, all > kOwnDescriptors ? all - kOwnDescriptors : 0);
}

// A gate that has shut opens a little below its limit, so that it does not flutter.
std::uint64_t Margin(std::uint64_t limit, std::uint64_t least) {
  constexpr std::uint64_t kPart = 32;
  return std::max(least, limit / kPart);
}

}  // namespace

AcceptGate::AcceptGate(Loop& loop, Callback on_change)
    : loop_(loop),
      on_change_(on_change),
      pause_(loop.timers(), Bind<&AcceptGate::OnPauseOver>(this)),
      descriptors_(DescriptorsForClients()),
      share_(kUnlimited) {}

void AcceptGate::Configure(std::optional<std::uint64_t> max_connections, unsigned workers) {
  descriptors_ = DescriptorsForClients();
  share_ = kUnlimited;
  if (max_connections && *max_connections != kUnlimited) {
    share_ = (*max_connections + workers - 1) / workers;
  }
  Count(sessions_, more_streams_);
}

void AcceptGate::Count(std::size_t sessions, std::size_t more_streams) {
  sessions_ = sessions;
  more_streams_ = more_streams;
  const std::uint64_t sessions_margin = full_ ? Margin(share_, 1) - 1 : 0;
  // The next one needs all that it may hold.
  const std::uint64_t descriptors_margin =
      full_ ? Margin(descriptors_, kDescriptorsASession) : kDescriptorsASession;
  const bool full =
      sessions >= share_ - sessions_margin || held() > descriptors_ - descriptors_margin;
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
  LogWarn("not accepting while this worker has {} connections{}: {}", sessions_,
          more_streams_ > 0 ? fmt::format(" and {} more requests of HTTP/2", more_streams_) : "",
          sessions_ < share_
              ? "they and their upstreams may need all of its descriptors (RLIMIT_NOFILE)"
              : "its share of limits.max_connections");
}

std::uint64_t AcceptGate::most_more_streams() const {
  // The rest is for those who come with one request at a time.
  const std::uint64_t most = descriptors_ / 8 * 3;
  const std::uint64_t sessions = kDescriptorsASession * sessions_;
  return sessions < descriptors_ ? std::min(most, descriptors_ - sessions) : 0;
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
