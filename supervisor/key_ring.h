#pragma once

// The ticket keys of this supervisor, by the clock. They outlive its images and all workers.
//
// Invariants:
//   1. `next` was told to the workers a whole rotation before it becomes current.
//   2. However far the clock has moved (a suspended machine, a shorter rotation in a new
//   configuration), there is one rotation at a time, and the next one is due a whole rotation
//   later: who missed one message still opens what all others seal.

#include <cstdint>

#include "common/ticket_ring.h"
#include "common/units.h"

namespace tidegate {

class KeyRing {
 public:
  // Milliseconds of CLOCK_BOOTTIME (and what a test adds: common/test_fault.h).
  static std::uint64_t Now();

  // New keys. Times are Now() everywhere; tests have a clock of their own.
  explicit KeyRing(std::uint64_t now) : ring_(now) {}

  // Those of the image before us. False: `fd` has none, or some that we cannot read; the new ones
  // stay. `fd` is kept until EndWayBack, because that image may get it back.
  bool Restore(UniqueFd fd, std::uint64_t now);
  void EndWayBack() { of_way_back_.Reset(); }
  // Those that a worker of a dead supervisor has had from it: taken if no other worker's are newer.
  // It is as good as any key that the worker has anyhow. False as for Restore.
  bool Learn(int fd, std::uint64_t now);

  // True: it has rotated, and all workers are to be told. `rotation` is tls.ticket_rotation.
  bool RotateIfDue(std::uint64_t now, Duration rotation);
  // How long not to look at the clock again.
  Duration Wait(std::uint64_t now, Duration rotation) const;

  // For a worker, or for the next image. Error: kSystem.
  Result<UniqueFd> Pack() const { return ring_.Pack(); }
  const TicketRing& ring() const { return ring_; }

 private:
  void Take(TicketRing ring, std::uint64_t now);

  TicketRing ring_;
  bool learned_ = false;
  UniqueFd of_way_back_;
};

}  // namespace tidegate
