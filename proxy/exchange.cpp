// THE STORY of one request and its answer:
//
//   Run      prepare (route, limits, header rules), then answer ourselves, or forward: for each
//            attempt take a lease, make the attempt, decide whether to try again; log and count
//   Attempt  send the request, read the final head, relay the answer; upload and answer run beside
//            each other
//
//   1. Every exchange ends with an answer that is complete, or with a connection that visibly
//   broke.
//   2. Whatever waits has one named deadline, armed only while it waits.
//   3. The first failure is the reason; what fails because of it is not.
//   4. Nothing is tried again after an octet of the answer, and only what retry.h allows before.

#include "proxy/exchange.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "common/timed_wait.h"
#include "proxy/retry.h"

namespace tidegate {

Exchange::Exchange(Services& services)
    : services_(services),
      log_(services),
      answer_deadline_(services.loop.timers(), Bind<&Exchange::OnAnswerTimeout>(this)),
      body_deadline_(services.loop.timers(), Bind<&Exchange::OnBodyTimeout>(this)),
      write_watch_(services.loop.timers(), Bind<&Exchange::OnWriteTimeout>(this)),
      upload_watch_(services.loop.timers(), Bind<&Exchange::OnUploadTimeout>(this)),
      tunnel_deadline_(services.loop.timers(), Bind<&Exchange::OnTunnelTimeout>(this)) {}

Task<void> Exchange::Run(std::shared_ptr<const Snapshot> snapshot, ServerStream& downstream,
                         const ServedClient& client) {
  Begin(std::move(snapshot), downstream, client);
  Result<> prepared = Prepare();
  if (!prepared) {
    FailWith(std::move(prepared).error());
  } else if (to_https_ || answer_options_ ||
             !std::holds_alternative<ForwardAction>(route_->action)) {
    co_await AnswerLocally();
  } else {
    Upstream& upstream = snapshot_->UpstreamOf(*route_);
    lease_request_.connect_timeout = timeouts_->upstream_connect;
    do {
      ++log_.record().attempts;
      lease_ = upstream.TryAcquire(lease_request_);
      if (!lease_) {
        auto acquired = co_await upstream.Acquire(lease_request_);
        if (acquired) {
          lease_ = std::move(*acquired);
        } else {
          FailWith(std::move(acquired).error());
        }
      }
      // The client may have gone while we waited for the lease.
      if (lease_ && !failure_) {
        co_await Attempt();
        upstream_ = nullptr;
      }
    } while (failure_ && BeginRetry());
    lease_.GiveBack();
  }
  if (state_ == State::kMoving) {
    co_return;
  }
  if (failure_) {
    co_await AnswerFailure();
  }
  Finish();
}

Task<void> Exchange::Reject(std::shared_ptr<const Snapshot> snapshot, ServerStream& downstream,
                            const ServedClient& client, Error why) {
  Begin(std::move(snapshot), downstream, client);
  FailWith(std::move(why));
  co_await AnswerFailure();
  Finish();
}

// Who asks, what for, and whether we serve that: everything that needs no upstream.
Result<> Exchange::Prepare() {
  if (rules_ != nullptr && !rules_->IsVerified(*client_)) {
    return Fail(
        ErrorKind::kClientVerificationChanged,
        "the connection was verified before the listener's client_ca or client_auth changed");
  }
  Router::Match match = snapshot_->router().Find(request_);
  if (rules_ != nullptr && rules_->SendsToHttps(request_, *client_, match.route)) {
    auto redirect = rules_->HttpsRedirect(request_);
    if (!redirect) {
      return Fail(std::move(redirect).error());
    }
    to_https_ = std::move(*redirect);
    return {};
  }
  if (match.route == nullptr) {
    if (match.method_mismatch) {
      allow_ = std::move(match.allow);
      return Fail(ErrorKind::kMethodNotAllowed, "the route takes " + allow_);
    }
    return Fail(ErrorKind::kNoRoute, "no route matches");
  }
  route_ = match.route;
  timeouts_ = &route_->timeouts;
  body_pace_ = BodyPace(timeouts_->body_idle, timeouts_->body_min_rate);
  if (request_.body == BodyKind::kLength && request_.content_length > route_->max_body) {
    return Fail(ErrorKind::kBodyTooLarge, "content-length is over max_body");
  }
  // In HTTP/1.1 no framing means no body (RFC 9112 section 6.3); in HTTP/1.0 it means that we
  // cannot know.
  bool carries_body = request_.method == Method::kPost || request_.method == Method::kPut ||
                      request_.method == Method::kPatch;
  if (request_.minor_version == 0 && carries_body && request_.body == BodyKind::kNone) {
    return Fail(ErrorKind::kLengthRequired, "an HTTP/1.0 body needs a content-length");
  }
  auto hop = CountHop(request_, *route_);
  if (!hop) {
    return Fail(std::move(hop).error());
  }
  answer_options_ = *hop == HopDecision::kAnswer;
  if (HasRequestBody()) {
    request_.upgrade = {};
  }
  RewriteRequest(request_, *route_, snapshot_->config().forwarded, *client_, log_.request_id(),
                 rules_);
  return {};
}

Task<void> Exchange::Attempt() {
  upstream_ = &lease_.stream();
  final_head_read_ = upload_stopped_ = false;
  log_.record().reused = lease_.reused();
  lease_.stream().BeginExchange(response_);
  TaskScope scope;
  if (HasRequestBody()) {
    upload_running_ = true;
    scope.Start(SendBody());
  } else {
    auto sending = upstream_->WriteHead(request_, {}, true);
    auto sent = co_await upload_watch_.Wait(sending, timeouts_->write_idle);
    if (!sent) {
      FailWith(std::move(sent).error());
    }
  }
  if (!failure_) {
    if (!HasRequestBody()) {
      answer_deadline_.Arm(timeouts_->upstream_response);
    }
    auto head = co_await upstream_->ReadHead();
    if (!head) {
      FailWith(std::move(head).error());
    } else if (response_.IsInterim()) {
      co_await PassInterimHeads();
    }
    OnFinalHead();
  }
  if (!failure_ && response_.status == 101) {
    co_await RunTunnel(scope);
  } else if (!failure_) {
    BodyChunk first = FirstOfAnswer();
    if (!failure_) {
      auto writing = downstream_->WriteHead(response_, first.data, first.last);
      auto written = co_await write_watch_.Wait(writing, timeouts_->write_idle);
      if (!written) {
        FailWith(std::move(written).error());
      } else if (!first.last) {
        co_await RelayBody();
      }
    }
  }
  if (upload_running_) {
    StopUpload();
  }
  co_await scope.Join();
}

// The request upwards, head and body. Ends when the body does, or when nobody wants it any more.
Task<void> Exchange::SendBody() {
  bool head_sent = false;
  BodyChunk chunk;
  while (!chunk.last && !upload_stopped_) {
    // On a second attempt a small body may have been read to its end already.
    chunk = {body_at_hand_, body_read_};
    if (!body_read_ && (head_sent || downstream_->HasBodyNow())) {
      // A client that waits for 100 (Continue) has nothing to send yet: the origin's deadline is
      // running.
      body_awaited_ = services_.loop.now();
      if (body_invited_) {
        body_deadline_.Arm(body_pace_.Patience(body_octets_));
      }
      auto read = co_await downstream_->ReadBody();
      body_deadline_.Disarm();
      Duration waited(services_.loop.now() - std::exchange(body_awaited_, 0));
      if (!read) {
        if (upload_stopped_) {
          break;
        }
        // Who hears an early answer may stop sending (RFC 9112 section 9.5).
        if (!final_head_read_) {
          FailWith(std::move(read).error());
        } else if (downstream_->client_reset()) {
          OnClientGone();
        } else {
          LoseUpload(std::move(read).error());
        }
        break;
      }
      if (body_invited_) {
        body_pace_.Waited(waited);
      } else {
        // It did not wait for 100: from now on the client's time counts again.
        InviteBody();
      }
      chunk = *read;
      body_read_ = chunk.last;
      if (chunk.last) {
        StripTrailers(request_.trailers);
      }
      body_octets_ += chunk.data.size();
      // The connection keeps a piece until the next is read: one that is the whole body can be sent
      // again.
      bool is_whole = chunk.last && body_octets_ == chunk.data.size();
      body_at_hand_ = is_whole ? chunk.data : std::span<const char>();
      if (body_octets_ > route_->max_body) {
        FailWith(Error(ErrorKind::kBodyTooLarge, "the body is over max_body"));
        break;
      }
    }
    auto writing = head_sent ? upstream_->WriteBody(chunk.data, chunk.last, &request_.trailers)
                             : upstream_->WriteHead(request_, chunk.data, chunk.last);
    head_sent = true;
    auto written = co_await upload_watch_.Wait(writing, timeouts_->write_idle);
    if (!written) {
      // The endpoint stopped reading. It may have said why before it did: the reading side will
      // see.
      break;
    }
    if (!body_invited_ && !final_head_read_) {
      answer_deadline_.Arm(timeouts_->upstream_response);
    }
  }
  upload_running_ = false;
  if (!upload_stopped_ && !failure_ && !final_head_read_) {
    answer_deadline_.Arm(timeouts_->upstream_response);
  }
}

// An interim head is passed on (RFC 9110 section 15.2), then the next one is read.
Task<void> Exchange::PassInterimHeads() {
  while (!failure_ && response_.IsInterim()) {
    RewriteResponse(response_, *route_, snapshot_->config().forwarded, {});
    auto passing = downstream_->WriteInterim(response_);
    auto passed = co_await write_watch_.Wait(passing, timeouts_->write_idle);
    if (!passed) {
      FailWith(std::move(passed).error());
      co_return;
    }
    if (request_.minor_version > 0) {
      services_.counters.Add(CounterId::kResponses1xx);
    }
    if (response_.status == 100 && !body_invited_) {
      InviteBody();
      if (body_awaited_ != 0) {
        body_awaited_ = services_.loop.now();
        body_deadline_.Arm(body_pace_.Patience(body_octets_));
      }
    }
    auto head = co_await upstream_->ReadHead();
    if (!head) {
      FailWith(std::move(head).error());
    }
  }
}

void Exchange::OnFinalHead() {
  final_head_read_ = true;
  answer_deadline_.Disarm();
  if (failure_) {
    return;
  }
  log_.AnswerCame(response_.status);
  if (response_.status == 101) {
    JudgeUpgrade();
  }
}

// The head of the final answer waits for no body, but takes what is there along in the same write:
// all of it, if it is small.
BodyChunk Exchange::FirstOfAnswer() {
  // The time is asked for only if it is needed: nearly every origin says its own.
  bool dated = response_.fields.Has(FieldId::kDate);
  RewriteResponse(response_, *route_, snapshot_->config().forwarded, dated ? "" : Date(),
                  AnswerRules());
  BodyChunk chunk{{}, AnswerHasNoBody()};
  if (!chunk.last && upstream_->HasBodyNow()) {
    auto read = upstream_->ReadBodyNow();
    if (!read) {
      FailWith(std::move(read).error());
      return chunk;
    }
    chunk = *read;
  }
  log_.record().status = response_.status;
  if (chunk.last) {
    StripTrailers(response_.trailers);
    if (!downstream_->request_complete()) {
      // The answer is whole before the request is: what the client still sends goes nowhere.
      downstream_->CloseAfter();
    }
  }
  return chunk;
}

// What of the body was not written with the head.
Task<void> Exchange::RelayBody() {
  BodyChunk chunk;
  while (!chunk.last) {
    answer_awaited_ = true;
    auto read = co_await TimedWait(answer_deadline_, AnswerPatience(), upstream_->ReadBody());
    answer_awaited_ = false;
    if (!read) {
      FailWith(std::move(read).error());
      co_return;
    }
    chunk = *read;
    if (chunk.last) {
      StripTrailers(response_.trailers);
    }
    auto writing = downstream_->WriteBody(chunk.data, chunk.last, &response_.trailers);
    auto written = co_await write_watch_.Wait(writing, timeouts_->write_idle);
    if (!written) {
      FailWith(std::move(written).error());
      co_return;
    }
  }
}

// --- below the story

void Exchange::Begin(std::shared_ptr<const Snapshot> snapshot, ServerStream& downstream,
                     const ServedClient& client) {
  snapshot_ = std::move(snapshot);
  downstream_ = &downstream;
  client_ = &client;
  rules_ = snapshot_->RulesOf(client.listener);
  route_ = nullptr;
  timeouts_ = &snapshot_->config().timeouts;
  upstream_ = nullptr;
  failure_.reset();
  state_ = State::kRunning;
  upload_running_ = upload_stopped_ = answer_awaited_ = answer_options_ = false;
  upload_failure_.reset();
  to_https_.reset();
  body_invited_ = !request_.expects_continue || !HasRequestBody();
  allow_.clear();
  lease_request_ = {};
  body_octets_ = 0;
  octets_in_before_ = octets_out_before_ = 0;
  body_read_ = false;
  body_at_hand_ = {};
  downstream.WatchGone(Bind<&Exchange::OnClientGone>(this));
  log_.Begin(*snapshot_, request_, client);
}

void Exchange::Finish() {
  if (!downstream_->head_sent()) {
    // It was not to be said any more: nobody has got it.
    log_.record().status = 0;
  }
  log_.Finish(*snapshot_, {.octets_in = octets_in_before_ + downstream_->octets_in(),
                           .octets_out = octets_out_before_ + downstream_->octets_out(),
                           .route = route_,
                           .lease = &lease_request_,
                           .failure = failure_ ? &*failure_ : nullptr});
  // Each wait has disarmed its own; one that was armed for a wait that then did not come must not
  // meet the next exchange.
  answer_deadline_.Disarm();
  body_deadline_.Disarm();
  tunnel_deadline_.Disarm();
  downstream_->WatchGone({});
  downstream_ = nullptr;
  state_ = State::kIdle;
  snapshot_.reset();
}

bool Exchange::client_wasted_work() const {
  if (!failure_ || log_.record().attempts == 0) {
    return false;
  }
  const ErrorRow& row = RowOf(failure_->kind());
  constexpr int kRequestTimeout = 408;
  return row.side == Side::kClient && row.status != 0 && row.status != kRequestTimeout;
}

bool Exchange::client_must_reconnect() const {
  return failure_ && failure_->kind() == ErrorKind::kClientVerificationChanged;
}

std::string_view Exchange::Date() {
  return services_.date.At(std::chrono::floor<std::chrono::seconds>(WallClock()).count());
}

bool Exchange::BeginRetry() {
  if (!MayRetry(log_.record().attempts)) {
    return false;
  }
  failure_.reset();
  lease_.GiveBack();
  services_.counters.Add(CounterId::kRetries);
  return true;
}

bool Exchange::MayRetry(std::uint64_t attempts_made) {
  AttemptFailure attempt{.error = failure_->kind(), .method = request_.method, .reused = false};
  if (lease_) {
    H1ClientConnection& stream = lease_.stream();
    attempt.reused = lease_.reused();
    attempt.request_octets_sent = stream.octets_out();
    attempt.body_octets_gone = body_octets_ - body_at_hand_.size();
    attempt.response_octets = stream.octets_in();
  }
  if (downstream_->head_sent() || (upload_stopped_ && body_octets_ > 0)) {
    return false;
  }
  const RetryConfig& config = snapshot_->UpstreamOf(*route_).config().retry;
  RetryDecision decision = DecideRetry(attempt, config, attempts_made);
  if (decision == RetryDecision::kFinal) {
    return false;
  }
  lease_request_.fresh = lease_request_.fresh || decision == RetryDecision::kStaleConnection;
  if (decision == RetryDecision::kConnect && lease_request_.endpoint) {
    lease_request_.tried.push_back(*lease_request_.endpoint);
  }
  return true;
}

void Exchange::FailWith(Error error) {
  if (failure_ || state_ == State::kMoving) {
    return;
  }
  failure_ = std::move(error);
  if (upload_running_) {
    StopUpload();
  }
  if (upstream_ != nullptr) {
    upstream_->Abort(*failure_);
  }
  if (state_ == State::kTunnel) {
    downstream_->Abort(*failure_);
  }
}

void Exchange::StopUpload() {
  if (upload_stopped_) {
    return;
  }
  upload_stopped_ = true;
  Error stopped(ErrorKind::kCancelled, "the answer ended before the upload did");
  if (body_octets_ == 0) {
    // Another attempt may want it.
    downstream_->CancelRead();
  } else if (!body_read_) {
    downstream_->InterruptRead(stopped);
  }
  upstream_->Abort(std::move(stopped));
}

bool Exchange::AnswerHasNoBody() const {
  return request_.method == Method::kHead || response_.status < 200 || response_.status == 204 ||
         response_.status == 304 || response_.body == BodyKind::kNone;
}

void Exchange::ForceEnd(Error why) {
  if (state_ == State::kIdle || state_ == State::kMoving) {
    return;
  }
  // Reading and writing the client must end too: nothing may be answered any more.
  FailWith(why);
  lease_request_.cancel.Cancel();
  downstream_->Abort(std::move(why));
}

// A client that only ended its side may want its answer, if the request is with the origin. In the
// queue it holds a place that others wait for.
void Exchange::OnClientGone() {
  bool queued = lease_request_.in_queue;
  if (!queued && !downstream_->client_reset()) {
    return;
  }
  FailWith(Error(ErrorKind::kClientClosed, queued ? "the client left while it waited in the queue"
                                                  : "the client reset the connection"));
  lease_request_.cancel.Cancel();
  downstream_->Abort(*failure_);
}

void Exchange::LoseUpload(Error why) {
  upload_failure_ = std::move(why);
  if (answer_awaited_) {
    answer_deadline_.Arm(AnswerPatience());
  }
}

// An endpoint that waits for what will not come may take no longer than the client might have.
Duration Exchange::AnswerPatience() const {
  return upload_failure_ ? std::min(timeouts_->upstream_response, timeouts_->body_idle)
                         : timeouts_->upstream_response;
}

void Exchange::OnAnswerTimeout() {
  if (upload_failure_) {
    FailWith(*upload_failure_);
    return;
  }
  FailWith(Error(ErrorKind::kUpstreamResponseTimeout,
                 downstream_->head_sent() ? "the endpoint stopped in the middle of the answer"
                                          : "no answer within upstream_response"));
}

void Exchange::InviteBody() {
  body_invited_ = true;
  if (!final_head_read_) {
    answer_deadline_.Disarm();
  }
}

void Exchange::OnBodyTimeout() {
  bool slow = body_pace_.Patience(body_octets_) < timeouts_->body_idle;
  Error why = slow ? Error(ErrorKind::kBodyTooSlow, "the body came slower than body_min_rate")
                   : Error(ErrorKind::kBodyIdleTimeout, "nothing of the body within body_idle");
  if (final_head_read_) {
    LoseUpload(std::move(why));
  } else {
    FailWith(std::move(why));
  }
}

void Exchange::OnWriteTimeout() {
  FailWith(Error(ErrorKind::kWriteIdleTimeout, "the client took nothing within write_idle"));
  downstream_->Abort(*failure_);
}

void Exchange::OnUploadTimeout() {
  Error why(ErrorKind::kUpstreamWriteTimeout, "the endpoint took nothing within write_idle");
  if (final_head_read_) {
    LoseUpload(std::move(why));
  } else {
    FailWith(std::move(why));
  }
}

}  // namespace tidegate
