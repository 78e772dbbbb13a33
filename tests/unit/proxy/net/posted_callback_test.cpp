#include "proxy/net/posted_callback.h"

#include <optional>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

struct Counter {
  void Count() {
    ++count;
    if (again) {
      again = false;
      posted->Post();
    }
    if (destroy) {
      posted.reset();
    }
  }
  int count = 0;
  bool again = false;
  bool destroy = false;
  std::optional<PostedCallback> posted{std::in_place, Bind<&Counter::Count>(this)};
};

TEST(PostedCallback, ComesOnceFromTheReadyQueue) {
  Counter counter;
  counter.posted->Post();
  counter.posted->Post();
  EXPECT_TRUE(counter.posted->posted());
  EXPECT_EQ(counter.count, 0);
  ReadyQueue::Drain();
  EXPECT_EQ(counter.count, 1);
  ReadyQueue::Drain();
  EXPECT_EQ(counter.count, 1);
}

TEST(PostedCallback, MayPostAgainAndMayDestroy) {
  Counter counter;
  counter.again = true;
  counter.posted->Post();
  ReadyQueue::Drain();
  EXPECT_EQ(counter.count, 2);
  counter.destroy = true;
  counter.posted->Post();
  ReadyQueue::Drain();
  EXPECT_EQ(counter.count, 3);
  EXPECT_FALSE(counter.posted.has_value());
}

TEST(PostedCallback, IsTakenBackByItsDestructor) {
  Counter counter;
  counter.posted->Post();
  counter.posted.reset();
  ReadyQueue::Drain();
  EXPECT_EQ(counter.count, 0);
}

TEST(PostedCallback, ThatWasTakenBackMayBePostedAgain) {
  Counter counter;
  counter.posted->Post();
  counter.posted->TakeBack();
  counter.posted->Post();
  ReadyQueue::Drain();
  EXPECT_EQ(counter.count, 1);
}

}  // namespace
}  // namespace tidegate
