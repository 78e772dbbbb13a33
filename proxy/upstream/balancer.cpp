#include "proxy/upstream/balancer.h"

#include <array>

namespace tidegate {
namespace {

// True if `candidate` is to be taken instead of `best`, which stands before it in round robin
// order.
using Better = bool (*)(const EndpointLoad& candidate, const EndpointLoad& best);

bool NeverBetter(const EndpointLoad&, const EndpointLoad&) {
  return false;
}

bool HasFewerInFlight(const EndpointLoad& candidate, const EndpointLoad& best) {
  return candidate.in_flight < best.in_flight;
}

struct PolicyRow {
  Balance policy;
  Better better;
};
constexpr std::array kPolicies = {
    PolicyRow{Balance::kRoundRobin, &NeverBetter},
    PolicyRow{Balance::kLeastConnections, &HasFewerInFlight},
};

Better BetterFor(Balance policy) {
  for (const PolicyRow& row : kPolicies) {
    if (row.policy == policy) {
      return row.better;
    }
  }
  return &NeverBetter;
}

}  // namespace

std::optional<std::size_t> PickEndpoint(Balance policy, std::span<const EndpointLoad> endpoints,
                                        std::size_t& next) {
  if (endpoints.empty()) {
    return std::nullopt;
  }
  Better better = BetterFor(policy);
  std::optional<std::size_t> best;
  std::size_t index = next < endpoints.size() ? next : next % endpoints.size();
  for (std::size_t step = 0; step < endpoints.size(); ++step) {
    const EndpointLoad& candidate = endpoints[index];
    if (candidate.usable) {
      bool first = !best.has_value();
      bool fresher = !first && endpoints[*best].tried && !candidate.tried;
      bool staler = !first && candidate.tried && !endpoints[*best].tried;
      if (first || fresher || (!staler && better(candidate, endpoints[*best]))) {
        best = index;
      }
    }
    index = index + 1 == endpoints.size() ? 0 : index + 1;
  }
  if (best) {
    next = *best + 1 == endpoints.size() ? 0 : *best + 1;
  }
  return best;
}

}  // namespace tidegate
