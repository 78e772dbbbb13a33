#include "proxy/upstream/pool.h"

#include <algorithm>
#include <utility>

#include "common/socket.h"
#include "proxy/upstream/connect.h"

namespace tidegate {
PooledConnection::PooledConnection(Pool& owner, std::unique_ptr<Stream> stream,
                                   const DecoderLimits& limits, TimerWheel& wheel)
    : pool(owner),
      http(std::move(stream), limits),
      idle_deadline(wheel, Bind<&PooledConnection::OnUseless>(this)) {
  pool.counters_.Add(CounterId::kUpstreamConnections);
}

PooledConnection::~PooledConnection() {
  pool.counters_.Subtract(CounterId::kUpstreamConnections);
}

void PooledConnection::OnUseless() {
  pool.Forget(*this);
}

Pool::Pool(Loop& loop, BufferPool& buffers, Resolver& resolver, Counters& counters,
           const EndpointConfig& config, std::shared_ptr<TlsPeer> peer)
    : loop_(loop),
      buffers_(buffers),
      counters_(counters),
      endpoint_(loop, resolver, config),
      peer_(std::move(peer)) {}

Pool::~Pool() {
  TG_CHECK(in_use_ == 0);
}

void Pool::NotePoll() {
  if (turn_ != loop_.turn()) {
    turn_ = loop_.turn();
    polled_ = idle_.size();
  }
}

std::unique_ptr<PooledConnection> Pool::TakeIdle() {
  NotePoll();
  while (!idle_.empty()) {
    bool polled = polled_ > 0;
    if (polled) {
      // Those given back in this turn are all of the same age: the last of them takes the place.
      std::swap(idle_[--polled_], idle_.back());
    }
    std::unique_ptr<PooledConnection> connection = std::move(idle_.back());
    idle_.pop_back();
    if (polled || connection->http.IsQuiet()) {
      connection->idle_deadline.Disarm();
      ++in_use_;
      return connection;
    }
  }
  return nullptr;
}

Task<Result<std::unique_ptr<PooledConnection>>> Pool::Open(Duration timeout, CancelSlot& cancel) {
  TimePoint start = loop_.now();
  auto left = [&] { return timeout == kNever ? kNever : timeout - Duration(loop_.now() - start); };
  if (endpoint_.Addresses().empty() && endpoint_.resolving()) {
    auto resolving = endpoint_.Resolved(timeout);
    cancel.Set(Bind<&WaitList::Awaiter::Cancel>(&resolving));
    auto resolved = co_await resolving;
    cancel.Clear();
    if (!resolved) {
      co_return Fail(cancel.cancelled() ? ErrorKind::kCancelled : ErrorKind::kUpstreamUnresolved,
                     "no answer yet for the name of " + endpoint_.name());
    }
  }
  // A copy: a refresh may replace the addresses while we wait for one of them.
  std::span<const SocketAddress> known = endpoint_.Addresses();
  std::vector<SocketAddress> addresses(known.begin(), known.end());
  if (addresses.empty()) {
    co_return Fail(ErrorKind::kUpstreamUnresolved, endpoint_.name() + ": " + endpoint_.failure());
  }
  std::size_t first = next_address_++;
  std::optional<Error> last_error;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    Duration wait = left();
    if (cancel.cancelled()) {
      co_return Fail(ErrorKind::kCancelled, "not wanted any more");
    }
    if (wait <= Duration::zero()) {
      break;
    }
    const SocketAddress& address = addresses[(first + i) % addresses.size()];
    auto stream = co_await ConnectTo(loop_, buffers_, counters_, address, peer_, wait, cancel);
    if (cancel.cancelled()) {
      co_return Fail(ErrorKind::kCancelled, "not wanted any more");
    }
    if (stream) {
      counters_.Add(CounterId::kUpstreamConnects);
      co_return std::make_unique<PooledConnection>(*this, std::move(*stream), settings_.limits,
                                                   loop_.timers());
    }
    last_error = std::move(stream).error();
  }
  if (!last_error) {
    last_error = Error(ErrorKind::kUpstreamConnectTimeout, "no answer to connect");
  }
  co_return Fail(Error(*last_error));
}

std::unique_ptr<PooledConnection> Pool::Adopt(UniqueFd fd, std::string_view unread, bool shared) {
  auto stream = SocketStream::Adopt(loop_, buffers_, std::move(fd), unread);
  if (shared) {
    stream->EndForAll();
  }
  return std::make_unique<PooledConnection>(*this, std::move(stream), settings_.limits,
                                            loop_.timers());
}

// The one that would be used last.
UniqueFd Pool::DetachIdle(Duration& patience) {
  NotePoll();
  while (!idle_.empty() && peer_ == nullptr) {
    PooledConnection& oldest = *idle_.front();
    patience = oldest.idle_deadline.left();
    const bool is_quiet = oldest.http.IsQuiet();
    UniqueFd fd = is_quiet ? oldest.http.stream().Detach() : UniqueFd();
    if (is_quiet && !fd) {
      break;
    }
    Forget(oldest);
    if (fd) {
      return fd;
    }
  }
  return {};
}

bool Pool::AdoptIdle(UniqueFd fd, Duration patience) {
  if (settings_.idle <= Duration::zero() || in_use_ + idle_.size() >= settings_.max_connections) {
    return false;
  }
  Reserve();
  GiveBack(Adopt(std::move(fd), {}, false));
  // What its end would be without us, and no later than ours.
  idle_.back()->idle_deadline.Arm(std::min(patience, settings_.idle));
  return true;
}

void Pool::GiveBack(std::unique_ptr<PooledConnection> connection) {
  TG_CHECK(in_use_ > 0);
  --in_use_;
  if (connection == nullptr || !connection->http.reusable() || settings_.idle <= Duration::zero() ||
      in_use_ + idle_.size() >= settings_.max_connections) {
    return;
  }
  connection->http.SetIdle(Bind<&PooledConnection::OnUseless>(connection.get()));
  connection->idle_deadline.Arm(settings_.idle);
  NotePoll();
  idle_.push_back(std::move(connection));
}

void Pool::Forget(PooledConnection& connection) {
  auto same = [&](const auto& each) { return each.get() == &connection; };
  auto found = std::find_if(idle_.begin(), idle_.end(), same);
  TG_CHECK(found != idle_.end());
  // Moved out first: the destructor must not run inside the vector's erase.
  std::unique_ptr<PooledConnection> gone = std::move(*found);
  polled_ -= found - idle_.begin() < static_cast<std::ptrdiff_t>(polled_) ? 1 : 0;
  idle_.erase(found);
}

}  // namespace tidegate
