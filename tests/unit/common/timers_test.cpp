#include "common/timers.h"

#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using std::chrono::milliseconds;

struct Counter {
  int fired = 0;
  void Fire() { ++fired; }
};

TEST(TimerWheel, FiresWhenTheTimeHasComeAndNotBefore) {
  TimerWheel wheel(1000);
  Counter counter;
  Deadline deadline(wheel, Bind<&Counter::Fire>(&counter));
  deadline.Arm(milliseconds(500));
  wheel.Advance(1499);
  EXPECT_EQ(counter.fired, 0);
  wheel.Advance(1500);
  EXPECT_EQ(counter.fired, 1);
  EXPECT_FALSE(deadline.armed());
  wheel.Advance(100000);
  EXPECT_EQ(counter.fired, 1);
}

TEST(TimerWheel, NeverAndDisarmFireNothing) {
  TimerWheel wheel(0);
  Counter counter;
  Deadline deadline(wheel, Bind<&Counter::Fire>(&counter));
  deadline.Arm(kNever);
  EXPECT_EQ(wheel.NextTick(), TimerWheel::kNothing);
  deadline.Arm(milliseconds(10));
  deadline.Disarm();
  wheel.Advance(1000);
  EXPECT_EQ(counter.fired, 0);
}

TEST(TimerWheel, TellsWhatIsLeft) {
  TimerWheel wheel(50);
  Counter counter;
  Deadline deadline(wheel, Bind<&Counter::Fire>(&counter));
  EXPECT_EQ(deadline.left(), kNever);
  deadline.Arm(milliseconds(100));
  EXPECT_EQ(deadline.left(), milliseconds(100));
  wheel.Advance(110);
  EXPECT_EQ(deadline.left(), milliseconds(40));
  deadline.Arm(milliseconds(0));
  EXPECT_EQ(deadline.left(), milliseconds(1));
  wheel.Advance(200);
  EXPECT_EQ(deadline.left(), kNever);
}

TEST(TimerWheel, MovesLaterAndEarlier) {
  TimerWheel wheel(0);
  Counter counter;
  Deadline deadline(wheel, Bind<&Counter::Fire>(&counter));
  deadline.Arm(milliseconds(100));
  wheel.Advance(90);
  deadline.Arm(milliseconds(100));
  wheel.Advance(189);
  EXPECT_EQ(counter.fired, 0);
  wheel.Advance(190);
  EXPECT_EQ(counter.fired, 1);
  deadline.Arm(milliseconds(60000));
  deadline.Arm(milliseconds(5));
  wheel.Advance(195);
  EXPECT_EQ(counter.fired, 2);
}

TEST(TimerWheel, ReachesBeyondItsLastLevel) {
  TimerWheel wheel(12345);
  Counter counter;
  Deadline deadline(wheel, Bind<&Counter::Fire>(&counter));
  constexpr TimePoint kThirtyDays = TimePoint{30} * 24 * 3600 * 1000;
  deadline.Arm(milliseconds(kThirtyDays));
  wheel.Advance(12345 + kThirtyDays - 1);
  EXPECT_EQ(counter.fired, 0);
  wheel.Advance(12345 + kThirtyDays);
  EXPECT_EQ(counter.fired, 1);
}

TEST(TimerWheel, AZeroTimeoutWaitsForTheNextAdvance) {
  TimerWheel wheel(10);
  Counter counter;
  Deadline deadline(wheel, Bind<&Counter::Fire>(&counter));
  deadline.Arm(milliseconds(0));
  EXPECT_EQ(counter.fired, 0);
  wheel.Advance(11);
  EXPECT_EQ(counter.fired, 1);
}

struct Killer {
  std::vector<std::unique_ptr<Deadline>>* all;
  void Fire() { all->clear(); }
};

TEST(TimerWheel, ACallbackMayDestroyEveryDeadlineThatIsDueWithIt) {
  TimerWheel wheel(0);
  std::vector<std::unique_ptr<Deadline>> others;
  Killer killer{&others};
  for (int i = 0; i < 10; ++i) {
    others.push_back(std::make_unique<Deadline>(wheel, Bind<&Killer::Fire>(&killer)));
    others.back()->Arm(milliseconds(7));
  }
  wheel.Advance(7);
  EXPECT_TRUE(others.empty());
}

struct Recorder {
  TimerWheel* wheel;
  TimePoint due = 0;
  TimePoint fired_at = 0;
  int fired = 0;
  void Fire() {
    fired_at = wheel->now();
    ++fired;
  }
};

TEST(TimerWheel, NextTickNeverSleepsOverADeadline) {
  std::mt19937_64 random(4711);
  for (int round = 0; round < 200; ++round) {
    TimePoint start = random() % (TimePoint{1} << 40);
    TimerWheel wheel(start);
    std::vector<Recorder> recorders(20, Recorder{&wheel});
    std::vector<std::unique_ptr<Deadline>> deadlines;
    for (Recorder& recorder : recorders) {
      deadlines.push_back(std::make_unique<Deadline>(wheel, Bind<&Recorder::Fire>(&recorder)));
      TimePoint timeout = 1 + (random() >> (random() % 32 + 32));
      recorder.due = start + timeout;
      deadlines.back()->Arm(milliseconds(timeout));
    }
    // Like a loop that is woken only by its timer, and sometimes by something else before.
    for (TimePoint next = wheel.NextTick(); next != TimerWheel::kNothing; next = wheel.NextTick()) {
      TimePoint now = wheel.now();
      wheel.Advance(random() % 4 == 0 ? now + random() % (next - now) : next);
    }
    for (const Recorder& recorder : recorders) {
      EXPECT_EQ(recorder.fired, 1);
      EXPECT_EQ(recorder.fired_at, recorder.due);
    }
  }
}

TEST(TimerWheel, AsksTheClockUnlessItIsHeld) {
  TimePoint time = 10;
  TimerWheel wheel(0, [](void* argument) { return *static_cast<TimePoint*>(argument); }, &time);
  EXPECT_EQ(wheel.now(), 10U);
  wheel.Hold(20);
  time = 30;
  EXPECT_EQ(wheel.now(), 20U);
  wheel.Release();
  EXPECT_EQ(wheel.now(), 30U);
  // Nor does it go back when it is held.
  wheel.Hold(25);
  EXPECT_EQ(wheel.now(), 30U);
  wheel.Release();
}

}  // namespace
}  // namespace tidegate
