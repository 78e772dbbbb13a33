#pragma once

// How many connections each client network has, and whether one more is allowed.

#include <cstdint>
#include <unordered_map>

#include "common/units.h"

namespace tidegate {

class PeerLimit {
 public:
  // The share of this worker in `limit` (kUnlimited: none). It holds for those who come from now
  // on; who is there stays and counts.
  void Configure(std::uint64_t limit, unsigned workers);

  // One more connection of `network` (ClientInfo::network; 0 is never refused and not counted).
  // False: it has as many as it may have, and nothing has changed.
  bool Enter(std::uint64_t network);
  // One that Enter allowed has ended.
  void Leave(std::uint64_t network);

  // Networks with a connection: what is kept in memory.
  std::size_t size() const { return counts_.size(); }

 private:
  std::uint64_t limit_ = kUnlimited;
  // Counted also while there is no limit, so that one that a reload sets holds at once.
  std::unordered_map<std::uint64_t, std::uint64_t> counts_;
};

}  // namespace tidegate
