#pragma once

// What moves in a hand-over, and why a newer worker does not take it: the words of
// common/control_messages.h, section 3, and the counters. One row a kind, one row a reason, in the
// order in which they are told, which is that of the numbers.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/counters.h"

namespace tidegate {

enum class MoveKind : std::uint8_t { kIdle, kTunnel, kUpstream };

struct MoveKindRow {
  // What workers call it, and what answers to clients do.
  std::string_view word;
  std::string_view name;
  CounterId counter;
};
inline constexpr std::array kMoveKinds = {
    MoveKindRow{"idle", "idle", CounterId::kHandedOverIdle},
    MoveKindRow{"tunnel", "tunnels", CounterId::kHandedOverTunnels},
    MoveKindRow{"upstream", "upstream", CounterId::kHandedOverUpstream},
};

constexpr const MoveKindRow& RowOf(MoveKind kind) {
  return kMoveKinds[static_cast<std::size_t>(kind)];
}

enum class Decline : std::uint8_t {
  kRecord,
  kListener,
  kRoute,
  kUpstream,
  kLimits,
  kDescriptors,
  kClosed,
  kDraining
};

struct DeclineRow {
  std::string_view word;
  CounterId counter;
};
inline constexpr std::array kDeclines = {
    DeclineRow{"record", CounterId::kDeclinedRecord},
    DeclineRow{"listener", CounterId::kDeclinedListener},
    DeclineRow{"route", CounterId::kDeclinedRoute},
    DeclineRow{"upstream", CounterId::kDeclinedUpstream},
    DeclineRow{"limits", CounterId::kDeclinedLimits},
    DeclineRow{"descriptors", CounterId::kDeclinedDescriptors},
    DeclineRow{"closed", CounterId::kDeclinedClosed},
    DeclineRow{"draining", CounterId::kDeclinedDraining},
};
constexpr const DeclineRow& RowOf(Decline why) {
  return kDeclines[static_cast<std::size_t>(why)];
}

}  // namespace tidegate
