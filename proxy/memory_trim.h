#pragma once

// Gives the memory of a burst of connections back to the kernel. Left alone, free(3) returns only
// what lies at the end of the heap: one connection that stays would keep the pages of thousands
// that have gone.

#include <cstdint>

#include "common/counters.h"
#include "common/loop.h"
#include "common/timers.h"

namespace tidegate {

class MemoryTrim {
 public:
  // Reads the gauges of connections, down and up, of `counters`. `release` empties free lists; it
  // is called before each trim.
  MemoryTrim(Loop& loop, const Counters& counters, Callback release);

  // After every start of a session. When half of at least 1,024 connections have gone, a trim
  // follows within two seconds. It walks the whole heap: some milliseconds for 100 MiB.
  void OnSession();

  // How often it was done.
  std::uint64_t trims() const { return trims_; }

 private:
  std::uint64_t Connections() const;
  void OnTick();

  const Counters& counters_;
  Callback release_;
  // Armed while there are, or were since the last trim, as many as make a burst.
  Deadline tick_;
  // The most connections since the last trim.
  std::uint64_t peak_ = 0;
  std::uint64_t trims_ = 0;
};

}  // namespace tidegate
