#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "common/wait_list.h"
#include "proxy/upstream/balancer.h"
#include "proxy/upstream/pool.h"

namespace tidegate {

class Upstream;

// The right to use one connection now. Gives it back when destroyed: kept if it can be used again,
// closed otherwise. The exchange on it must have ended by then.
class Lease {
 public:
  Lease() = default;
  Lease(Upstream& upstream, std::size_t endpoint, std::unique_ptr<PooledConnection> connection,
        bool reused)
      : upstream_(&upstream),
        endpoint_(endpoint),
        connection_(std::move(connection)),
        reused_(reused) {}
  Lease(Lease&& other) noexcept = default;
  Lease& operator=(Lease&& other) noexcept {
    GiveBack();
    upstream_ = other.upstream_;
    endpoint_ = other.endpoint_;
    connection_ = std::move(other.connection_);
    reused_ = other.reused_;
    return *this;
  }
  ~Lease() { GiveBack(); }

  explicit operator bool() const { return connection_ != nullptr; }
  H1ClientConnection& stream() { return connection_->http; }
  // The index among the endpoints of the upstream.
  std::size_t endpoint() const { return endpoint_; }
  // It had been used before: it may turn out stale.
  bool reused() const { return reused_; }
  void GiveBack();

 private:
  Upstream* upstream_ = nullptr;
  std::size_t endpoint_ = 0;
  std::unique_ptr<PooledConnection> connection_;
  bool reused_ = false;
};

// What an exchange wants of its upstream, and what it learns.
struct LeaseRequest {
  // Endpoints that earlier attempts of the exchange failed at.
  std::vector<std::size_t> tried;
  // No connection from the pool: an earlier attempt met a stale one.
  bool fresh = false;
  Duration connect_timeout = std::chrono::seconds(3);
  // The exchange is not wanted any more: ends Acquire, whatever it waits for, with kCancelled.
  CancelSlot cancel;
  // Out: it waits in the queue now.
  bool in_queue = false;
  // Out: the endpoint that was chosen, also when connecting to it failed.
  std::optional<std::size_t> endpoint;
  Duration queued = Duration::zero();
  Duration connecting = Duration::zero();
};

// For `status`.
struct EndpointStatus {
  std::string name;
  // Leased or being opened; kept for the next exchange.
  std::uint64_t in_flight = 0;
  std::uint64_t idle = 0;
  // Why it has no addresses; empty if it has.
  std::string failure;
};

// A named group of endpoints with their pools: chooses one, and lets exchanges wait in a bounded
// queue while all are full.
class Upstream {
 public:
  // `config` without the limits that Configure gives, and `tls`, which has what stood in files, are
  // what makes an upstream the same across a reload. `tls` is null if and only if `config` has
  // none.
  Upstream(Loop& loop, BufferPool& buffers, Resolver& resolver, Counters& counters,
           UpstreamConfig config, std::shared_ptr<ClientTls> tls);
  Upstream(const Upstream&) = delete;
  Upstream& operator=(const Upstream&) = delete;

  const UpstreamConfig& config() const { return config_; }
  const std::shared_ptr<ClientTls>& tls() const { return tls_; }
  // max_connections is set here from the configuration and `workers`: each has its share.
  void Configure(const DecoderLimits& limits, Duration idle, unsigned workers);
  const std::string& endpoint_name(std::size_t index) { return pools_[index]->endpoint().name(); }
  // Its index.
  std::optional<std::size_t> FindEndpoint(std::string_view name) const;
  bool HasRoomAt(std::size_t endpoint) const { return pools_[endpoint]->has_room(); }

  std::vector<EndpointStatus> Status() const;

  // A lease on an idle connection, at once; empty if it takes Acquire to get one.
  Lease TryAcquire(LeaseRequest& request);
  // A lease on a connection that somebody else has opened and left in the middle of an exchange,
  // also over the limit of the pool. `unread` as for SocketStream::Adopt; `shared`: see
  // SocketStream::EndForAll.
  Lease Adopt(std::size_t endpoint, UniqueFd fd, std::string_view unread, bool shared);
  // Whether it is a connection to one of the endpoint's addresses.
  bool IsAt(std::size_t endpoint, int fd) const;
  // Idle connections without TLS go to another process: takes one out of the pools; none if there
  // is none, or no descriptor is left.
  struct IdleUpstream {
    std::size_t endpoint = 0;
    UniqueFd fd;
    // How long it may still be idle.
    Duration patience = kNever;
  };
  std::optional<IdleUpstream> DetachIdle();
  // There, and on the way back. False, and it is closed: the pool has no room, or its connections
  // are not of that kind.
  bool AdoptIdle(IdleUpstream idle);

  // Waits for a place in the queue, a name, a connection: whatever it takes. Errors: kQueueFull,
  // kQueueTimeout, kUpstreamUnavailable and those of Pool::Open. `request` outlives the task.
  Task<Result<Lease>> Acquire(LeaseRequest& request);

 private:
  friend class Lease;
  class Loads;
  void GiveBack(std::size_t endpoint, std::unique_ptr<PooledConnection> connection);
  bool HasRoom() const;
  std::optional<std::size_t> Pick(const LeaseRequest& request);

  Loop& loop_;
  Counters& counters_;
  UpstreamConfig config_;
  std::shared_ptr<ClientTls> tls_;
  std::vector<std::unique_ptr<Pool>> pools_;
  WaitList queue_;
  std::size_t next_ = 0;
};

}  // namespace tidegate
