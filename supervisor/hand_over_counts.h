#pragma once

// What draining workers say of the live connections that they hand over (control_messages.h,
// section 3): how many have moved, by kind, and how many were declined, by reason. As sums, as JSON
// and as texts.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "common/counters.h"

namespace tidegate {

// One row each, in the order in which they are told.
struct MovedKind {
  // What workers call it, and what answers to clients do.
  std::string_view word;
  std::string_view name;
  CounterId counter;
};
inline constexpr std::array kMovedKinds = {
    MovedKind{"idle", "idle", CounterId::kHandedOverIdle},
    MovedKind{"tunnel", "tunnels", CounterId::kHandedOverTunnels},
    MovedKind{"upstream", "upstream", CounterId::kHandedOverUpstream},
};

struct DeclinedReason {
  std::string_view word;
  CounterId counter;
};
inline constexpr std::array kDeclinedReasons = {
    DeclinedReason{"record", CounterId::kDeclinedRecord},
    DeclinedReason{"listener", CounterId::kDeclinedListener},
    DeclinedReason{"route", CounterId::kDeclinedRoute},
    DeclinedReason{"upstream", CounterId::kDeclinedUpstream},
    DeclinedReason{"limits", CounterId::kDeclinedLimits},
    DeclinedReason{"descriptors", CounterId::kDeclinedDescriptors},
    DeclinedReason{"closed", CounterId::kDeclinedClosed},
    DeclinedReason{"draining", CounterId::kDeclinedDraining},
};

// More than anybody has: a worker that says more is taken at that, so that sums cannot wrap.
inline constexpr std::uint64_t kMostCounted = 1'000'000'000'000;

struct HandOverCounts {
  // In the order of kMovedKinds and kDeclinedReasons.
  std::array<std::uint64_t, kMovedKinds.size()> moved{};
  std::array<std::uint64_t, kDeclinedReasons.size()> declined{};

  HandOverCounts& operator+=(const HandOverCounts& other);
  // Connections of clients that have moved: idle ones and tunnels.
  std::uint64_t moved_connections() const { return moved[0] + moved[1]; }
  std::uint64_t declined_count() const;
  bool operator==(const HandOverCounts&) const = default;
};

// `moved` and `declined` of a worker's `draining`. Kinds and reasons that are not known here, and
// what is no number, count as nothing.
HandOverCounts HandOverCountsOf(const nlohmann::json& report);

// {idle, tunnels, upstream}, and only the reasons that occurred.
nlohmann::json MovedJson(const HandOverCounts& counts);
nlohmann::json DeclinedJson(const HandOverCounts& counts);
// What these two have put into `moved` and `declined` of `object`.
HandOverCounts HandOverCountsIn(const nlohmann::json& object);

// "381 idle connections, 18 tunnels moved, 12 upstream connections; 3 declined (route 2, limits 1)"
std::string HandOverText(const HandOverCounts& counts);
// "381 moved, 3 declined (route 2, limits 1)", without upstream connections; empty if there is
// nothing to tell.
std::string ShortHandOverText(const HandOverCounts& counts);

}  // namespace tidegate
