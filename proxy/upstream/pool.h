#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/buffer_pool.h"
#include "common/counters.h"
#include "proxy/http/h1_connection.h"
#include "proxy/net/client_tls.h"
#include "proxy/upstream/endpoint.h"

namespace tidegate {

class Pool;
class Upstream;

// A connection of a pool: in a lease, or idle.
struct PooledConnection {
  PooledConnection(Pool& pool, std::unique_ptr<Stream> stream, const DecoderLimits& limits,
                   TimerWheel& wheel);
  PooledConnection(const PooledConnection&) = delete;
  PooledConnection& operator=(const PooledConnection&) = delete;
  ~PooledConnection();
  void OnUseless();

  Pool& pool;
  H1ClientConnection http;
  // While idle: the endpoint would close it soon, and the request that meets the close would be
  // lost.
  Deadline idle_deadline;
};

// What connections of every pool are made with. A reload may change it; it holds from the next
// connection or exchange on.
struct PoolSettings {
  DecoderLimits limits;
  Duration idle = std::chrono::seconds(55);
  // Of this worker; kUnlimited: none.
  std::uint64_t max_connections = kUnlimited;
};

// The connections to one endpoint. The one used last is used first, so that what a burst opened
// grows old and goes. What an origin sends behind a complete answer must not become the answer of
// the next request: a connection that has not been polled since its last answer is used after all
// others, and only when the kernel has nothing for it.
class Pool {
 public:
  // `peer`: the endpoint with TLS; null without.
  Pool(Loop& loop, BufferPool& buffers, Resolver& resolver, Counters& counters,
       const EndpointConfig& config, std::shared_ptr<TlsPeer> peer);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  void Configure(const PoolSettings& settings) { settings_ = settings; }
  Endpoint& endpoint() { return endpoint_; }
  const Endpoint& endpoint() const { return endpoint_; }
  // Leased or being opened.
  std::uint64_t in_use() const { return in_use_; }
  bool has_room() const { return in_use_ < settings_.max_connections; }
  std::size_t idle() const { return idle_.size(); }

  // An idle connection, counted as in use from now on; null if there is none.
  std::unique_ptr<PooledConnection> TakeIdle();
  // Counts one as in use that Open will open; GiveBack ends it, whatever came of it.
  void Reserve() { ++in_use_; }
  // Opens the one that was reserved. Tries the addresses one after
  // the other. Errors: kUpstreamUnresolved, those of ConnectTo, kCancelled.
  Task<Result<std::unique_ptr<PooledConnection>>> Open(Duration timeout, CancelSlot& cancel);
  // Makes one of a descriptor that somebody else connected; it counts as the one that was reserved.
  std::unique_ptr<PooledConnection> Adopt(UniqueFd fd, std::string_view unread, bool shared);
  // See Upstream. `patience`: out.
  UniqueFd DetachIdle(Duration& patience);
  bool AdoptIdle(UniqueFd fd, Duration patience);
  // Ends the use of a connection; null for one that could not be opened. It is kept if it can be
  // used again.
  void GiveBack(std::unique_ptr<PooledConnection> connection);

 private:
  friend struct PooledConnection;
  void Forget(PooledConnection& connection);
  void NotePoll();

  Loop& loop_;
  BufferPool& buffers_;
  Counters& counters_;
  Endpoint endpoint_;
  std::shared_ptr<TlsPeer> peer_;
  PoolSettings settings_;
  // In the order of the turn of their last use; the first `polled_` of them have been polled since.
  std::vector<std::unique_ptr<PooledConnection>> idle_;
  std::size_t polled_ = 0;
  // Of the last GiveBack.
  std::uint64_t turn_ = 0;
  std::uint64_t in_use_ = 0;
  // Where the next connection begins among the addresses of the endpoint.
  std::size_t next_address_ = 0;
};

}  // namespace tidegate
