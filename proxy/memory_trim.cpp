#include "proxy/memory_trim.h"

#include <malloc.h>

#include <algorithm>

namespace tidegate {
namespace {

constexpr std::uint64_t kBurst = 256;
constexpr std::uint64_t kRest = 100;
constexpr std::size_t kParkedASession = 4;
constexpr Duration kTick = std::chrono::seconds(2);

}  // namespace

MemoryTrim::MemoryTrim(Loop& loop, const Counters& counters, Callback release)
    : counters_(counters),
      release_(release),
      tick_(loop.timers(), Bind<&MemoryTrim::OnTick>(this)) {}

std::uint64_t MemoryTrim::Connections() const {
  return sessions_ + counters_.Get(CounterId::kUpstreamConnections);
}

void MemoryTrim::Count(std::size_t sessions, std::size_t parked) {
  sessions_ = sessions + parked / kParkedASession;
  peak_ = std::max(peak_, Connections());
  if (peak_ >= kBurst && !tick_.armed()) {
    tick_.Arm(kTick);
  }
}

void MemoryTrim::OnTick() {
  std::uint64_t connections = Connections();
  peak_ = std::max(peak_, connections);
  // The burst was still going when the last trim came.
  bool rest = connections + kRest <= trimmed_at_;
  trimmed_at_ = 0;
  if (connections <= peak_ / 2 || rest) {
    release_();
    ::malloc_trim(0);
    peak_ = trimmed_at_ = connections;
    ++trims_;
  }
  if (peak_ >= kBurst || trimmed_at_ >= kRest) {
    tick_.Arm(kTick);
  }
}

}  // namespace tidegate
