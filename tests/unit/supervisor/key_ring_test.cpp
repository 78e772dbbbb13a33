#include "supervisor/key_ring.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

constexpr Duration kRotation = std::chrono::hours(12);
constexpr std::uint64_t kHour = 3'600'000;

using Name = std::array<unsigned char, 16>;

TEST(KeyRing, RotatesByTheClock) {
  KeyRing keys(1000);
  const Name first = keys.ring().current().name;
  const Name second = keys.ring().next().name;
  EXPECT_FALSE(keys.RotateIfDue(1000, kRotation));
  EXPECT_FALSE(keys.RotateIfDue(999 + 12 * kHour, kRotation));
  EXPECT_EQ(keys.ring().current().name, first);
  EXPECT_TRUE(keys.RotateIfDue(1000 + 12 * kHour, kRotation));
  EXPECT_EQ(keys.ring().previous().name, first);
  EXPECT_EQ(keys.ring().current().name, second);
  EXPECT_FALSE(keys.RotateIfDue(1000 + 12 * kHour, kRotation));
  EXPECT_TRUE(keys.RotateIfDue(1000 + 24 * kHour, kRotation));
}

// Invariant 2.
TEST(KeyRing, RotatesOnceHoweverLongTheMachineSlept) {
  KeyRing keys(0);
  const Name second = keys.ring().next().name;
  EXPECT_TRUE(keys.RotateIfDue(500 * kHour, kRotation));
  EXPECT_EQ(keys.ring().current().name, second);
  EXPECT_FALSE(keys.RotateIfDue(500 * kHour, kRotation));
  EXPECT_FALSE(keys.RotateIfDue(512 * kHour - 1, kRotation));
  EXPECT_TRUE(keys.RotateIfDue(512 * kHour, kRotation));
}

// Invariant 2.
TEST(KeyRing, AShorterRotationCountsFromTheLastOne) {
  KeyRing keys(0);
  EXPECT_FALSE(keys.RotateIfDue(5 * kHour, kRotation));
  EXPECT_TRUE(keys.RotateIfDue(5 * kHour, std::chrono::minutes(1)));
  EXPECT_FALSE(keys.RotateIfDue(5 * kHour + 59'999, std::chrono::minutes(1)));
  EXPECT_TRUE(keys.RotateIfDue(5 * kHour + 60'000, std::chrono::minutes(1)));
}

TEST(KeyRing, LooksAtTheClockWhenItMayBeTime) {
  KeyRing keys(0);
  EXPECT_EQ(keys.Wait(0, kRotation), std::chrono::minutes(1)) << "the machine may be suspended";
  EXPECT_EQ(keys.Wait(12 * kHour - 5, kRotation), Duration(5));
  EXPECT_EQ(keys.Wait(13 * kHour, kRotation), Duration(1));
}

TEST(KeyRing, GoesOnInTheNextImageAndBackInTheOneBefore) {
  KeyRing before(0);
  before.RotateIfDue(12 * kHour, kRotation);
  auto packed = before.Pack();
  ASSERT_TRUE(packed);
  const int fd = packed->get();
  KeyRing after(20 * kHour);
  ASSERT_TRUE(after.Restore(std::move(*packed), 20 * kHour));
  EXPECT_EQ(after.ring().current().name, before.ring().current().name);
  EXPECT_FALSE(after.RotateIfDue(24 * kHour - 1, kRotation));
  EXPECT_TRUE(after.RotateIfDue(24 * kHour, kRotation)) << "when it was due before";
  // The image before gets the very descriptor back.
  KeyRing again(24 * kHour);
  ASSERT_TRUE(again.Restore(UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3)), 24 * kHour));
  EXPECT_EQ(again.ring().current().name, before.ring().current().name);
  after.EndWayBack();
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1) << "old keys are not kept for ever";
}

TEST(KeyRing, KeepsItsNewKeysWhenTheImageBeforeHadNone) {
  KeyRing keys(0);
  const Name name = keys.ring().current().name;
  EXPECT_FALSE(keys.Restore(UniqueFd(), 0));
  EXPECT_FALSE(keys.Restore(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)), 0));
  EXPECT_FALSE(keys.Learn(-1, 0));
  EXPECT_EQ(keys.ring().current().name, name);
}

TEST(KeyRing, AKeyOfTheFutureRotatesInTime) {
  KeyRing wrong(1'000'000 * kHour);
  KeyRing keys(0);
  ASSERT_TRUE(keys.Learn(wrong.Pack()->get(), kHour));
  EXPECT_EQ(keys.ring().current().name, wrong.ring().current().name);
  EXPECT_TRUE(keys.RotateIfDue(13 * kHour, kRotation));
}

TEST(KeyRing, LearnsTheNewestThatWorkersOfADeadSupervisorHave) {
  KeyRing dead(kHour);
  auto old = dead.Pack();
  dead.RotateIfDue(13 * kHour, kRotation);
  auto newer = dead.Pack();
  ASSERT_TRUE(old && newer);
  KeyRing keys(14 * kHour);
  EXPECT_TRUE(keys.Learn(old->get(), 14 * kHour))
      << "older than ours, but clients have its tickets";
  EXPECT_TRUE(keys.Learn(newer->get(), 14 * kHour));
  EXPECT_TRUE(keys.Learn(old->get(), 14 * kHour));
  EXPECT_EQ(keys.ring().current().name, dead.ring().current().name);
}

TEST(KeyRing, ATestMovesItsClock) {
  const std::string path = testing::TempDir() + "tidegate-clock-" + std::to_string(::getpid());
  const std::uint64_t now = KeyRing::Now();
  ::setenv("TIDEGATE_TEST_CLOCK", path.c_str(), 1);
  EXPECT_LT(KeyRing::Now() - now, kHour);
  std::ofstream(path) << 100 * kHour;
  EXPECT_GE(KeyRing::Now() - now, 100 * kHour);
  EXPECT_LT(KeyRing(0).Wait(0, kRotation), std::chrono::seconds(1));
  ::unsetenv("TIDEGATE_TEST_CLOCK");
  EXPECT_LT(KeyRing::Now() - now, kHour);
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace tidegate
