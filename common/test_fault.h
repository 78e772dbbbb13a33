#pragma once

// Faults on demand, for the tests of upgrades. Inert unless the environment says otherwise when the
// process starts:
//
//   TIDEGATE_TEST_FAULT=point:action     this process, or
//   TIDEGATE_TEST_FAULTS=1               and a file `tidegate.fault` with `point:action` beside its
//   binary
//
// point   supervisor: preflight, leave (nothing more is read), exec, adopt, bind, spawn, prepare,
// commit, probation, pair (an old
//         and a new worker), drain, retire, takeover (one orphan has agreed), watch (a directory)
//         worker: check, confine (fail: it is not; it reads the file here, before it opens none any
//         more), start, prepare, commit, serving, drain; of a hand-over (proxy/handover.h) the old
//         one offer, offered, hand_over, handed_over, the new one adopt_from (fail: it knows of no
//         hand-over), taking, answer, answered, taken, and record (fail: it does not know this
//         version)
//         Those that both have mean the worker; `supervisor.prepare` means the other.
// action  die (SIGKILL), abort (SIGABRT), hang (for ever), stop (SIGSTOP, the first time), garbage
//         (say what is no message), fail (refuse)

#include <cstdint>
#include <optional>
#include <string_view>

namespace tidegate {

enum class Fault : std::uint8_t { kNone, kFail, kGarbage };

// TIDEGATE_TEST_CLOCK=FILE moves the clock by which ticket keys rotate, and no other: it is ahead
// by as many milliseconds as FILE says now. Nothing: the clock is the system's.
std::optional<std::uint64_t> TestClockAhead();

// Dies or hangs here if that is what was asked for; says what the caller must do otherwise.
// `process` is "supervisor" or "worker".
Fault FaultAt(std::string_view process, std::string_view point);

}  // namespace tidegate
