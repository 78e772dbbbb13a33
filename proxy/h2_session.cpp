#include "proxy/h2_session.h"

#include <utility>

#include "common/log.h"

namespace tidegate {
namespace {

// Exchanges that may run at a time. More than streams may be open: one that was reset a moment ago
// still has to hear of it.
constexpr std::size_t kMaxRunning = std::size_t{2} * H2Connection::kMaxStreams;
constexpr std::size_t kManyStreams = 64;
// A client that does not answer a PING by then has heard the GOAWAY, or never will.
constexpr Duration kStepPatience = std::chrono::seconds(2);
// As a session of HTTP/1 lingers.
constexpr Duration kLingerTime = std::chrono::seconds(2);
constexpr std::uint64_t kLingerOctets = 4 * 1024 * 1024;

}  // namespace

H2Session::H2Session(Services& services, ExchangeSupply& exchanges, std::unique_ptr<Stream> stream,
                     const ServedClient& client, Duration first_request)
    : services_(services),
      exchanges_(exchanges),
      client_(client),
      connection_(services.loop, services.buffers, std::move(stream), services.snapshot->limits(),
                  *this),
      idle_deadline_(services.loop.timers(), Bind<&H2Session::OnIdle>(this)),
      head_deadline_(services.loop.timers(), Bind<&H2Session::OnHeadTimeout>(this)),
      write_deadline_(services.loop.timers(), Bind<&H2Session::OnWriteTimeout>(this)),
      step_deadline_(services.loop.timers(), Bind<&H2Session::OnStepTimeout>(this)) {
  services_.counters.Add(CounterId::kH2Connections);
  idle_deadline_.Arm(first_request);
}

H2Session::~H2Session() = default;

Task<void> H2Session::Run() {
  connection_.Start();
  co_await finished_.Wait();
  phase_ = Phase::kEnding;
  idle_deadline_.Disarm();
  head_deadline_.Disarm();
  step_deadline_.Disarm();
  // What is left of them is told that the client has gone.
  co_await scope_.Join();
  write_deadline_.Disarm();
  LogEnd();
  if (!connection_.client_left()) {
    co_await Linger();
  }
  next_exchange_.reset();
}

Task<void> H2Session::Serve(std::unique_ptr<Exchange> exchange,
                            std::unique_ptr<H2ServerStream> stream, std::optional<Error> refused) {
  Running running{.exchange = *exchange, .next = first_};
  if (first_ != nullptr) {
    first_->previous = &running;
  }
  first_ = &running;
  // The client may have taken its request back before its turn came.
  if (!refused) {
    refused = stream->failure() ? stream->failure() : forced_;
  }
  if (refused) {
    co_await exchange->Reject(services_.snapshot, *stream, client_, *refused);
  } else {
    co_await exchange->Run(services_.snapshot, *stream, client_);
    // With an answer of ours the stream may end without a reset, or with one that says NO_ERROR;
    // one that says more is counted when it is sent (CVE-2025-8671).
    if (!stream->failure() && exchange->client_wasted_work() && phase_ < Phase::kEnding) {
      connection_.SpendOn(H2Abuse::kProvoked);
    }
    if (exchange->client_must_reconnect()) {
      RefuseNew();
    }
  }
  stream.reset();
  (running.previous != nullptr ? running.previous->next : first_) = running.next;
  if (running.next != nullptr) {
    running.next->previous = running.previous;
  }
  exchanges_.Give(std::move(exchange));
  CountEnd();
  if (running_count_ == 0 && phase_ < Phase::kEnding) {
    idle_deadline_.Arm(timeouts().keepalive);
  }
}

RequestHead* H2Session::NextHead() {
  const bool crowded =
      running_count_ > 0 && services_.h2_more_streams >= services_.most_h2_more_streams;
  if (crowded || running_count_ >= kMaxRunning || phase_ >= Phase::kEnding) {
    return nullptr;
  }
  if (next_exchange_ == nullptr) {
    next_exchange_ = exchanges_.Take();
  }
  return &next_exchange_->request();
}

void H2Session::OnRequest(std::unique_ptr<H2ServerStream> stream, std::optional<Error> refused) {
  ++requests_;
  services_.counters.Add(CounterId::kH2Streams);
  CountBegin();
  idle_deadline_.Disarm();
  scope_.Start(Serve(std::move(next_exchange_), std::move(stream), std::move(refused)));
}

void H2Session::CountBegin() {
  ++running_count_;
  ++services_.h2_streams;
  if (running_count_ > 1) {
    ++services_.h2_more_streams;
    if (services_.on_more_streams.function != nullptr) {
      services_.on_more_streams();
    }
  }
  if (running_count_ % kManyStreams == 0 && services_.on_many_streams.function != nullptr) {
    services_.on_many_streams();
  }
}

void H2Session::CountEnd() {
  --running_count_;
  --services_.h2_streams;
  if (running_count_ > 0) {
    --services_.h2_more_streams;
    if (services_.on_more_streams.function != nullptr) {
      services_.on_more_streams();
    }
  }
}

void H2Session::OnChange() {
  if (connection_.finished()) {
    finished_.Set();
  }
  if (phase_ == Phase::kLingering) {
    if (connection_.client_left() || connection_.octets_in() - linger_from_ > kLingerOctets) {
      linger_over_.Set();
    }
    return;
  }
  if (phase_ == Phase::kAnnounced && connection_.pinged()) {
    RefuseNew();
  }
  // For the whole head, CONTINUATION included: single octets do not move it.
  if (const std::uint64_t head = connection_.open_head(); head != timed_head_) {
    timed_head_ = head;
    head_deadline_.Arm(head != 0 ? timeouts().request_head : kNever);
  }
  if (!connection_.writing()) {
    write_deadline_.Disarm();
  } else if (!write_deadline_.armed()) {
    written_ = connection_.octets_written();
    write_deadline_.Arm(timeouts().write_idle);
  }
}

Task<void> H2Session::Linger() {
  phase_ = Phase::kLingering;
  linger_from_ = connection_.octets_in();
  // A drain may have armed it since our end was written, and it would reset.
  step_deadline_.Disarm();
  idle_deadline_.Arm(kLingerTime);
  connection_.BeginLinger();
  co_await linger_over_.Wait();
  idle_deadline_.Disarm();
}

// A client that was to blame for the end of its connection is in the log, though there may be no
// request that it could be told with.
void H2Session::LogEnd() {
  const std::optional<Error>& why = connection_.end_error() ? connection_.end_error() : timed_out_;
  if (!why) {
    return;
  }
  LogDebug("{}: {} on {}: {}", RowOf(why->kind()).log_name, client_.peer.view(), client_.listener,
           why->detail());
  ExchangeLog log(services_);
  log.FinishConnection(*services_.snapshot, client_, "HTTP/2.0", *why);
}

// --- The end.

void H2Session::CloseAfterExchanges() {
  if (phase_ != Phase::kServing) {
    return;
  }
  phase_ = Phase::kAnnounced;
  connection_.AnnounceEnd();
  step_deadline_.Arm(kStepPatience);
}

void H2Session::RefuseNew() {
  if (phase_ >= Phase::kRefusing) {
    return;
  }
  phase_ = Phase::kRefusing;
  step_deadline_.Disarm();
  connection_.RefuseNew();
}

bool H2Session::has_tunnel() const {
  for (const Running* each = first_; each != nullptr; each = each->next) {
    if (each->exchange.state() == Exchange::State::kTunnel) {
      return true;
    }
  }
  return false;
}

std::uint64_t H2Session::ForceEnd(const Error& why, Ending what) {
  if (phase_ == Phase::kLingering) {
    if (what != Ending::kTunnels) {
      connection_.Close(why, false);
    }
    return 0;
  }
  std::uint64_t ended = 0;
  bool left = false;
  for (Running* each = first_; each != nullptr; each = each->next) {
    const bool is_tunnel = each->exchange.state() == Exchange::State::kTunnel;
    if (what != Ending::kAll && is_tunnel != (what == Ending::kTunnels)) {
      left = true;
      continue;
    }
    ++ended;
    each->exchange.ForceEnd(why);
  }
  if (what != Ending::kTunnels) {
    forced_ = why;
  }
  if (!left && what != Ending::kTunnels) {
    RefuseNew();
    // Also of a client that reads nothing of it.
    step_deadline_.Arm(kStepPatience);
  }
  return ended;
}

void H2Session::OnIdle() {
  if (phase_ == Phase::kLingering) {
    connection_.Close(Error(ErrorKind::kTimeout), false);
    return;
  }
  if (connection_.open_head() != 0 || timed_out_) {
    // A head has a time of its own, which may have come in the same turn.
    return;
  }
  if (!connection_.greeted()) {
    timed_out_ = Error(ErrorKind::kH2PrefaceTimeout, "no preface and SETTINGS within request_head");
  } else if (requests_ == 0) {
    timed_out_ = Error(ErrorKind::kKeepaliveTimeout, "no request within request_head");
  }
  RefuseNew();
  step_deadline_.Arm(kStepPatience);
}

void H2Session::OnHeadTimeout() {
  timed_out_ =
      Error(ErrorKind::kRequestHeadTimeout, "the request head took longer than request_head");
  connection_.End(NGHTTP2_ENHANCE_YOUR_CALM,
                  Error(ErrorKind::kClientClosed, "another head of the connection took too long"));
}

void H2Session::OnWriteTimeout() {
  if (connection_.octets_written() > written_) {
    written_ = connection_.octets_written();
    write_deadline_.Arm(timeouts().write_idle);
    return;
  }
  timed_out_ = Error(ErrorKind::kWriteIdleTimeout, "the client took nothing within write_idle");
  // What it has not taken would stay in the kernel for minutes.
  connection_.Close(*timed_out_, true);
}

void H2Session::OnStepTimeout() {
  if (phase_ == Phase::kAnnounced) {
    RefuseNew();
    return;
  }
  connection_.Close(forced_.value_or(Error(ErrorKind::kTimeout)), true);
}

}  // namespace tidegate
