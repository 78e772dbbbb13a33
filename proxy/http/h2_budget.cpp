#include "proxy/http/h2_budget.h"

#include <algorithm>

namespace tidegate {
namespace {

constexpr std::uint64_t kUnit = 1000;

// In the order of the enumeration. A browser that leaves a page resets some hundred streams; who
// takes a download in small windows, or measures it by PING, is allowed for by Earn.
constexpr std::array kRows = {
    H2AbuseRow{H2Abuse::kReset, ErrorKind::kH2RapidReset, 400, 30,
               "the client resets its streams too often"},
    H2AbuseRow{H2Abuse::kProvoked, ErrorKind::kH2ProvokedResets, 100, 10,
               "the client makes us reset its streams too often"},
    H2AbuseRow{H2Abuse::kRefused, ErrorKind::kH2StreamFlood, 1000, 100,
               "the client opens more streams than it may too often"},
    H2AbuseRow{H2Abuse::kSettings, ErrorKind::kH2SettingsFlood, 50, 5, "too many SETTINGS frames"},
    H2AbuseRow{H2Abuse::kPing, ErrorKind::kH2PingFlood, 200, 20, "too many PING frames"},
    H2AbuseRow{H2Abuse::kPriority, ErrorKind::kH2PriorityFlood, 1000, 200,
               "too many PRIORITY or PRIORITY_UPDATE frames"},
    H2AbuseRow{H2Abuse::kEmptyData, ErrorKind::kH2EmptyDataFlood, 100, 10,
               "too many DATA frames without octets"},
    H2AbuseRow{H2Abuse::kWindow, ErrorKind::kH2WindowFlood, 2000 * H2WindowCost::kSmall,
               200 * H2WindowCost::kSmall, "too many WINDOW_UPDATE frames"},
    H2AbuseRow{H2Abuse::kUnknown, ErrorKind::kH2UnknownFlood, 200, 20,
               "too many frames of unknown types"},
};
static_assert(kRows.size() == H2Budget::kKinds);

}  // namespace

const H2AbuseRow& RowOf(H2Abuse abuse) {
  return kRows[static_cast<std::size_t>(abuse)];
}

H2Budget::H2Budget(TimePoint now) {
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    buckets_[kind] = {.left = kRows[kind].burst * kUnit, .filled = now};
  }
}

bool H2Budget::Spend(H2Abuse abuse, TimePoint now, std::uint32_t count) {
  const H2AbuseRow& row = RowOf(abuse);
  Bucket& bucket = buckets_[static_cast<std::size_t>(abuse)];
  // So many thousandths a millisecond as there are a second.
  const std::uint64_t full = row.burst * kUnit;
  const std::uint64_t passed = std::min<std::uint64_t>(now - bucket.filled, full);
  bucket.left = std::min(full, bucket.left + passed * row.per_second);
  bucket.filled = now;
  if (bucket.left < count * kUnit) {
    return false;
  }
  bucket.left -= count * kUnit;
  return true;
}

void H2Budget::Earn(H2Abuse abuse, std::uint32_t count) {
  Bucket& bucket = buckets_[static_cast<std::size_t>(abuse)];
  bucket.left = std::min(RowOf(abuse).burst * kUnit, bucket.left + count * kUnit);
}

}  // namespace tidegate
