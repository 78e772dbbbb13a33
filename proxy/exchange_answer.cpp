// What an exchange answers itself: routes that respond or redirect, the way to https, and failures
// while there is still somebody to tell.

#include <utility>
#include <variant>

#include "proxy/error_page.h"
#include "proxy/exchange.h"

namespace tidegate {
namespace {

// How much of an unread body is thrown away to keep a connection: more than that and closing is
// cheaper.
constexpr std::uint64_t kMaxDiscard = 256 * 1024;

}  // namespace

Task<void> Exchange::AnswerLocally() {
  AnswerContext context{.request_id = log_.record().id, .date = Date()};
  std::string body;
  if (to_https_) {
    body = MakeRedirectAnswer(*to_https_, log_.record().target, context, response_);
  } else if (answer_options_) {
    body = MakeOptionsAnswer({}, context, response_);
  } else if (const auto* respond = std::get_if<RespondAction>(&route_->action)) {
    body = MakeRespondAnswer(*respond, context, response_);
  } else {
    const auto& redirect = std::get<RedirectAction>(route_->action);
    body = MakeRedirectAnswer(redirect, log_.record().target, context, response_);
  }
  if (request_.is_http2 && !request_.upgrade.empty() && response_.status < 300) {
    // It would tell the client that its tunnel is open (RFC 8441 section 5).
    FailWith(Error(ErrorKind::kMethodNotImplemented, "the route opens no WebSocket"));
    co_return;
  }
  if (route_ != nullptr) {
    RewriteResponse(response_, *route_, snapshot_->config().forwarded, context.date, AnswerRules());
  }
  co_await WriteAnswer(body);
}

// A status from the error table while there is still somebody to tell; a broken connection
// otherwise.
Task<void> Exchange::AnswerFailure() {
  if (RowOf(failure_->kind()).status == 0 || downstream_->head_sent()) {
    downstream_->Abort(*failure_);
    co_return;
  }
  if (failure_->kind() == ErrorKind::kLengthRequired || client_must_reconnect()) {
    // A body is on its way, of a length that nobody knows; or the connection is good for nothing.
    downstream_->CloseAfter();
  }
  AnswerContext context{.request_id = log_.record().id, .date = Date()};
  std::string body = MakeErrorAnswer(failure_->kind(), allow_, context, response_);
  if (const ListenerRules* rules = AnswerRules()) {
    rules->AddStrictTransport(response_);
  }
  co_await WriteAnswer(body);
}

Task<void> Exchange::WriteAnswer(const std::string& body) {
  DiscardBodyAtHand();
  if (!downstream_->request_complete()) {
    downstream_->CloseAfter();
  }
  log_.record().status = response_.status;
  std::span<const char> octets(body);
  auto writing =
      downstream_->WriteHead(response_, AnswerHasNoBody() ? octets.first(0) : octets, true);
  auto written = co_await write_watch_.Wait(writing, timeouts_->write_idle);
  if (!written) {
    FailWith(written.error());
    downstream_->Abort(std::move(written).error());
  }
}

void Exchange::DiscardBodyAtHand() {
  std::uint64_t discarded = 0;
  while (!downstream_->request_complete() && discarded < kMaxDiscard && !upload_stopped_ &&
         downstream_->HasBodyNow()) {
    Result<BodyChunk> chunk = downstream_->ReadBodyNow();
    if (!chunk || chunk->last) {
      return;
    }
    discarded += chunk->data.size();
  }
}

}  // namespace tidegate
