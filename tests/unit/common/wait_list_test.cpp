#include "common/wait_list.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using std::chrono::milliseconds;

Task<void> WaitIn(WaitList& list, TimerWheel& wheel, Duration timeout, std::string name,
                  std::vector<std::string>& out) {
  bool woken = co_await list.Wait(wheel, timeout);
  out.push_back(name + (woken ? " woken" : " timed out"));
}

TEST(WaitList, WakesInOrderAndCountsWhoHasNotRunYet) {
  TimerWheel wheel(0);
  WaitList list;
  std::vector<std::string> out;
  TaskScope scope;
  scope.Start(WaitIn(list, wheel, kNever, "a", out));
  scope.Start(WaitIn(list, wheel, kNever, "b", out));
  ReadyQueue::Drain();
  EXPECT_EQ(list.size(), 2U);
  list.WakeOne();
  EXPECT_EQ(list.size(), 2U);
  ReadyQueue::Drain();
  EXPECT_EQ(list.size(), 1U);
  list.WakeAll();
  list.WakeOne();
  ReadyQueue::Drain();
  EXPECT_EQ(out, (std::vector<std::string>{"a woken", "b woken"}));
}

TEST(WaitList, TheTimeoutTakesOneOutOfTheMiddle) {
  TimerWheel wheel(0);
  WaitList list;
  std::vector<std::string> out;
  TaskScope scope;
  scope.Start(WaitIn(list, wheel, kNever, "a", out));
  scope.Start(WaitIn(list, wheel, milliseconds(10), "b", out));
  scope.Start(WaitIn(list, wheel, kNever, "c", out));
  ReadyQueue::Drain();
  wheel.Advance(10);
  ReadyQueue::Drain();
  EXPECT_EQ(out, std::vector<std::string>{"b timed out"});
  list.WakeAll();
  ReadyQueue::Drain();
  EXPECT_EQ(out, (std::vector<std::string>{"b timed out", "a woken", "c woken"}));
}

TEST(WaitList, AWakeThatCameFirstBeatsTheTimeout) {
  TimerWheel wheel(0);
  WaitList list;
  std::vector<std::string> out;
  TaskScope scope;
  scope.Start(WaitIn(list, wheel, milliseconds(10), "a", out));
  ReadyQueue::Drain();
  list.WakeOne();
  wheel.Advance(100);
  ReadyQueue::Drain();
  EXPECT_EQ(out, std::vector<std::string>{"a woken"});
}

Task<void> WaitAndShow(WaitList& list, TimerWheel& wheel, WaitList::Awaiter*& shown, bool& woken) {
  auto waiting = list.Wait(wheel, kNever);
  shown = &waiting;
  woken = co_await waiting;
  shown = nullptr;
}

TEST(WaitList, CancelEndsTheWaitWithoutAWake) {
  TimerWheel wheel(0);
  WaitList list;
  WaitList::Awaiter* waiting = nullptr;
  bool woken = true;
  TaskScope scope;
  scope.Start(WaitAndShow(list, wheel, waiting, woken));
  ReadyQueue::Drain();
  waiting->Cancel();
  waiting->Cancel();
  ReadyQueue::Drain();
  EXPECT_FALSE(woken);
  EXPECT_EQ(list.size(), 0U);
}

}  // namespace
}  // namespace tidegate
