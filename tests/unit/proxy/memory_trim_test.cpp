#include "proxy/memory_trim.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

class MemoryTrimTest : public testing::Test {
 protected:
  void OnRelease() { ++released; }
  // So many connections are open now, and a session began before one of them ended.
  void Have(CounterId gauge, std::uint64_t connections) {
    while (counters.Get(gauge) < connections) {
      counters.Add(gauge);
      trim.OnSession();
    }
    counters.Subtract(gauge, counters.Get(gauge) - connections);
  }
  void Pass(int milliseconds) {
    loop.timers().Advance(loop.now() + static_cast<TimePoint>(milliseconds));
  }

  Loop loop;
  Counters counters;
  int released = 0;
  MemoryTrim trim{loop, counters, Bind<&MemoryTrimTest::OnRelease>(this)};
};

TEST_F(MemoryTrimTest, FollowsABurstThatHasGone) {
  Have(CounterId::kConnectionsActive, 2000);
  Pass(5000);
  EXPECT_EQ(trim.trims(), 0U);
  Have(CounterId::kConnectionsActive, 1001);
  Pass(5000);
  EXPECT_EQ(trim.trims(), 0U) << "more than half is there";
  Have(CounterId::kConnectionsActive, 1000);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 1U);
  EXPECT_EQ(released, 1);
  Have(CounterId::kConnectionsActive, 0);
  Pass(5000);
  EXPECT_EQ(trim.trims(), 1U) << "1,000 are no burst";
}

TEST_F(MemoryTrimTest, FollowsThePoolsAsWell) {
  Have(CounterId::kUpstreamConnections, 3000);
  Have(CounterId::kConnectionsActive, 3000);
  Have(CounterId::kConnectionsActive, 0);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 1U);
  Pass(60'000);
  Have(CounterId::kUpstreamConnections, 0);
  Pass(2100);
  EXPECT_EQ(trim.trims(), 2U) << "no session has begun since";
}

TEST_F(MemoryTrimTest, DoesNothingForFew) {
  Have(CounterId::kConnectionsActive, 1023);
  Have(CounterId::kConnectionsActive, 0);
  Pass(60'000);
  EXPECT_EQ(trim.trims(), 0U);
}

}  // namespace
}  // namespace tidegate
