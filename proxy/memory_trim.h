#pragma once

// Gives the memory of a burst of connections back to the kernel. Left alone, free(3) returns only
// what lies at the end of the heap: one connection that stays would keep the pages of thousands
// that have gone. A session that is parked has gone, but for a little.

#include <cstddef>
#include <cstdint>

#include "common/counters.h"
#include "common/loop.h"
#include "common/timers.h"

namespace tidegate {

class MemoryTrim {
 public:
  // Reads the gauge of upstream connections of `counters`. `release` empties free lists; it is
  // called before each trim.
  MemoryTrim(Loop& loop, const Counters& counters, Callback release);

  // There are `sessions` now, streams of HTTP/2 among them, and `parked` connections; after every
  // start, end and parking of one, and while many streams begin.
  // When half of at least 256 sessions and upstream connections have gone, a trim follows within
  // two seconds, and another if more of them have gone two seconds later; four parked ones count as
  // one. It walks the whole heap: some milliseconds for 100 MiB. Of upstream connections alone
  // those count that are there every two seconds, or when a session begins or ends.
  void Count(std::size_t sessions, std::size_t parked);

  // How often it was done.
  std::uint64_t trims() const { return trims_; }

 private:
  std::uint64_t Connections() const;
  void OnTick();

  const Counters& counters_;
  Callback release_;
  // And a fourth of the parked.
  std::uint64_t sessions_ = 0;
  // Armed while there are, or were since the last trim, as many as make a burst, and once after a
  // trim.
  Deadline tick_;
  // The most connections since the last trim.
  std::uint64_t peak_ = 0;
  // How many there were at the last tick, if it trimmed; else 0.
  std::uint64_t trimmed_at_ = 0;
  std::uint64_t trims_ = 0;
};

}  // namespace tidegate
