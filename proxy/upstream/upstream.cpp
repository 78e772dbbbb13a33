#include "proxy/upstream/upstream.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace tidegate {
namespace {

bool IsSamePlace(const sockaddr* one, const sockaddr* other) {
  if (one->sa_family != other->sa_family) {
    return false;
  }
  switch (one->sa_family) {
    case AF_INET: {
      const auto* a = reinterpret_cast<const sockaddr_in*>(one);
      const auto* b = reinterpret_cast<const sockaddr_in*>(other);
      return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
    }
    case AF_INET6: {
      const auto* a = reinterpret_cast<const sockaddr_in6*>(one);
      const auto* b = reinterpret_cast<const sockaddr_in6*>(other);
      return a->sin6_port == b->sin6_port && IN6_ARE_ADDR_EQUAL(&a->sin6_addr, &b->sin6_addr);
    }
    case AF_UNIX:
      return std::strncmp(reinterpret_cast<const sockaddr_un*>(one)->sun_path,
                          reinterpret_cast<const sockaddr_un*>(other)->sun_path,
                          sizeof(sockaddr_un::sun_path)) == 0;
    default:
      return false;
  }
}

}  // namespace

void Lease::GiveBack() {
  if (connection_ != nullptr) {
    upstream_->GiveBack(endpoint_, std::move(connection_));
  }
}

Upstream::Upstream(Loop& loop, BufferPool& buffers, Resolver& resolver, Counters& counters,
                   UpstreamConfig config, std::shared_ptr<ClientTls> tls)
    : loop_(loop), counters_(counters), config_(std::move(config)), tls_(std::move(tls)) {
  // Never plain text where TLS was asked for.
  TG_CHECK(config_.tls.has_value() == (tls_ != nullptr));
  for (const EndpointConfig& endpoint : config_.endpoints) {
    std::shared_ptr<TlsPeer> peer = tls_ != nullptr ? tls_->PeerOf(endpoint.address) : nullptr;
    pools_.push_back(
        std::make_unique<Pool>(loop, buffers, resolver, counters, endpoint, std::move(peer)));
  }
}

void Upstream::Configure(const DecoderLimits& limits, Duration idle, unsigned workers) {
  std::uint64_t limit = config_.max_connections_per_endpoint;
  PoolSettings settings{.limits = limits, .idle = idle};
  settings.max_connections = limit == kUnlimited ? kUnlimited : (limit + workers - 1) / workers;
  for (auto& pool : pools_) {
    pool->Configure(settings);
  }
}

bool Upstream::HasRoom() const {
  return std::any_of(pools_.begin(), pools_.end(),
                     [](const auto& pool) { return pool->has_room(); });
}

// What the balancer is told of the pools.
class Upstream::Loads final : public EndpointLoads {
 public:
  Loads(const Upstream& upstream, const LeaseRequest& request, bool with_address)
      : upstream_(upstream), tried_(request.tried), with_address_(with_address) {}

  std::size_t size() const override { return upstream_.pools_.size(); }
  EndpointLoad At(std::size_t index) const override {
    Pool& pool = *upstream_.pools_[index];
    Endpoint& endpoint = pool.endpoint();
    // A name is asked for again by being looked at, whether or not there is room.
    bool has_address = !endpoint.Addresses().empty();
    return {.in_flight = pool.in_use(),
            .usable = pool.has_room() && (has_address || !with_address_),
            .tried = std::ranges::find(tried_, index) != tried_.end()};
  }

 private:
  const Upstream& upstream_;
  const std::vector<std::size_t>& tried_;
  bool with_address_;
};

std::optional<std::size_t> Upstream::Pick(const LeaseRequest& request) {
  if (pools_.size() == 1) {
    Pool& only = *pools_.front();
    // Its name is kept fresh; if it has no address, it will say why.
    only.endpoint().Addresses();
    return only.has_room() ? std::optional<std::size_t>(0) : std::nullopt;
  }
  auto picked = PickEndpoint(config_.balance, Loads(*this, request, true), next_);
  if (picked) {
    return picked;
  }
  // None has an address: whoever is asked will wait for it, or say which name does not resolve.
  return PickEndpoint(config_.balance, Loads(*this, request, false), next_);
}

std::vector<EndpointStatus> Upstream::Status() const {
  std::vector<EndpointStatus> endpoints;
  for (const auto& pool : pools_) {
    const Endpoint& endpoint = pool->endpoint();
    endpoints.push_back({.name = endpoint.name(),
                         .in_flight = pool->in_use(),
                         .idle = pool->idle(),
                         .failure = endpoint.has_addresses() ? std::string() : endpoint.failure()});
  }
  return endpoints;
}

Lease Upstream::TryAcquire(LeaseRequest& request) {
  request.endpoint.reset();
  if (queue_.size() > 0 || request.fresh) {
    return {};
  }
  auto picked = Pick(request);
  if (!picked) {
    return {};
  }
  std::unique_ptr<PooledConnection> connection = pools_[*picked]->TakeIdle();
  request.endpoint = picked;
  if (connection == nullptr) {
    return {};
  }
  counters_.Add(CounterId::kUpstreamReused);
  return {*this, *picked, std::move(connection), true};
}

Task<Result<Lease>> Upstream::Acquire(LeaseRequest& request) {
  // TryAcquire has picked already, unless nothing could be picked.
  auto picked = std::exchange(request.endpoint, std::nullopt);
  TimePoint start = loop_.now();
  while (!picked || !pools_[*picked]->has_room() || queue_.size() > 0) {
    if (queue_.size() == 0 && HasRoom()) {
      picked = Pick(request);
      break;
    }
    Duration waited(loop_.now() - start);
    if (queue_.size() >= config_.queue.size) {
      co_return Fail(ErrorKind::kQueueFull, "every connection is in use and the queue is full");
    }
    Duration timeout = config_.queue.timeout == kNever ? kNever : config_.queue.timeout - waited;
    auto waiting = queue_.Wait(loop_.timers(), timeout);
    request.cancel.Set(Bind<&WaitList::Awaiter::Cancel>(&waiting));
    request.in_queue = true;
    bool woken = co_await waiting;
    request.in_queue = false;
    request.cancel.Clear();
    request.queued = Duration(loop_.now() - start);
    if (request.cancel.cancelled()) {
      // Whoever is next must not wait for the place that we were woken for.
      if (woken) {
        queue_.WakeOne();
      }
      co_return Fail(ErrorKind::kCancelled, "not wanted any more");
    }
    if (!woken) {
      co_return Fail(ErrorKind::kQueueTimeout, "every connection is in use");
    }
    // Whoever was woken is first in line: those that came later still see a queue.
    picked = HasRoom() ? Pick(request) : std::nullopt;
    if (picked) {
      break;
    }
  }
  if (!picked) {
    co_return Fail(ErrorKind::kUpstreamUnavailable, "no endpoint can be used");
  }
  request.endpoint = picked;
  Pool& pool = *pools_[*picked];
  if (!request.fresh) {
    std::unique_ptr<PooledConnection> idle = pool.TakeIdle();
    if (idle != nullptr) {
      counters_.Add(CounterId::kUpstreamReused);
      co_return Lease(*this, *picked, std::move(idle), true);
    }
  }
  // Others pick while this one is being opened.
  pool.Reserve();
  TimePoint connect_start = loop_.now();
  auto opened = co_await pool.Open(request.connect_timeout, request.cancel);
  request.connecting = Duration(loop_.now() - connect_start);
  if (!opened) {
    GiveBack(*picked, nullptr);
    co_return Fail(std::move(opened).error());
  }
  co_return Lease(*this, *picked, std::move(*opened), false);
}

std::optional<std::size_t> Upstream::FindEndpoint(std::string_view name) const {
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    if (pools_[i]->endpoint().name() == name) {
      return i;
    }
  }
  return std::nullopt;
}

Lease Upstream::Adopt(std::size_t endpoint, UniqueFd fd, std::string_view unread, bool shared) {
  Pool& pool = *pools_[endpoint];
  pool.Reserve();
  return {*this, endpoint, pool.Adopt(std::move(fd), unread, shared), true};
}

bool Upstream::IsAt(std::size_t endpoint, int fd) const {
  sockaddr_storage peer{};
  socklen_t length = sizeof(peer);
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0) {
    return false;
  }
  std::span<const SocketAddress> addresses = pools_[endpoint]->endpoint().Addresses();
  return std::ranges::any_of(addresses, [&](const SocketAddress& address) {
    return IsSamePlace(reinterpret_cast<const sockaddr*>(&address.storage),
                       reinterpret_cast<const sockaddr*>(&peer));
  });
}

std::optional<Upstream::IdleUpstream> Upstream::DetachIdle() {
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    Duration patience{};
    if (UniqueFd fd = pools_[i]->DetachIdle(patience)) {
      return IdleUpstream{.endpoint = i, .fd = std::move(fd), .patience = patience};
    }
  }
  return std::nullopt;
}

bool Upstream::AdoptIdle(IdleUpstream idle) {
  return tls_ == nullptr && pools_[idle.endpoint]->AdoptIdle(std::move(idle.fd), idle.patience);
}

void Upstream::GiveBack(std::size_t endpoint, std::unique_ptr<PooledConnection> connection) {
  pools_[endpoint]->GiveBack(std::move(connection));
  queue_.WakeOne();
}

}  // namespace tidegate
