#include "common/timed_wait.h"

#include <gtest/gtest.h>

#include "common/task.h"

namespace tidegate {
namespace {

struct Fixture {
  TimerWheel wheel{0};
  Event event;
  int expired = 0;
  void OnExpiry() {
    ++expired;
    event.Set();
  }
  Deadline deadline{wheel, Bind<&Fixture::OnExpiry>(this)};
  bool done = false;
};

Task<void> WaitOnce(Fixture& fixture) {
  co_await TimedWait(fixture.deadline, Duration(10), fixture.event.Wait());
  fixture.done = true;
}

TEST(TimedWait, ArmsNothingForWhatIsThere) {
  Fixture fixture;
  TaskScope scope;
  fixture.event.Set();
  // Left armed by somebody else: it must not fire into what comes after the wait.
  fixture.deadline.Arm(Duration(1));
  scope.Start(WaitOnce(fixture));
  ReadyQueue::Drain();
  EXPECT_TRUE(fixture.done);
  EXPECT_FALSE(fixture.deadline.armed());
}

TEST(TimedWait, IsArmedWhileItWaits) {
  Fixture fixture;
  TaskScope scope;
  scope.Start(WaitOnce(fixture));
  ReadyQueue::Drain();
  EXPECT_TRUE(fixture.deadline.armed());
  fixture.event.Set();
  ReadyQueue::Drain();
  EXPECT_TRUE(fixture.done);
  EXPECT_FALSE(fixture.deadline.armed());
  EXPECT_EQ(fixture.expired, 0);
}

TEST(TimedWait, EndsByItsDeadline) {
  Fixture fixture;
  TaskScope scope;
  scope.Start(WaitOnce(fixture));
  ReadyQueue::Drain();
  fixture.wheel.Advance(20);
  ReadyQueue::Drain();
  EXPECT_TRUE(fixture.done);
  EXPECT_EQ(fixture.expired, 1);
}

}  // namespace
}  // namespace tidegate
