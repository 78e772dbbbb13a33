#include "proxy/upstream/balancer.h"

#include <initializer_list>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

constexpr auto kRobin = Balance::kRoundRobin;
constexpr auto kLeast = Balance::kLeastConnections;
constexpr EndpointLoad kDown = {.in_flight = 0, .usable = false, .tried = false};
constexpr EndpointLoad kTried = {.in_flight = 0, .usable = true, .tried = true};

EndpointLoad Busy(std::size_t in_flight) {
  return {.in_flight = in_flight, .usable = true, .tried = false};
}

EndpointLoad TriedBusy(std::size_t in_flight) {
  return {.in_flight = in_flight, .usable = true, .tried = true};
}

class Listed final : public EndpointLoads {
 public:
  explicit Listed(const std::vector<EndpointLoad>& loads) : loads_(loads) {}
  std::size_t size() const override { return loads_.size(); }
  EndpointLoad At(std::size_t index) const override {
    ++looked_at;
    return loads_[index];
  }
  mutable std::size_t looked_at = 0;

 private:
  const std::vector<EndpointLoad>& loads_;
};

struct Row {
  std::string_view what;
  Balance policy;
  std::vector<EndpointLoad> endpoints;
  std::size_t next;
  int picked;  // -1: nothing
  std::size_t next_after;
};

TEST(BalancerTest, FollowsTheTable) {
  for (const Row& row : std::initializer_list<Row>{
           {"no endpoints", kRobin, {}, 0, -1, 0},
           {"no endpoints, least", kLeast, {}, 3, -1, 3},
           {"one", kRobin, {Busy(7)}, 0, 0, 0},
           {"one, down", kRobin, {kDown}, 0, -1, 0},
           {"one, tried", kRobin, {kTried}, 0, 0, 0},
           {"robin starts at next", kRobin, {Busy(0), Busy(9), Busy(0)}, 1, 1, 2},
           {"robin wraps", kRobin, {Busy(0), Busy(0), Busy(0)}, 2, 2, 0},
           {"robin takes any next", kRobin, {Busy(0), Busy(0), Busy(0)}, 7, 1, 2},
           {"robin skips what is down", kRobin, {Busy(0), kDown, Busy(0)}, 1, 2, 0},
           {"robin skips what was tried", kRobin, {Busy(0), kTried, Busy(0)}, 1, 2, 0},
           {"robin, tried before down", kRobin, {kDown, kTried, kDown}, 0, 1, 2},
           {"robin, all tried", kRobin, {kTried, kTried}, 1, 1, 0},
           {"all down", kRobin, {kDown, kDown}, 1, -1, 1},
           {"least", kLeast, {Busy(3), Busy(1), Busy(2)}, 0, 1, 2},
           {"least, equals in order", kLeast, {Busy(1), Busy(1), Busy(1)}, 2, 2, 0},
           {"least, equals wrap", kLeast, {Busy(1), Busy(2), Busy(1)}, 1, 2, 0},
           {"least, not what is down", kLeast, {Busy(3), kDown, Busy(2)}, 0, 2, 0},
           {"least, tried only at last", kLeast, {Busy(3), TriedBusy(0), Busy(2)}, 0, 2, 0},
           {"least, tried first in order", kLeast, {TriedBusy(0), Busy(5)}, 0, 1, 0},
           {"least, all tried", kLeast, {TriedBusy(4), TriedBusy(2)}, 0, 1, 0},
       }) {
    std::size_t next = row.next;
    auto picked = PickEndpoint(row.policy, Listed(row.endpoints), next);
    EXPECT_EQ(picked ? static_cast<int>(*picked) : -1, row.picked) << row.what;
    EXPECT_EQ(next, row.next_after) << row.what;
  }
}

TEST(BalancerTest, SpreadsIdleEndpointsEvenlyUnderBothPolicies) {
  for (Balance policy : {kRobin, kLeast}) {
    std::vector<EndpointLoad> endpoints(3);
    std::vector<int> counts(3);
    std::size_t next = 0;
    for (int i = 0; i < 300; ++i) {
      auto picked = PickEndpoint(policy, Listed(endpoints), next);
      ASSERT_TRUE(picked);
      ++counts[*picked];
    }
    EXPECT_EQ(counts, (std::vector<int>{100, 100, 100}));
  }
}

TEST(BalancerTest, LooksNoFurtherThanTheFirstThatIsFree) {
  std::vector<EndpointLoad> endpoints(1000, Busy(1));
  endpoints[12] = Busy(0);
  Listed listed(endpoints);
  std::size_t next = 10;
  EXPECT_EQ(PickEndpoint(kLeast, listed, next), 12U);
  EXPECT_EQ(listed.looked_at, 3U);
  listed.looked_at = 0;
  EXPECT_EQ(PickEndpoint(kRobin, listed, next), 13U);
  EXPECT_EQ(listed.looked_at, 1U);
}

}  // namespace
}  // namespace tidegate
