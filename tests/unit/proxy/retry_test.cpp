#include "proxy/retry.h"

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using enum ErrorKind;

constexpr auto kFinal = RetryDecision::kFinal;
constexpr auto kConnect = RetryDecision::kConnect;
constexpr auto kStale = RetryDecision::kStaleConnection;

struct Row {
  std::string_view what;
  ErrorKind error;
  Method method;
  bool reused;
  std::uint64_t sent;
  std::uint64_t gone;
  std::uint64_t answered;
  RetryDecision decision;
};

// The rules of retry.h, by number.
constexpr std::initializer_list<Row> kTable = {
    // clang-format off
    {"3 refused",                         kUpstreamRefused,         Method::kGet,   false, 0,   0, 0, kConnect},
    {"3 refused, any method",             kUpstreamRefused,         Method::kPost,  false, 0,   0, 0, kConnect},
    {"3 refused, unknown method",         kUpstreamRefused,         Method::kOther, false, 0,   0, 0, kConnect},
    {"3 unreachable",                     kUpstreamConnectFailed,   Method::kPost,  false, 0,   0, 0, kConnect},
    {"3 connect timed out",               kUpstreamConnectTimeout,  Method::kPatch, false, 0,   0, 0, kConnect},
    {"3 TLS refused",                     kUpstreamTlsVerify,       Method::kPost,  false, 0,   0, 0, kConnect},
    {"3 TLS failed",                      kUpstreamTlsHandshake,    Method::kPost,  false, 0,   0, 0, kConnect},
    {"3 TLS refused by the endpoint",     kUpstreamTlsAlert,        Method::kPost,  false, 0,   0, 0, kConnect},
    {"5 an alert after sending",          kUpstreamTlsAlert,        Method::kGet,   false, 90,  0, 0, kFinal},
    {"4 pooled, ended by an alert",       kUpstreamTlsAlert,        Method::kGet,   true,  90,  0, 0, kStale},
    {"3 reset before the first octet",    kUpstreamReset,           Method::kPost,  false, 0,   0, 0, kConnect},
    {"3 pooled, dead before the first",   kUpstreamClosed,          Method::kPost,  true,  0,   0, 0, kStale},
    {"2 refused, body gone",              kUpstreamRefused,         Method::kPut,   false, 0,   5, 0, kFinal},
    {"4 pooled, closed",                  kUpstreamClosed,          Method::kGet,   true,  90,  0, 0, kStale},
    {"4 pooled, reset",                   kUpstreamReset,           Method::kGet,   true,  90,  0, 0, kStale},
    {"4 pooled, half a head",             kUpstreamReset,           Method::kHead,  true,  1,   0, 0, kStale},
    {"4 pooled, idempotent with a body",  kUpstreamReset,           Method::kPut,   true,  300, 0, 0, kStale},
    {"4 pooled, DELETE",                  kUpstreamReset,           Method::kDelete,true,  90,  0, 0, kStale},
    {"4 pooled, OPTIONS",                 kUpstreamReset,           Method::kOptions, true, 90, 0, 0, kStale},
    {"4 pooled, POST",                    kUpstreamClosed,          Method::kPost,  true,  90,  0, 0, kFinal},
    {"4 pooled, POST, one octet",         kUpstreamClosed,          Method::kPost,  true,  1,   0, 0, kFinal},
    {"4 pooled, PATCH",                   kUpstreamClosed,          Method::kPatch, true,  90,  0, 0, kFinal},
    {"4 pooled, unknown method",          kUpstreamClosed,          Method::kOther, true,  90,  0, 0, kFinal},
    {"4 pooled, CONNECT",                 kUpstreamClosed,          Method::kConnect, true, 90, 0, 0, kFinal},
    {"2 pooled, body gone",               kUpstreamClosed,          Method::kPut,   true,  300, 1, 0, kFinal},
    {"1 pooled, answer begun",            kUpstreamReset,           Method::kGet,   true,  90,  0, 1, kFinal},
    {"1 fresh, answer begun",             kUpstreamReset,           Method::kGet,   false, 90,  0, 9, kFinal},
    {"5 fresh, closed after sending",     kUpstreamClosed,          Method::kGet,   false, 90,  0, 0, kFinal},
    {"5 fresh, reset after sending",      kUpstreamReset,           Method::kGet,   false, 90,  0, 0, kFinal},
    {"5 answer timed out",                kUpstreamResponseTimeout, Method::kGet,   true,  90,  0, 0, kFinal},
    {"5 write timed out",                 kUpstreamWriteTimeout,    Method::kGet,   true,  0,   0, 0, kFinal},
    {"5 bad answer",                      kUpstreamBadResponse,     Method::kGet,   true,  90,  0, 0, kFinal},
    {"5 truncated",                       kUpstreamTruncated,       Method::kGet,   true,  90,  0, 0, kFinal},
    {"5 unresolved",                      kUpstreamUnresolved,      Method::kGet,   false, 0,   0, 0, kFinal},
    {"5 queue full",                      kQueueFull,               Method::kGet,   false, 0,   0, 0, kFinal},
    {"5 client gone",                     kClientClosed,            Method::kGet,   true,  0,   0, 0, kFinal},
    {"5 internal",                        kInternal,                Method::kGet,   true,  0,   0, 0, kFinal},
    // clang-format on
};

AttemptFailure FailureOf(const Row& row) {
  return {.error = row.error,
          .method = row.method,
          .reused = row.reused,
          .request_octets_sent = row.sent,
          .body_octets_gone = row.gone,
          .response_octets = row.answered};
}

TEST(RetryTest, FollowsTheTable) {
  for (const Row& row : kTable) {
    EXPECT_EQ(DecideRetry(FailureOf(row), RetryConfig{}, 1), row.decision) << row.what;
  }
}

TEST(RetryTest, IsFinalWhenNoAttemptIsLeft) {
  for (const Row& row : kTable) {
    EXPECT_EQ(DecideRetry(FailureOf(row), RetryConfig{}, 2), kFinal) << row.what;
    EXPECT_EQ(DecideRetry(FailureOf(row), RetryConfig{.attempts = 0}, 1), kFinal) << row.what;
    EXPECT_EQ(DecideRetry(FailureOf(row), RetryConfig{.attempts = 3}, 3), row.decision) << row.what;
  }
}

TEST(RetryTest, DoesOnlyWhatIsConfigured) {
  for (const Row& row : kTable) {
    EXPECT_EQ(DecideRetry(FailureOf(row), RetryConfig{.on_connect = false}, 1),
              row.decision == kConnect ? kFinal : row.decision)
        << row.what;
    EXPECT_EQ(DecideRetry(FailureOf(row), RetryConfig{.on_stale_connection = false}, 1),
              row.decision == kStale ? kFinal : row.decision)
        << row.what;
  }
}

TEST(RetryTest, NeverRetriesAfterAnOctetOfTheAnswerOrWithALostBody) {
  for (std::size_t kind = 0; kind < ErrorCount(); ++kind) {
    for (bool reused : {false, true}) {
      AttemptFailure failure{.error = static_cast<ErrorKind>(kind),
                             .method = Method::kGet,
                             .reused = reused,
                             .response_octets = 1};
      EXPECT_EQ(DecideRetry(failure, RetryConfig{}, 1), kFinal);
      failure.response_octets = 0;
      failure.body_octets_gone = 1;
      EXPECT_EQ(DecideRetry(failure, RetryConfig{}, 1), kFinal);
    }
  }
}

}  // namespace
}  // namespace tidegate
