#include "proxy/peer_limit.h"

#include "common/check.h"

namespace tidegate {

void PeerLimit::Configure(std::uint64_t limit, unsigned workers) {
  limit_ = limit == kUnlimited ? kUnlimited : limit / workers + (limit % workers != 0 ? 1 : 0);
}

bool PeerLimit::Enter(std::uint64_t network) {
  if (network == 0) {
    return true;
  }
  std::uint64_t& count = counts_[network];
  if (count >= limit_) {
    return false;
  }
  ++count;
  return true;
}

void PeerLimit::Leave(std::uint64_t network) {
  if (network == 0) {
    return;
  }
  auto found = counts_.find(network);
  TG_CHECK(found != counts_.end());
  if (--found->second == 0) {
    counts_.erase(found);
  }
}

}  // namespace tidegate
