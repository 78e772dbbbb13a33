#include "common/timers.h"

#include <algorithm>
#include <bit>

#include "common/check.h"

namespace tidegate {
namespace {

// Slot numbers are level * 64 + index + 1; 0 means not linked, this one: on the list that Advance
// is working through.
constexpr std::uint16_t kDueSlot = 0xffff;

}  // namespace

Deadline::~Deadline() {
  if (slot_ != 0) {
    wheel_.Unlink(*this);
  }
}

Duration Deadline::left() const {
  if (!armed()) {
    return kNever;
  }
  const TimePoint now = wheel_.now();
  return Duration(expiry_ > now ? expiry_ - now : 1);
}

void Deadline::Arm(Duration timeout) {
  if (timeout == kNever) {
    Disarm();
    return;
  }
  expiry_ = wheel_.now() + static_cast<TimePoint>(std::max<Duration::rep>(timeout.count(), 0));
  if (slot_ != 0) {
    if (linked_at_ <= expiry_) {
      return;
    }
    wheel_.Unlink(*this);
  }
  wheel_.Link(*this, expiry_);
}

TimerWheel::~TimerWheel() {
  for (auto& level : slots_) {
    for (Deadline* list : level) {
      TG_CHECK(list == nullptr);
    }
  }
}

void TimerWheel::Link(Deadline& deadline, TimePoint at) {
  // What is due already waits for the next millisecond: nothing fires from within Arm.
  at = std::max(at, elapsed_ + 1);
  constexpr TimePoint kReach = TimePoint{1} << (kBits * kLevels);
  at = std::min(at, elapsed_ + kReach - 1);
  // The highest bit in which `at` differs from the wheel's position decides the level: below it,
  // both agree.
  TimePoint difference = (at ^ elapsed_) | (kSlots - 1);
  int level = (63 - std::countl_zero(difference)) / kBits;
  level = std::min(level, kLevels - 1);
  auto index = static_cast<std::size_t>((at >> (level * kBits)) & (kSlots - 1));
  Deadline*& head = slots_[static_cast<std::size_t>(level)][index];
  deadline.linked_at_ = at;
  deadline.slot_ = static_cast<std::uint16_t>(static_cast<std::size_t>(level * kSlots) + index + 1);
  deadline.previous_ = nullptr;
  deadline.next_ = head;
  if (head != nullptr) {
    head->previous_ = &deadline;
  }
  head = &deadline;
  occupied_[static_cast<std::size_t>(level)] |= std::uint64_t{1} << index;
}

void TimerWheel::Unlink(Deadline& deadline) {
  if (deadline.next_ != nullptr) {
    deadline.next_->previous_ = deadline.previous_;
  }
  if (deadline.previous_ != nullptr) {
    deadline.previous_->next_ = deadline.next_;
  } else if (deadline.slot_ == kDueSlot) {
    due_ = deadline.next_;
  } else {
    auto slot = static_cast<std::size_t>(deadline.slot_ - 1);
    slots_[slot / kSlots][slot % kSlots] = deadline.next_;
    if (deadline.next_ == nullptr) {
      occupied_[slot / kSlots] &= ~(std::uint64_t{1} << (slot % kSlots));
    }
  }
  deadline.next_ = nullptr;
  deadline.previous_ = nullptr;
  deadline.slot_ = 0;
}

TimePoint TimerWheel::NextTick() const {
  TimePoint best = kNothing;
  for (int level = 0; level < kLevels; ++level) {
    std::uint64_t occupied = occupied_[static_cast<std::size_t>(level)];
    if (occupied == 0) {
      continue;
    }
    int shift = level * kBits;
    auto current = static_cast<int>((elapsed_ >> shift) & (kSlots - 1));
    // Slots after the current one come in this turn of the level; the others (the top level only)
    // in the next turn.
    std::uint64_t rotated = std::rotr(occupied, current);
    int distance = std::countr_zero(rotated);
    if (distance == 0) {
      // The current slot itself: only what the top level holds a whole turn ahead.
      distance = rotated == 1 ? kSlots : std::countr_zero(rotated & ~std::uint64_t{1});
    }
    TimePoint start = ((elapsed_ >> shift) + static_cast<TimePoint>(distance)) << shift;
    best = std::min(best, start);
  }
  return best;
}

void TimerWheel::Advance(TimePoint now) {
  SetNow(now);
  while (true) {
    TimePoint tick = NextTick();
    if (tick == kNothing || tick > now_) {
      break;
    }
    elapsed_ = tick;
    // Every slot that begins at this tick: from the top level down, so that what falls on this very
    // tick is fired now.
    for (int level = kLevels - 1; level >= 0; --level) {
      int shift = level * kBits;
      if ((tick & ((TimePoint{1} << shift) - 1)) != 0) {
        continue;
      }
      auto index = static_cast<std::size_t>((tick >> shift) & (kSlots - 1));
      Deadline*& slot = slots_[static_cast<std::size_t>(level)][index];
      if (slot == nullptr) {
        continue;
      }
      due_ = slot;
      slot = nullptr;
      occupied_[static_cast<std::size_t>(level)] &= ~(std::uint64_t{1} << index);
      for (Deadline* each = due_; each != nullptr; each = each->next_) {
        each->slot_ = kDueSlot;
      }
      FireDue();
    }
  }
  elapsed_ = std::max(elapsed_, now_);
}

void TimerWheel::FireDue() {
  while (due_ != nullptr) {
    Deadline& deadline = *due_;
    Unlink(deadline);
    if (!deadline.armed()) {
      continue;
    }
    if (deadline.expiry_ > now_) {
      Link(deadline, deadline.expiry_);
      continue;
    }
    deadline.Disarm();
    deadline.on_expiry_();
  }
}

}  // namespace tidegate
