#include "supervisor/key_ring.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

#include "common/test_fault.h"

namespace tidegate {
namespace {

// The timers of the loop stand still while the machine is suspended: they are not trusted for long.
constexpr Duration kLongestWait = std::chrono::minutes(1);
// How fast a test's clock is noticed.
constexpr Duration kTestWait = std::chrono::milliseconds(50);

}  // namespace

std::uint64_t KeyRing::Now() {
  std::timespec time{};
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  auto milliseconds = static_cast<std::uint64_t>(time.tv_sec) * 1000 +
                      static_cast<std::uint64_t>(time.tv_nsec) / 1'000'000;
  return milliseconds + TestClockAhead().value_or(0);
}

void KeyRing::Take(TicketRing ring, std::uint64_t now) {
  ring_ = std::move(ring);
  if (ring_.rotated_at() > now) {
    // Whoever said so is wrong: it must not keep a key for ever.
    ring_.SetRotatedAt(now);
  }
}

bool KeyRing::Restore(UniqueFd fd, std::uint64_t now) {
  Result<TicketRing> ring = TicketRing::Unpack(fd.get());
  of_way_back_ = std::move(fd);
  if (!ring) {
    return false;
  }
  Take(std::move(*ring), now);
  return true;
}

bool KeyRing::Learn(int fd, std::uint64_t now) {
  Result<TicketRing> ring = TicketRing::Unpack(fd);
  if (!ring) {
    return false;
  }
  if (!learned_ || ring->rotated_at() > ring_.rotated_at()) {
    Take(std::move(*ring), now);
    learned_ = true;
  }
  return true;
}

bool KeyRing::RotateIfDue(std::uint64_t now, Duration rotation) {
  if (now < ring_.rotated_at() + static_cast<std::uint64_t>(rotation.count())) {
    return false;
  }
  ring_.Rotate(now);
  return true;
}

Duration KeyRing::Wait(std::uint64_t now, Duration rotation) const {
  if (TestClockAhead()) {
    return kTestWait;
  }
  std::uint64_t due = ring_.rotated_at() + static_cast<std::uint64_t>(rotation.count());
  Duration left(due > now ? static_cast<std::int64_t>(due - now) : 0);
  return std::clamp(left, Duration(1), kLongestWait);
}

}  // namespace tidegate
