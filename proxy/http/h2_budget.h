#pragma once

// What a client of HTTP/2 may make us do for nothing (RFC 9113 section 10.5). Each kind has so much
// at once and so much a second, which is far more than any client needs and far less than what
// would cost us anything; over it the connection ends.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/error.h"
#include "common/timers.h"

namespace tidegate {

enum class H2Abuse : std::uint8_t {
  kReset,      // the client resets streams (CVE-2023-44487)
  kProvoked,   // its frames make us reset them (CVE-2025-8671)
  kRefused,    // it opens more streams than it may
  kSettings,   // each wants an answer (CVE-2019-9515)
  kPing,       // each wants an answer (CVE-2019-9512)
  kPriority,   // PRIORITY (CVE-2019-9513), and PRIORITY_UPDATE
  kEmptyData,  // DATA without octets and without an end (CVE-2019-9518)
  kWindow,     // WINDOW_UPDATE that no DATA of ours explains
  kUnknown,    // frames of types that nobody knows
};

struct H2AbuseRow {
  H2Abuse abuse;
  ErrorKind error;
  // At once; and a second.
  std::uint32_t burst;
  std::uint32_t per_second;
  // For the log.
  std::string_view detail;
};

const H2AbuseRow& RowOf(H2Abuse abuse);

// Of one connection.
class H2Budget {
 public:
  static constexpr std::size_t kKinds = 9;

  explicit H2Budget(TimePoint now);
  // One more of it. False: that is too much.
  [[nodiscard]] bool Spend(H2Abuse abuse, TimePoint now);
  // `count` of it are explained; never more than the burst.
  void Earn(H2Abuse abuse, std::uint32_t count);

 private:
  struct Bucket {
    // Thousandths.
    std::uint64_t left;
    TimePoint filled;
  };
  std::array<Bucket, kKinds> buckets_;
};

}  // namespace tidegate
