#pragma once

// May an attempt that failed be made again? One pure function; its test is the table.
//
//   1. Never when no attempt is left, or when an octet of the answer came.
//   2. Never when octets of the body were taken from the client and are gone: nobody can send them
//      again.
//   3. Nothing of the request left us (the connection or its TLS could not be made, or it was dead
//      before the first octet): safe for every method, if the configuration has "connect" (or, for
//      a connection from the pool, "stale_connection").
//   4. A connection from the pool ended before an octet of the answer: the endpoint had probably
//      closed it before the request came, but may have acted on it. Only idempotent methods (RFC
//      9110 section 9.2.2), if the configuration has "stale_connection".
//   5. Everything else is final: a fresh connection that breaks after the request was sent, a
//      timeout of the answer, a bad answer. The endpoint had the request.

#include <cstdint>

#include "common/config.h"
#include "common/error.h"
#include "proxy/http/message.h"

namespace tidegate {

// What became of one attempt.
struct AttemptFailure {
  ErrorKind error = ErrorKind::kInternal;
  Method method = Method::kOther;
  // The connection came from the pool.
  bool reused = false;
  // Octets of the request that the kernel took.
  std::uint64_t request_octets_sent = 0;
  // Octets of the body that were taken from the client and are not at hand any more.
  std::uint64_t body_octets_gone = 0;
  // Octets of the answer that came.
  std::uint64_t response_octets = 0;
};

enum class RetryDecision : std::uint8_t {
  kFinal,
  // Again, because the connection could not be made.
  kConnect,
  // Again, because the connection from the pool was stale.
  kStaleConnection,
};

// `attempts_made` counts this one; config.attempts are allowed after the first.
RetryDecision DecideRetry(const AttemptFailure& failure, const RetryConfig& config,
                          std::uint64_t attempts_made);

}  // namespace tidegate
