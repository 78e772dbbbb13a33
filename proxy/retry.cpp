#include "proxy/retry.h"

namespace tidegate {
namespace {

bool IsConnectFailure(ErrorKind error) {
  return error == ErrorKind::kUpstreamRefused || error == ErrorKind::kUpstreamConnectFailed ||
         error == ErrorKind::kUpstreamConnectTimeout || error == ErrorKind::kUpstreamTlsHandshake ||
         error == ErrorKind::kUpstreamTlsVerify || error == ErrorKind::kUpstreamTlsAlert;
}

bool IsLostConnection(ErrorKind error) {
  // With an alert it says why it ended.
  return error == ErrorKind::kUpstreamReset || error == ErrorKind::kUpstreamClosed ||
         error == ErrorKind::kUpstreamTlsAlert;
}

}  // namespace

RetryDecision DecideRetry(const AttemptFailure& failure, const RetryConfig& config,
                          std::uint64_t attempts_made) {
  if (attempts_made > config.attempts || failure.response_octets > 0 ||
      failure.body_octets_gone > 0) {
    return RetryDecision::kFinal;
  }
  bool nothing_sent = failure.request_octets_sent == 0;
  if (failure.reused) {
    bool safe = nothing_sent || IsIdempotent(failure.method);
    return IsLostConnection(failure.error) && safe && config.on_stale_connection
               ? RetryDecision::kStaleConnection
               : RetryDecision::kFinal;
  }
  bool not_connected =
      IsConnectFailure(failure.error) || (IsLostConnection(failure.error) && nothing_sent);
  return not_connected && nothing_sent && config.on_connect ? RetryDecision::kConnect
                                                            : RetryDecision::kFinal;
}

}  // namespace tidegate
