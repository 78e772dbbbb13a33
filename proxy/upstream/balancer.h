#pragma once

// Which endpoint an attempt goes to. Pure: the upstream says how its endpoints are, this says which
// one. A new policy is one row of the table in balancer.cpp.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/config.h"

namespace tidegate {

// One endpoint as the balancer sees it.
struct EndpointLoad {
  // Exchanges that use it now, of this worker.
  std::size_t in_flight = 0;
  // Has an address, and is not out of service.
  bool usable = true;
  // An earlier attempt of this exchange failed at it.
  bool tried = false;
};

// Asked for one endpoint at a time: most are not looked at.
class EndpointLoads {
 public:
  virtual std::size_t size() const = 0;
  // `index` is below size().
  virtual EndpointLoad At(std::size_t index) const = 0;

 protected:
  ~EndpointLoads() = default;
};

// The index of the endpoint to use, or nothing if none is usable. Endpoints that were tried are
// taken only when all usable ones were: a stale connection says nothing against its endpoint, and
// an upstream may have only one.
//
// `next` is where round robin goes on, kept by the caller for each upstream (starts at 0; any value
// is good, so the list may have changed its length). It moves behind the endpoint that was chosen.
// kLeastConnections: the fewest in flight; among equals the first in round robin order. All are
// looked at only while none is free.
std::optional<std::size_t> PickEndpoint(Balance policy, const EndpointLoads& endpoints,
                                        std::size_t& next);

}  // namespace tidegate
