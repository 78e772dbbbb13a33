#pragma once

// Deadlines in one hierarchical wheel: arming is a store or a list insertion, whatever the number
// of deadlines. Moving a deadline later, which is what every octet of progress does, is a store:
// the wheel finds the deadline at its old place, sees that it is not due, and links it again.

#include <array>
#include <chrono>
#include <cstdint>
#include <type_traits>

#include "common/units.h"

namespace tidegate {

// Milliseconds of a monotonic clock.
using TimePoint = std::uint64_t;

// A function and its argument: what a deadline calls. No allocation; `argument` must outlive the
// deadline.
struct Callback {
  void (*function)(void*) = nullptr;
  void* argument = nullptr;
  void operator()() const { function(argument); }
};

// Binds a member function: `Bind<&Session::OnTimeout>(this)`.
template <auto Member, class Object>
Callback Bind(Object* object) {
  return Callback{[](void* argument) { (static_cast<Object*>(argument)->*Member)(); }, object};
}

// The one thing that would end what somebody waits for. Cancel may come at any time, also before or
// between waits: whoever waits next asks cancelled() first.
class CancelSlot {
 public:
  void Cancel() {
    cancelled_ = true;
    if (cancel_.function != nullptr) {
      cancel_();
    }
  }
  bool cancelled() const { return cancelled_; }
  // Around a wait: what ends it. Its completion is posted, never run from within.
  void Set(Callback cancel) { cancel_ = cancel; }
  void Clear() { cancel_ = {}; }

 private:
  Callback cancel_;
  bool cancelled_ = false;
};

class TimerWheel;

// An armed timeout. A value: its destructor disarms. Fires once a Arm, never from within Arm.
class Deadline {
 public:
  Deadline(TimerWheel& wheel, Callback on_expiry) : wheel_(wheel), on_expiry_(on_expiry) {}
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline();

  // Fires `timeout` from now, not earlier, at most a few milliseconds later. kNever disarms.
  // Replaces what was armed.
  void Arm(Duration timeout);
  void Disarm() { expiry_ = kUnarmed; }
  bool armed() const { return expiry_ != kUnarmed; }
  // What is left until it fires: at least 1 ms; kNever if it is not armed.
  Duration left() const;

 private:
  friend class TimerWheel;
  static constexpr TimePoint kUnarmed = ~TimePoint{0};

  TimerWheel& wheel_;
  Callback on_expiry_;
  TimePoint expiry_ = kUnarmed;
  // Where the wheel holds it; may be earlier than expiry_, never later. Meaningful while linked.
  TimePoint linked_at_ = 0;
  Deadline* next_ = nullptr;
  Deadline* previous_ = nullptr;
  std::uint16_t slot_ = 0;
};

class TimerWheel {
 public:
  // Reads a clock that never goes back; called by Arm, so that a timeout counts from now and not
  // from the last Advance.
  using Clock = TimePoint (*)(void* argument);
  explicit TimerWheel(TimePoint now, Clock clock = nullptr, void* clock_argument = nullptr)
      : clock_(clock), clock_argument_(clock_argument), now_(now), elapsed_(now) {}
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;
  ~TimerWheel();

  // The clock; the time of the last Advance if there is none (tests).
  TimePoint now() {
    if (!held_ && clock_ != nullptr) {
      SetNow(clock_(clock_argument_));
    }
    return now_;
  }
  // From Hold to Release the clock stands still at `now`, and nobody asks it.
  void Hold(TimePoint now) {
    SetNow(now);
    held_ = true;
  }
  void Release() { held_ = false; }
  // Sets the clock and fires what is due, in no particular order. Callbacks may arm, disarm and
  // destroy any deadline.
  void Advance(TimePoint now);

  static constexpr TimePoint kNothing = ~TimePoint{0};
  // When Advance should be called next at the latest; kNothing while nothing is linked. May be
  // earlier than any deadline.
  TimePoint NextTick() const;

 private:
  friend class Deadline;
  // 64 slots a level; level l has slots of 64^l ms. Five levels reach 12 days; what is later waits
  // in the last slot.
  static constexpr int kBits = 6;
  static constexpr int kSlots = 1 << kBits;
  static constexpr int kLevels = 5;

  void Link(Deadline& deadline, TimePoint at);
  void Unlink(Deadline& deadline);
  void FireDue();
  void SetNow(TimePoint now) { now_ = now > now_ ? now : now_; }

  Clock clock_;
  void* clock_argument_;
  bool held_ = false;
  TimePoint now_;
  // The wheel has been turned up to here; slots are relative to it.
  TimePoint elapsed_;
  std::array<std::uint64_t, kLevels> occupied_{};
  std::array<std::array<Deadline*, kSlots>, kLevels> slots_{};
  // The list that Advance is working through: Unlink must be able to take from it.
  Deadline* due_ = nullptr;
};

}  // namespace tidegate
