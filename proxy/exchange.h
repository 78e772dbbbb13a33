#pragma once

// One request and its one answer. Story and rules are in exchange.cpp, answers of our own in
// exchange_answer.cpp, the tunnel in exchange_tunnel.cpp.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/body_pace.h"
#include "proxy/exchange_log.h"
#include "proxy/http/stream.h"
#include "proxy/services.h"
#include "proxy/write_watch.h"

namespace tidegate {

// A tunnel on its way, beside its client's connection.
struct TunnelRest {
  UniqueFd upstream;
  // Read of the upstream and not written to the client: at most SocketStream::kMostUnread octets.
  std::string to_client;
  // How long nothing may come either way.
  Duration patience = kNever;
  // Somebody else may hold the connection for a while: see SocketStream::EndForAll.
  bool shared = false;
  // It is to end as soon as it goes on, because of this.
  std::optional<Error> end;
};

class Exchange {
 public:
  explicit Exchange(Services& services);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // Where the connection reads the next request into, before Run or Reject. The object can be used
  // again after either.
  RequestHead& request() { return request_; }

  // Serves the request that was read. `snapshot` is kept until the end; the others outlive the
  // task. After it the downstream has got an answer, or was aborted; never neither.
  Task<void> Run(std::shared_ptr<const Snapshot> snapshot, ServerStream& downstream,
                 const ServedClient& client);
  // Answers a request that could not be read: `why` is of the client's side. What was read of it is
  // in request().
  Task<void> Reject(std::shared_ptr<const Snapshot> snapshot, ServerStream& downstream,
                    const ServedClient& client, Error why);

  // Ends what is running, with `why` as the reason: a deadline of a drain, the operator. The task
  // ends soon after.
  void ForceEnd(Error why);

  // kMoving: it has left its connections (LeaveTunnel) and waits for ContinueTunnel.
  enum class State : std::uint8_t { kIdle, kRunning, kTunnel, kMoving };
  State state() const { return state_; }

  // What a tunnel is made of besides this.
  struct TunnelEnds : TunnelRest {
    UniqueFd client;
    // As to_client, the other way.
    std::string to_upstream;
  };
  // Takes a tunnel out of its connections; none, and nothing has changed, if they cannot move. The
  // task ends soon after, without a word to either side. Then nothing may be done with this but
  // ContinueTunnel, or to destroy it.
  std::optional<TunnelEnds> LeaveTunnel();
  // Goes on with it. `downstream` has what was not written to the endpoint; `rest`, which outlives
  // the task, is the other side. `client` is the same one. After it as after Run.
  Task<void> ContinueTunnel(H1ServerConnection& downstream, const ServedClient& client,
                            TunnelRest& rest);
  // What another process needs to know of one that is moving, and there: makes this that exchange.
  // Error: kNoRoute or kUpstreamUnavailable, if `snapshot` has no such route or it does not lead to
  // that endpoint.
  ExchangeAccount Describe() const;
  Result<> Restore(std::shared_ptr<const Snapshot> snapshot, const ExchangeAccount& account);
  // Of one that is moving: the endpoint's pool may have one connection more.
  bool has_room_upstream() const;

  // After Run: an endpoint has worked for nothing, because of what the client sent. It costs the
  // client no time, as a deadline does, and no reset of its own.
  bool client_wasted_work() const;
  // After Run: the request was misdirected (RFC 9110 section 15.5.20), as all others of its
  // connection will be. HTTP/1 has been told that it ends.
  bool client_must_reconnect() const;

 private:
  void Begin(std::shared_ptr<const Snapshot> snapshot, ServerStream& downstream,
             const ServedClient& client);
  Result<> Prepare();
  Task<void> Attempt();
  Task<void> SendBody();
  Task<void> PassInterimHeads();
  void OnFinalHead();
  BodyChunk FirstOfAnswer();
  Task<void> RelayBody();
  void JudgeUpgrade();
  Task<void> RunTunnel(TaskScope& scope);
  Task<void> ServeTunnel(TaskScope& scope, Duration patience, const std::optional<Error>& end);
  Task<void> RelayTunnel(MessageStream& from, MessageStream& to, std::optional<Error>& lost);
  Task<void> AnswerLocally();
  // Writes response_ with `body`; a failure goes to FailWith.
  Task<void> WriteAnswer(const std::string& body);
  Task<void> AnswerFailure();
  void Finish();
  std::string_view Date();

  // After a failure: false if it stays.
  bool BeginRetry();
  bool MayRetry(std::uint64_t attempts_made);
  // Records the first failure and stops everything else of the attempt.
  void FailWith(Error error);
  void StopUpload();
  // The client's time counts from now on, not that of the origin that was to ask for the body.
  void InviteBody();
  // Octets of the request body that are there already are read and forgotten, so that the
  // connection can be kept.
  void DiscardBodyAtHand();
  bool HasRequestBody() const {
    return request_.body == BodyKind::kChunked || request_.content_length > 0;
  }
  bool AnswerHasNoBody() const;
  // What the rules say of answers is Strict-Transport-Security, which is not said without TLS (RFC
  // 6797 section 7.2).
  const ListenerRules* AnswerRules() const {
    return rules_ != nullptr && !client_->tls.empty() ? rules_ : nullptr;
  }

  // The rest of the upload will not come, or nobody takes it, after the answer has begun.
  void LoseUpload(Error why);
  // How long the endpoint may take for the next piece of the answer.
  Duration AnswerPatience() const;

  void OnAnswerTimeout();
  void OnBodyTimeout();
  void OnWriteTimeout();
  void OnUploadTimeout();
  void OnTunnelTimeout();
  void OnClientGone();

  Services& services_;
  ExchangeLog log_;
  RequestHead request_;
  ResponseHead response_;
  std::shared_ptr<const Snapshot> snapshot_;
  ServerStream* downstream_ = nullptr;
  const ServedClient* client_ = nullptr;
  // Of the client's listener; null if it has none.
  const ListenerRules* rules_ = nullptr;
  const RouteConfig* route_ = nullptr;
  const TimeoutsConfig* timeouts_ = nullptr;
  ClientStream* upstream_ = nullptr;  // of the running attempt
  Lease lease_;
  LeaseRequest lease_request_;
  std::optional<Error> failure_;

  // One for each phase that waits. Armed while its operation is pending only.
  Deadline answer_deadline_;  // head and body of the answer: from the endpoint
  Deadline body_deadline_;    // body of the request: from the client
  WriteWatch write_watch_;    // answer: to the client
  WriteWatch upload_watch_;   // request: to the endpoint
  Deadline tunnel_deadline_;

  State state_ = State::kIdle;
  bool upload_running_ = false;
  bool upload_stopped_ = false;
  // RelayBody waits for the endpoint.
  bool answer_awaited_ = false;
  // Why the upload was lost after the answer had begun: the reason if the answer does not end.
  std::optional<Error> upload_failure_;
  // The last octet of the request body was taken from the client.
  bool body_read_ = false;
  // Of the running attempt: nothing is left to wait for but the body of the answer.
  bool final_head_read_ = false;
  // 100 was passed on, or an octet of the body came: the client is not waiting for us any more.
  bool body_invited_ = false;
  // OPTIONS that ends here (Max-Forwards).
  bool answer_options_ = false;
  // The answer is this redirect, and there is no route.
  std::optional<RedirectAction> to_https_;

  // For 405: the methods that would do.
  std::string allow_;
  std::uint64_t body_octets_ = 0;
  BodyPace body_pace_;
  // Since when a piece of it has been waited for; 0: none is.
  TimePoint body_awaited_ = 0;
  // Of a tunnel, in processes before this one.
  std::uint64_t octets_in_before_ = 0;
  std::uint64_t octets_out_before_ = 0;
  // The whole body, if it came in one piece: the downstream connection keeps it until EndRequest.
  std::span<const char> body_at_hand_;
};

}  // namespace tidegate
