#include "common/task.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/loop.h"

namespace tidegate {
namespace {

Task<int> Seven() {
  co_return 7;
}

Task<void> Add(std::vector<int>& out, int value) {
  out.push_back(value);
  co_return;
}

Task<void> Caller(std::vector<int>& out) {
  int seven = co_await Seven();
  out.push_back(seven);
}

TEST(Task, Invariant1NothingRunsBeforeDrain) {
  std::vector<int> out;
  {
    TaskScope scope;
    scope.Start(Caller(out));
    EXPECT_TRUE(out.empty());
    ReadyQueue::Drain();
    EXPECT_EQ(scope.count(), 0U);
  }
  EXPECT_EQ(out, std::vector<int>{7});
}

Task<void> WaitFor(Event& event, std::vector<int>& out, int value) {
  co_await event.Wait();
  out.push_back(value);
}

TEST(Task, Invariant4PostsRunInOrder) {
  std::vector<int> out;
  TaskScope scope;
  for (int i = 0; i < 5; ++i) {
    scope.Start(Add(out, i));
  }
  ReadyQueue::Drain();
  EXPECT_EQ(out, (std::vector<int>{0, 1, 2, 3, 4}));
}

Task<void> AddThenAwaitAdd(std::vector<int>& out) {
  out.push_back(1);
  co_await Add(out, 2);
  out.push_back(3);
}

TEST(Task, Invariant1AnAwaitedTaskRunsBeforeWhatIsPosted) {
  std::vector<int> out;
  TaskScope scope;
  scope.Start(AddThenAwaitAdd(out));
  scope.Start(Add(out, 4));
  ReadyQueue::Drain();
  EXPECT_EQ(out, (std::vector<int>{1, 2, 3, 4}));
}

Task<void> AwaitMany(int& count) {
  for (int i = 0; i < 100000; ++i) {
    int seven = co_await Seven();
    count += seven == 7 ? 1 : 0;
  }
}

TEST(Task, TheStackStaysFlatHoweverManyTheCalls) {
  int count = 0;
  TaskScope scope;
  scope.Start(AwaitMany(count));
  ReadyQueue::Drain();
  EXPECT_EQ(count, 100000);
}

TEST(Task, AnEventSetBeforeTheWaitIsNotLost) {
  std::vector<int> out;
  Event event;
  TaskScope scope;
  event.Set();
  event.Set();
  scope.Start(WaitFor(event, out, 1));
  ReadyQueue::Drain();
  EXPECT_EQ(out, std::vector<int>{1});
}

Task<void> Parent(Event& event, std::vector<int>& out) {
  TaskScope scope;
  scope.Start(WaitFor(event, out, 1));
  scope.Start(Add(out, 2));
  co_await scope.Join();
  out.push_back(3);
}

TEST(Task, Invariant3AParentJoinsItsChildren) {
  std::vector<int> out;
  Event event;
  TaskScope scope;
  scope.Start(Parent(event, out));
  ReadyQueue::Drain();
  EXPECT_EQ(out, std::vector<int>{2});
  event.Set();
  ReadyQueue::Drain();
  EXPECT_EQ(out, (std::vector<int>{2, 1, 3}));
}

TEST(TaskDeath, Invariant2AScopeMayNotDieBeforeItsChildren) {
  EXPECT_DEATH(
      {
        std::vector<int> out;
        Event event;
        TaskScope scope;
        scope.Start(WaitFor(event, out, 1));
        ReadyQueue::Drain();
      },
      "count_ == 0");
}

Task<int> Deep(int depth) {
  if (depth == 0) {
    co_return 0;
  }
  int below = co_await Deep(depth - 1);
  co_return below + 1;
}

Task<void> Dive(int& result) {
  int depth = co_await Deep(100000);
  result = depth;
}

TEST(Task, TheStackStaysFlatHoweverDeepTheCalls) {
  int result = 0;
  TaskScope scope;
  scope.Start(Dive(result));
  ReadyQueue::Drain();
  EXPECT_EQ(result, 100000);
}

Task<void> SleepThenStop(Loop& loop, TimePoint& woke) {
  co_await Sleep(loop.timers(), Duration(20));
  woke = loop.now();
  loop.Stop();
}

TEST(Loop, SleepsOnTheWheel) {
  Loop loop;
  TimePoint start = loop.now();
  TimePoint woke = 0;
  TaskScope scope;
  scope.Start(SleepThenStop(loop, woke));
  loop.Run();
  EXPECT_GE(woke, start + 20);
}

}  // namespace
}  // namespace tidegate
