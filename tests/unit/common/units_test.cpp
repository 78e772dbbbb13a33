#include "common/units.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using std::chrono::milliseconds;

TEST(Units, ReadsDurations) {
  EXPECT_EQ(ParseDuration("250ms"), milliseconds(250));
  EXPECT_EQ(ParseDuration("30s"), milliseconds(30'000));
  EXPECT_EQ(ParseDuration("1m30s"), milliseconds(90'000));
  EXPECT_EQ(ParseDuration("1d2h3m4s5ms"), milliseconds(93'784'005));
  EXPECT_EQ(ParseDuration("0s"), milliseconds(0));
  EXPECT_EQ(ParseDuration("off"), kNever);
}

TEST(Units, RefusesWhatIsNoDuration) {
  for (const char* text : {"", "30", "s", "30 s", "30S", "1.5s", "-1s", "1s1m", "1s1s", "30sec",
                           "+1s", "1s ", "99999999999999999999s", "36501d", "36500d1ms", "Off"}) {
    EXPECT_FALSE(ParseDuration(text)) << text;
  }
  EXPECT_EQ(ParseDuration("30").error().detail(), "a duration needs a unit; write \"30s\"");
}

TEST(Units, WritesTheShortestDuration) {
  for (const char* text :
       {"0s", "1ms", "75s", "90s", "1h", "90m", "1d1s", "1500ms", "36500d", "off"}) {
    auto value = ParseDuration(text);
    ASSERT_TRUE(value) << text;
    EXPECT_EQ(FormatDuration(*value), text);
  }
}

TEST(Units, EveryDurationSurvivesWritingAndReading) {
  for (Duration::rep i = 0; i < 200'000'000; i = i * 3 / 2 + 7) {
    EXPECT_EQ(ParseDuration(FormatDuration(milliseconds(i))), milliseconds(i));
  }
}

TEST(Units, ReadsSizes) {
  EXPECT_EQ(ParseSize("512B"), 512U);
  EXPECT_EQ(ParseSize("32KiB"), 32768U);
  EXPECT_EQ(ParseSize("10MB"), 10'000'000U);
  EXPECT_EQ(ParseSize("2GiB"), 2147483648U);
  EXPECT_EQ(ParseSize("0B"), 0U);
  EXPECT_EQ(ParseSize("off"), kUnlimited);
}

TEST(Units, RefusesWhatIsNoSize) {
  for (const char* text : {"", "32", "KiB", "32K", "32kib", "1.5MiB", "-1B", "1MiB1KiB", "32 KiB",
                           "99999999999999999999B", "2000000000GB"}) {
    EXPECT_FALSE(ParseSize(text)) << text;
  }
}

TEST(Units, WritesTheShortestSize) {
  for (const char* text : {"0B", "1B", "16KiB", "10MB", "1GiB", "1KB", "1001B", "off"}) {
    auto value = ParseSize(text);
    ASSERT_TRUE(value) << text;
    EXPECT_EQ(FormatSize(*value), text);
  }
}

}  // namespace
}  // namespace tidegate
