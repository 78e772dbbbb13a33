#include "proxy/memory_trim.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

class MemoryTrimTest : public testing::Test {
 protected:
  void OnRelease() { ++released; }
  // So many upstream connections are open now, and a session began before one of them ended.
  void HaveUpstream(std::uint64_t connections) {
    std::uint64_t had = counters.Get(kGauge);
    if (had < connections) {
      counters.Add(kGauge, connections - had);
      trim.Count(0, 0);
    } else {
      counters.Subtract(kGauge, had - connections);
    }
  }
  void Pass(int milliseconds) {
    loop.timers().Advance(loop.now() + static_cast<TimePoint>(milliseconds));
  }

  static constexpr CounterId kGauge = CounterId::kUpstreamConnections;
  Loop loop;
  Counters counters;
  int released = 0;
  MemoryTrim trim{loop, counters, Bind<&MemoryTrimTest::OnRelease>(this)};
};

TEST_F(MemoryTrimTest, FollowsABurstThatHasGone) {
  trim.Count(2000, 0);
  Pass(5000);
  EXPECT_EQ(trim.trims(), 0U);
  trim.Count(1001, 0);
  Pass(5000);
  EXPECT_EQ(trim.trims(), 0U) << "more than half is there";
  trim.Count(1000, 0);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 1U);
  EXPECT_EQ(released, 1);
  trim.Count(0, 0);
  Pass(5000);
  EXPECT_EQ(trim.trims(), 2U) << "the rest of it";
  trim.Count(250, 0);
  Pass(60'000);
  trim.Count(0, 0);
  Pass(60'000);
  EXPECT_EQ(trim.trims(), 2U) << "250 are no burst";
}

TEST_F(MemoryTrimTest, FollowsThePoolsAsWell) {
  HaveUpstream(3000);
  trim.Count(3000, 0);
  trim.Count(0, 0);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 1U);
  Pass(60'000);
  HaveUpstream(0);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 2U) << "no session has begun since";
}

TEST_F(MemoryTrimTest, SeesUpstreamConnectionsThatOpenWhileNoSessionBegins) {
  trim.Count(300, 0);
  counters.Add(kGauge, 300);
  Pass(2100);
  trim.Count(299, 0);
  counters.Subtract(kGauge, 300);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 1U);
}

TEST_F(MemoryTrimTest, FollowsAParkingAndTheEndOfTheParked) {
  trim.Count(10'000, 0);
  Pass(2100);
  trim.Count(6000, 4000);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 0U);
  trim.Count(0, 10'000);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 1U);
  trim.Count(0, 4000);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 2U);
}

TEST_F(MemoryTrimTest, DoesNothingForFew) {
  trim.Count(255, 0);
  trim.Count(0, 0);
  Pass(60'000);
  EXPECT_EQ(trim.trims(), 0U);
}

}  // namespace
}  // namespace tidegate
