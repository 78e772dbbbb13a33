#include "proxy/body_pace.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(BodyPace, WithoutARateOnlyThePieceCounts) {
  BodyPace pace(seconds(30), kUnlimited);
  pace.Waited(hours(24));
  EXPECT_EQ(pace.Patience(0), seconds(30));
  EXPECT_EQ(BodyPace(kNever, kUnlimited).Patience(0), kNever);
}

TEST(BodyPace, EachOctetEarnsTime) {
  BodyPace pace(seconds(10), 100);
  EXPECT_EQ(pace.Patience(0), seconds(10));
  pace.Waited(seconds(9));
  EXPECT_EQ(pace.Patience(0), seconds(1));
  EXPECT_EQ(pace.Patience(50), milliseconds(1500));
  EXPECT_EQ(pace.Patience(100'000), seconds(10)) << "never longer than a piece may take";
  pace.Waited(seconds(9));
  EXPECT_EQ(pace.Patience(50), Duration::zero());
}

TEST(BodyPace, WithoutABoundOnThePieceThereIsAGrace) {
  BodyPace pace(kNever, 1000);
  EXPECT_EQ(pace.Patience(0), seconds(30));
  pace.Waited(seconds(31));
  EXPECT_EQ(pace.Patience(0), Duration::zero());
  EXPECT_EQ(pace.Patience(2000), seconds(1));
}

TEST(BodyPace, NothingOverflows) {
  BodyPace pace(seconds(10), 1);
  pace.Waited(hours(24));
  EXPECT_EQ(pace.Patience(kUnlimited - 1), seconds(10));
  EXPECT_EQ(BodyPace(seconds(10), 1ULL << 50U).Patience((1ULL << 50U) - 1), seconds(10));
}

}  // namespace
}  // namespace tidegate
