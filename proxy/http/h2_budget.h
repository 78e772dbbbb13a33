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
  kWindow,     // WINDOW_UPDATE that no DATA of ours explains (CVE-2019-9511)
  kUnknown,    // frames of types that nobody knows
};

struct H2AbuseRow {
  H2Abuse abuse;
  ErrorKind error;
  // At once; and a second. Of kWindow in units: see H2WindowCost.
  std::uint32_t burst;
  std::uint32_t per_second;
  // For the log.
  std::string_view detail;
};

const H2AbuseRow& RowOf(H2Abuse abuse);

// What a WINDOW_UPDATE costs. One that opens the window by little can have us send little, again
// and again; of the others there are only as many as there is to be sent, but Go's client says two
// for each 4 KiB that it has read, up to megabytes after they were sent.
struct H2WindowCost {
  static constexpr std::uint32_t kEach = 1;
  static constexpr std::uint32_t kSmall = 25;
  static constexpr std::int32_t kSmallBelow = 1024;
  // What a DATA frame of ours with `octets` explains: small ones for pieces of 512 octets, of the
  // stream and of the connection. `cut`: it is short because the client's window is, which explains
  // no more; if it is all that there was, its client can say no more than that it has read it.
  static constexpr std::uint32_t Explained(std::size_t octets, bool cut) {
    constexpr std::size_t kPiece = 256;
    const auto pieces = static_cast<std::uint32_t>(octets / kPiece);
    return kSmall * (cut || pieces >= 2 ? pieces : 2);
  }
};

// Of one connection.
class H2Budget {
 public:
  static constexpr std::size_t kKinds = 9;

  explicit H2Budget(TimePoint now);
  // `count` more of it. False: that is too much.
  [[nodiscard]] bool Spend(H2Abuse abuse, TimePoint now, std::uint32_t count = 1);
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
