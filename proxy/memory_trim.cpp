#include "proxy/memory_trim.h"

#include <malloc.h>

#include <algorithm>

namespace tidegate {
namespace {

constexpr std::uint64_t kBurst = 1024;
constexpr Duration kTick = std::chrono::seconds(2);

}  // namespace

MemoryTrim::MemoryTrim(Loop& loop, const Counters& counters, Callback release)
    : counters_(counters),
      release_(release),
      tick_(loop.timers(), Bind<&MemoryTrim::OnTick>(this)) {}

std::uint64_t MemoryTrim::Connections() const {
  return counters_.Get(CounterId::kConnectionsActive) +
         counters_.Get(CounterId::kUpstreamConnections);
}

void MemoryTrim::OnSession() {
  peak_ = std::max(peak_, Connections());
  if (peak_ >= kBurst && !tick_.armed()) {
    tick_.Arm(kTick);
  }
}

void MemoryTrim::OnTick() {
  std::uint64_t connections = Connections();
  peak_ = std::max(peak_, connections);
  if (connections <= peak_ / 2) {
    release_();
    ::malloc_trim(0);
    peak_ = connections;
    ++trims_;
  }
  if (peak_ >= kBurst) {
    tick_.Arm(kTick);
  }
}

}  // namespace tidegate
