#include "proxy/moving.h"

#include <utility>

namespace tidegate {

void PutIntoPool(const Snapshot& snapshot, MovingUpstream pooled) {
  const auto& upstreams = snapshot.upstreams();
  auto upstream = upstreams.find(pooled.upstream);
  if (upstream == upstreams.end()) {
    return;
  }
  if (auto endpoint = upstream->second->FindEndpoint(pooled.endpoint)) {
    upstream->second->AdoptIdle(
        {.endpoint = *endpoint, .fd = std::move(pooled.fd), .patience = pooled.patience});
  }
}

}  // namespace tidegate
