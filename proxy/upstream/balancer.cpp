#include "proxy/upstream/balancer.h"

#include <array>

namespace tidegate {
namespace {

struct PolicyRow {
  Balance policy;
  // Of what counts nothing else: the first in round robin order is the best.
  bool counts_in_flight;
};
constexpr std::array kPolicies = {
    PolicyRow{Balance::kRoundRobin, false},
    PolicyRow{Balance::kLeastConnections, true},
};

bool CountsInFlight(Balance policy) {
  for (const PolicyRow& row : kPolicies) {
    if (row.policy == policy) {
      return row.counts_in_flight;
    }
  }
  return false;
}

}  // namespace

std::optional<std::size_t> PickEndpoint(Balance policy, const EndpointLoads& endpoints,
                                        std::size_t& next) {
  const std::size_t size = endpoints.size();
  if (size == 0) {
    return std::nullopt;
  }
  const bool counts = CountsInFlight(policy);
  std::optional<std::size_t> best;
  EndpointLoad load_of_best;
  std::size_t index = next < size ? next : next % size;
  for (std::size_t step = 0; step < size; ++step) {
    const EndpointLoad candidate = endpoints.At(index);
    if (candidate.usable) {
      const bool fresher = load_of_best.tried && !candidate.tried;
      const bool as_fresh = load_of_best.tried == candidate.tried;
      const bool freer = counts && candidate.in_flight < load_of_best.in_flight;
      if (!best || fresher || (as_fresh && freer)) {
        best = index;
        load_of_best = candidate;
      }
      if (!load_of_best.tried && (!counts || load_of_best.in_flight == 0)) {
        break;
      }
    }
    index = index + 1 == size ? 0 : index + 1;
  }
  if (best) {
    next = *best + 1 == size ? 0 : *best + 1;
  }
  return best;
}

}  // namespace tidegate
