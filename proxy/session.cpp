#include "proxy/session.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "common/socket.h"
#include "common/timed_wait.h"

namespace tidegate {
namespace {

// How long, and for how many octets, we listen to a client that we have closed: closing with unread
// octets would reset the connection and could take the answer away that is still on its way (RFC
// 9112 section 9.6).
constexpr Duration kLingerTime = std::chrono::seconds(2);
constexpr std::uint64_t kLingerOctets = 4 * 1024 * 1024;
// A client that goes on reading, or loads the rest of a page, has asked again by then.
constexpr Duration kParkAfter = std::chrono::seconds(5);
// A client that has just connected, or made a handshake, while we stop has its request at hand, one
// round trip and a lost packet away. One that connected in advance has none, and would hold the
// stop up.
constexpr Duration kStopPatience = std::chrono::seconds(2);
constexpr Duration kLastLook = std::chrono::milliseconds(1);

}  // namespace

// The first request has the head timeout from the start; a kept connection may be quiet for longer.
Session::Session(Services& services, SessionList& list, UniqueFd fd, ClientInfo client,
                 const std::shared_ptr<const ServerTls>& tls)
    : Session(services, list,
              IdleConnection{
                  .fd = std::move(fd),
                  .client = client,
                  .id = list.next_id_++,
                  .opened = services.loop.now(),
                  .quiet_until = IdleConnection::After(
                      services.loop.now(), services.snapshot->config().timeouts.request_head)},
              tls, {}) {
  services_.counters.Add(CounterId::kConnectionsAccepted);
  services_.counters.Add(CounterId::kConnectionsActive);
}

Session::Session(Services& services, SessionList& list, IdleConnection connection)
    : Session(services, list, std::move(connection), nullptr, {}) {}

Session::Session(Services& services, SessionList& list, MovingConnection connection)
    : Session(services, list, std::move(connection.idle), nullptr, connection.unread) {
  tunnel_ = std::move(connection.tunnel);
  state_ = tunnel_ != nullptr ? State::kTunnel : State::kIdle;
}

Session::Session(Services& services, SessionList& list, IdleConnection connection,
                 const std::shared_ptr<const ServerTls>& tls, std::string_view unread)
    : services_(services),
      list_(list),
      client_(connection.client),
      connection_(MakeStream(connection, tls, unread), services.snapshot->limits()),
      deadline_(services.loop.timers(), Bind<&Session::OnDeadline>(this)),
      id_(connection.id),
      opened_(connection.opened),
      may_ask_since_(connection.opened),
      octets_in_(connection.octets_in),
      octets_out_(connection.octets_out),
      patience_(connection.Patience(services.loop.now())),
      state_(tls != nullptr ? State::kHandshake : State::kIdle),
      stays_(connection.stays),
      shared_(connection.shared),
      hand_overs_(connection.hand_overs) {
  list_.Add(*this);
}

std::unique_ptr<Stream> Session::MakeStream(IdleConnection& connection,
                                            const std::shared_ptr<const ServerTls>& tls,
                                            std::string_view unread) {
  auto socket =
      SocketStream::Adopt(services_.loop, services_.buffers, std::move(connection.fd), unread);
  if (connection.shared) {
    socket->EndForAll();
  }
  std::unique_ptr<TlsStream> stream;
  if (tls != nullptr) {
    stream = TlsStream::Accept(services_.loop, services_.buffers, services_.handshakes,
                               std::move(socket), tls,
                               services_.snapshot->config().timeouts.tls_handshake);
  } else if (connection.tls != nullptr) {
    IdleTls& idle = *connection.tls;
    client_.SetCertificate(std::move(idle.certificate));
    stream = TlsStream::Resume(services_.loop, services_.buffers, std::move(socket),
                               std::move(idle.ssl), std::move(idle.settings));
  } else {
    return socket;
  }
  tls_ = stream.get();
  return stream;
}

Session::~Session() {
  if (state_ != State::kParked) {
    services_.counters.Subtract(CounterId::kConnectionsActive);
    list_.Remove(*this);
  }
}

Task<void> Session::Run() {
  bool http2 = false;
  if (tunnel_ != nullptr) {
    co_await ServeTunnel();
  } else {
    if (state_ == State::kHandshake) {
      http2 = co_await AwaitHandshake();
    } else {
      http2 = !client_.Speaks(Protocol::kH1);
    }
    if (!http2) {
      http2 = co_await ServeRequests();
    }
  }
  if (http2) {
    co_await ServeHttp2();
  } else if (state_ != State::kParked && !connection_.aborted()) {
    co_await Linger();
  }
}

Task<void> Session::ServeHttp2() {
  // A stop may have armed it during the handshake.
  deadline_.Disarm();
  tls_ = nullptr;
  h2_ = std::make_unique<H2Session>(services_, list_.exchanges_, connection_.TakeStream(), client_,
                                    patience_);
  if (list_.closing()) {
    h2_->CloseAfterExchanges();
  }
  co_await h2_->Run();
}

Task<void> Session::ServeTunnel() {
  state_ = State::kResponse;
  const std::unique_ptr<MovingTunnel> tunnel = std::move(tunnel_);
  exchange_ = std::move(tunnel->exchange);
  co_await exchange_->ContinueTunnel(connection_, client_, *tunnel);
  EndExchange();
}

Task<bool> Session::AwaitHandshake() {
  while (!tls_->handshake_done() && connection_.quiet()) {
    co_await connection_.WaitForAnything();
  }
  if (tls_->handshake_done()) {
    const TlsInfo info = tls_->info();
    client_.tls = info.version;
    KeepCertificate();
    services_.counters.Add(CounterId::kTlsHandshakes);
    services_.counters.Add(CounterId::kTlsResumed, info.resumed ? 1 : 0);
    // The time for the first request begins here.
    may_ask_since_ = services_.loop.now();
    const Duration head_time = services_.snapshot->config().timeouts.request_head;
    patience_ = list_.closes_idle_ ? std::min(head_time, kStopPatience) : head_time;
    // Without ALPN it is what the listener speaks.
    co_return info.alpn == "h2" || (info.alpn.empty() && !client_.Speaks(Protocol::kH1));
  }
  services_.counters.Add(CounterId::kTlsHandshakesFailed);
  const Error error = tls_->handshake_error().value_or(Error(ErrorKind::kTlsHandshakeFailed));
  services_.counters.Add(CounterId::kTlsHandshakesEvicted,
                         error.kind() == ErrorKind::kTlsHandshakeEvicted ? 1 : 0);
  LogDebug("{}: {} on {}: {}", RowOf(error.kind()).log_name, client_.peer.view(), client_.listener,
           error.ToString());
  co_return false;
}

// Kept whether or not upstreams are told of it now: a reload may want them to be, or ask for
// others.
void Session::KeepCertificate() {
  if (auto peer = tls_->peer_certificate()) {
    client_.SetCertificate(std::make_unique<const ClientCertificate>(*peer));
  }
}

// RFC 9113 section 3.4. No request of HTTP/1 has a method that begins so.
Task<bool> Session::SeesPreface() {
  constexpr std::string_view kPreface = "PRI";
  state_ = State::kRequest;
  deadline_.Arm(services_.snapshot->config().timeouts.request_head);
  bool sees = false;
  while (true) {
    const std::span<char> octets = connection_.stream().readable();
    const std::string_view start(octets.data(), std::min(octets.size(), kPreface.size()));
    sees = start == kPreface;
    if (sees || !kPreface.starts_with(start) || !connection_.may_grow()) {
      break;
    }
    co_await connection_.WaitForGrowth();
  }
  deadline_.Disarm();
  co_return sees;
}

Task<bool> Session::ServeRequests() {
  connection_.DropEmptyLines();
  while (true) {
    state_ = State::kIdle;
    if ((leaving_ || list_.MoverHasRoom()) && MoveIdle()) {
      break;
    }
    if (!connection_.has_octets()) {
      deadline_.Arm(std::min(patience_, kParkAfter));
      do {
        co_await connection_.WaitForOctets();
      } while (connection_.DropEmptyLines());
    }
    if (leaving_) {
      // The loop begins with that; if it stays, it has no more time than before.
      patience_ = PatienceLeft();
      deadline_.Disarm();
      continue;
    }
    if (!connection_.has_octets() || connection_.aborted()) {
      // Quiet: it was the deadline that ended the wait.
      if (connection_.quiet() && !Park()) {
        continue;
      }
      break;
    }
    // Of the time for the head, in which a preface could have come.
    Duration spent{};
    if (client_.Speaks(Protocol::kH2c)) [[unlikely]] {
      const TimePoint began = services_.loop.now();
      const Duration head_time = services_.snapshot->config().timeouts.request_head;
      bool http2 = co_await SeesPreface();
      if (http2) {
        // The first octets of the preface have had their part of it.
        patience_ = std::max(head_time - Duration(services_.loop.now() - began), Duration(1));
        co_return true;
      }
      // From now on it is known, also when it is parked.
      client_.speaks = ClientInfo::SpeaksBit(Protocol::kH1);
      spent = Duration(services_.loop.now() - began);
    }
    std::shared_ptr<const Snapshot> snapshot = services_.snapshot;
    const TimeoutsConfig& timeouts = snapshot->config().timeouts;
    patience_ = timeouts.keepalive;
    state_ = State::kRequest;
    exchange_ = list_.exchanges_.Take();
    connection_.BeginRequest(exchange_->request(), snapshot->limits());
    // For the whole head: single octets do not move it (RFC 9112 section 9.5 leaves it to us).
    // kNever less some time is as good as never.
    auto head =
        co_await TimedWait(deadline_, timeouts.request_head - spent, connection_.ReadHead());
    if (closing_) {
      connection_.CloseWhenQuiet();
    }
    state_ = State::kResponse;
    if (head) {
      co_await exchange_->Run(std::move(snapshot), connection_, client_);
    } else {
      co_await exchange_->Reject(std::move(snapshot), connection_, client_, head.error());
    }
    if (!EndExchange()) {
      break;
    }
  }
  co_return false;
}

bool Session::EndExchange() {
  octets_in_ += connection_.octets_in();
  octets_out_ += connection_.octets_out();
  if (exchange_->state() == Exchange::State::kMoving) {
    MoveTunnel();
    return false;
  }
  bool reusable = connection_.reusable();
  connection_.EndRequest();
  list_.exchanges_.Give(std::move(exchange_));
  connection_.DropEmptyLines();
  // The head of this answer may have gone before the stop began.
  bool unwanted = list_.closes_idle_ && !connection_.has_octets();
  return reusable && !unwanted;
}

// False: it stays a session and waits on for what is left of its patience. From a success on the
// parking has the connection, and nobody finds this session any more.
bool Session::Park() {
  if (patience_ != kNever) {
    patience_ -= kParkAfter;
  }
  IdleConnection idle = Description();
  if (closing_ || !Detach(idle)) {
    return false;
  }
  state_ = State::kParked;
  list_.Remove(*this);
  list_.parking_.Park(std::move(idle));
  return true;
}

Duration Session::PatienceLeft() const {
  if (patience_ == kNever || !deadline_.armed()) {
    return patience_;
  }
  // It was armed for the first part of it.
  return patience_ - std::min(patience_, kParkAfter) + deadline_.left();
}

IdleConnection Session::Description() const {
  return {.client = client_.info(),
          .id = id_,
          .shared = shared_,
          .stays = stays_,
          .hand_overs = hand_overs_,
          .opened = opened_,
          .octets_in = octets_in_,
          .octets_out = octets_out_,
          .quiet_until = IdleConnection::After(services_.loop.now(), PatienceLeft())};
}

bool Session::MoveIdle() {
  const bool was_asked = std::exchange(leaving_, false);
  Stream& stream = connection_.stream();
  UniqueFd fd = movable() && !closing_ && connection_.may_grow() ? stream.Duplicate() : UniqueFd();
  if (!fd) {
    if (was_asked) {
      list_.mover_->OnRefused();
    }
    return false;
  }
  MovingConnection moving{.idle = Description(), .unread = {}, .tunnel = nullptr};
  moving.idle.fd = std::move(fd);
  moving.unread.assign(stream.readable().begin(), stream.readable().end());
  stream.Close(false);
  state_ = State::kParked;
  list_.Remove(*this);
  list_.mover_->Take(std::move(moving), was_asked);
  return true;
}

void Session::MoveTunnel() {
  auto tunnel = std::make_unique<MovingTunnel>();
  static_cast<TunnelRest&>(*tunnel) = std::move(*ends_);
  tunnel->exchange = std::move(exchange_);
  MovingConnection moving{
      .idle = Description(), .unread = std::move(ends_->to_upstream), .tunnel = std::move(tunnel)};
  moving.idle.fd = std::move(ends_->client);
  state_ = State::kParked;
  list_.Remove(*this);
  list_.mover_->Take(std::move(moving), true);
}

bool Session::Leave() {
  if (!movable() || closing_ || leaving_ || ends_ != nullptr || tunnel_ != nullptr) {
    return false;
  }
  if (state() == State::kTunnel) {
    auto ends = exchange_->LeaveTunnel();
    if (ends) {
      ends_ = std::make_unique<Exchange::TunnelEnds>(std::move(*ends));
    }
    return ends.has_value();
  }
  if (state_ != State::kIdle || !connection_.quiet()) {
    return false;
  }
  leaving_ = true;
  connection_.EndWait();
  return true;
}

bool Session::Detach(IdleConnection& idle) {
  if (tls_ == nullptr) {
    idle.fd = connection_.stream().Detach();
  } else if (auto detached = tls_->DetachTls()) {
    idle.fd = std::move(detached->fd);
    idle.tls = std::make_unique<IdleTls>(std::move(detached->settings), std::move(detached->ssl),
                                         client_.TakeCertificate());
  }
  return static_cast<bool>(idle.fd);
}

// Our side is closed first; the client's octets are thrown away until it closes too.
Task<void> Session::Linger() {
  state_ = State::kClosing;
  if (connection_.client_closed_cleanly()) {
    co_return;
  }
  connection_.BeginLinger();
  deadline_.Arm(kLingerTime);
  std::uint64_t octets = 0;
  while (octets < kLingerOctets) {
    auto chunk = co_await connection_.ReadBody();
    if (!chunk || chunk->last) {
      break;
    }
    octets += chunk->data.size();
  }
  deadline_.Disarm();
}

void Session::OnDeadline() {
  switch (state_) {
    case State::kHandshake:
      // Only a stop arms it; a handshake that has begun has its own time.
      if (!tls_->has_heard()) {
        ForceEnd(Error(ErrorKind::kShutdown));
      }
      break;
    case State::kIdle:
      if (patience_ > kParkAfter) {
        connection_.EndWait();
      } else if (!connection_.has_octets()) {
        // What has come in the same turn is served.
        connection_.InterruptRead(Error(ErrorKind::kKeepaliveTimeout));
      }
      break;
    case State::kRequest:
      connection_.InterruptRead(
          Error(ErrorKind::kRequestHeadTimeout, "the request head took longer than request_head"));
      break;
    case State::kResponse:
    case State::kTunnel:
    case State::kParked:
      break;
    case State::kClosing:
      connection_.Abort(Error(ErrorKind::kTimeout));
      break;
  }
}

Session::State Session::state() const {
  if (h2_ != nullptr) {
    return h2_->closing()      ? State::kClosing
           : h2_->idle()       ? State::kIdle
           : h2_->has_tunnel() ? State::kTunnel
                               : State::kResponse;
  }
  bool tunnel = exchange_ != nullptr && exchange_->state() == Exchange::State::kTunnel;
  return tunnel ? State::kTunnel : state_;
}

void Session::CloseAfterExchange() {
  closing_ = true;
  if (h2_ != nullptr) {
    h2_->CloseAfterExchanges();
  } else if (state_ == State::kResponse) {
    connection_.CloseWhenQuiet();
  }
}

Duration Session::PatienceAtStop() const {
  const Duration waited(services_.loop.now() - may_ask_since_);
  return octets_in_ == 0 ? std::max(kStopPatience - waited, kLastLook) : kLastLook;
}

void Session::CloseNow() {
  if (h2_ != nullptr) {
    h2_->CloseAfterExchanges();
  } else if (state_ == State::kIdle) {
    // One that was parked or taken back a moment ago has not looked yet: a request may wait in the
    // kernel, for as long as a batch took. The next poll comes before the deadline.
    patience_ = std::min(PatienceLeft(), PatienceAtStop());
    deadline_.Arm(patience_);
  } else if (state_ == State::kHandshake && !tls_->has_heard()) {
    deadline_.Arm(PatienceAtStop());
  }
}

std::uint64_t Session::ForceEnd(Error why, Ending what) {
  if (h2_ != nullptr) {
    return h2_->ForceEnd(why, what);
  }
  if (what != Ending::kAll && (state() == State::kTunnel) != (what == Ending::kTunnels)) {
    return 0;
  }
  if (tunnel_ != nullptr) {
    // Its task has not begun.
    tunnel_->end = std::move(why);
    return 1;
  }
  if (exchange_ != nullptr && exchange_->state() == Exchange::State::kMoving) {
    return 0;
  }
  switch (state_) {
    case State::kHandshake:
    case State::kIdle:
      connection_.InterruptRead(std::move(why));
      return 0;
    case State::kRequest:
      connection_.InterruptRead(std::move(why));
      return 1;
    case State::kResponse:
    case State::kTunnel:
      exchange_->ForceEnd(std::move(why));
      return 1;
    case State::kClosing:
      connection_.Abort(std::move(why));
      return 0;
    case State::kParked:
      return 0;
  }
  return 0;
}

void SessionList::Add(Session& session) {
  session.closing_ = closing_ && !(moves_ && session.movable());
  session.next_ = first_;
  if (first_ != nullptr) {
    first_->previous_ = &session;
  }
  first_ = &session;
  ++session_count_;
}

void SessionList::Remove(Session& session) {
  (session.previous_ != nullptr ? session.previous_->next_ : first_) = session.next_;
  if (session.next_ != nullptr) {
    session.next_->previous_ = session.previous_;
  }
  --session_count_;
}

void SessionList::CloseAfterExchange() {
  closing_ = true;
  moves_ = false;
  ForEach([](Session& session) { session.CloseAfterExchange(); });
}

void SessionList::CloseOrMove(SessionMover& mover) {
  closing_ = moves_ = true;
  mover_ = &mover;
  ForEach([](Session& session) {
    if (session.movable()) {
      session.closing_ = false;
    } else {
      session.CloseAfterExchange();
    }
  });
}

void SessionList::CloseIdle() {
  closes_idle_ = true;
  parking_.ResumeAll();
  ForEach([](Session& session) { session.CloseNow(); });
}

}  // namespace tidegate
