#include "proxy/session.h"

#include <utility>

#include "common/socket.h"

namespace tidegate {
namespace {

// How long, and for how many octets, we listen to a client that we have closed: closing with unread
// octets would reset the connection and could take the answer away that is still on its way (RFC
// 9112 section 9.6).
constexpr Duration kLingerTime = std::chrono::seconds(2);
constexpr std::uint64_t kLingerOctets = 4 * 1024 * 1024;
constexpr std::size_t kMaxUnusedExchanges = 256;

}  // namespace

Session::Session(Services& services, SessionList& list, UniqueFd fd, ClientInfo client)
    : services_(services),
      list_(list),
      client_(client),
      connection_(SocketStream::Adopt(services.loop, services.buffers, std::move(fd)),
                  services.snapshot->limits()),
      deadline_(services.loop.timers(), Bind<&Session::OnDeadline>(this)),
      opened_(services.loop.now()) {
  list_.Add(*this);
  services_.counters.Add(CounterId::kConnectionsAccepted);
  services_.counters.Add(CounterId::kConnectionsActive);
}

Session::~Session() {
  services_.counters.Subtract(CounterId::kConnectionsActive);
  list_.Remove(*this);
}

Task<void> Session::Run() {
  co_await ServeRequests();
  if (!connection_.aborted()) {
    co_await Linger();
  }
}

Task<void> Session::ServeRequests() {
  // The first request has the head timeout from the start; a kept connection may be quiet for
  // longer.
  Duration patience = services_.snapshot->config().timeouts.request_head;
  while (true) {
    state_ = State::kIdle;
    connection_.DropEmptyLines();
    if (!connection_.has_octets()) {
      deadline_.Arm(patience);
      do {
        co_await connection_.WaitForOctets();
      } while (connection_.DropEmptyLines());
    }
    if (!connection_.has_octets() || connection_.aborted()) {
      break;
    }
    std::shared_ptr<const Snapshot> snapshot = services_.snapshot;
    const TimeoutsConfig& timeouts = snapshot->config().timeouts;
    patience = timeouts.keepalive;
    state_ = State::kRequest;
    exchange_ = list_.TakeExchange();
    connection_.BeginRequest(exchange_->request(), snapshot->limits());
    // For the whole head: single octets do not move it (RFC 9112 section 9.5 leaves it to us).
    deadline_.Arm(timeouts.request_head);
    auto head = co_await connection_.ReadHead();
    deadline_.Disarm();
    if (closing_) {
      connection_.CloseWhenQuiet();
    }
    state_ = State::kResponse;
    if (head) {
      co_await exchange_->Run(std::move(snapshot), connection_, client_);
    } else {
      co_await exchange_->Reject(std::move(snapshot), connection_, client_, head.error());
    }
    bool reusable = connection_.reusable();
    octets_in_ += connection_.octets_in();
    octets_out_ += connection_.octets_out();
    connection_.EndRequest();
    list_.GiveExchange(std::move(exchange_));
    // The head of this answer may have gone before the stop began.
    bool unwanted = list_.closes_idle_ && !connection_.has_octets();
    if (!reusable || unwanted) {
      break;
    }
  }
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
    case State::kIdle:
      // What has come in the same turn is served.
      if (!connection_.has_octets()) {
        connection_.InterruptRead(Error(ErrorKind::kKeepaliveTimeout));
      }
      break;
    case State::kRequest:
      connection_.InterruptRead(
          Error(ErrorKind::kRequestHeadTimeout, "the request head took longer than request_head"));
      break;
    case State::kResponse:
    case State::kTunnel:
      break;
    case State::kClosing:
      connection_.Abort(Error(ErrorKind::kTimeout));
      break;
  }
}

Session::State Session::state() const {
  bool tunnel = exchange_ != nullptr && exchange_->state() == Exchange::State::kTunnel;
  return tunnel ? State::kTunnel : state_;
}

void Session::CloseAfterExchange() {
  closing_ = true;
  if (state_ == State::kResponse) {
    connection_.CloseWhenQuiet();
  }
}

void Session::ForceEnd(Error why) {
  switch (state_) {
    case State::kIdle:
    case State::kRequest:
      connection_.InterruptRead(std::move(why));
      break;
    case State::kResponse:
    case State::kTunnel:
      exchange_->ForceEnd(std::move(why));
      break;
    case State::kClosing:
      connection_.Abort(std::move(why));
      break;
  }
}

void SessionList::Add(Session& session) {
  session.id_ = next_id_++;
  session.closing_ = closing_;
  session.next_ = first_;
  if (first_ != nullptr) {
    first_->previous_ = &session;
  }
  first_ = &session;
  ++size_;
}

void SessionList::Remove(Session& session) {
  (session.previous_ != nullptr ? session.previous_->next_ : first_) = session.next_;
  if (session.next_ != nullptr) {
    session.next_->previous_ = session.previous_;
  }
  --size_;
}

void SessionList::CloseAfterExchange() {
  closing_ = true;
  ForEach([](Session& session) { session.CloseAfterExchange(); });
}

void SessionList::CloseIdle() {
  closes_idle_ = true;
  ForEach([](Session& session) {
    if (session.state() == Session::State::kIdle) {
      session.ForceEnd(Error(ErrorKind::kShutdown));
    }
  });
}

std::unique_ptr<Exchange> SessionList::TakeExchange() {
  if (unused_.empty()) {
    return std::make_unique<Exchange>(services_);
  }
  std::unique_ptr<Exchange> exchange = std::move(unused_.back());
  unused_.pop_back();
  return exchange;
}

void SessionList::GiveExchange(std::unique_ptr<Exchange> exchange) {
  if (unused_.size() < kMaxUnusedExchanges) {
    unused_.push_back(std::move(exchange));
  }
}

}  // namespace tidegate
