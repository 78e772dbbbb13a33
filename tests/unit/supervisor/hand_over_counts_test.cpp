#include "supervisor/hand_over_counts.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using nlohmann::json;

json Report() {
  return json::parse(R"({"moved": {"idle": 381, "tunnel": 18, "upstream": 12},
                         "declined": {"route": 2, "limits": 1}})");
}

TEST(HandOverCounts, AreReadFromWhatAWorkerSays) {
  HandOverCounts counts = HandOverCountsOf(Report());
  EXPECT_EQ(counts.moved_connections(), 399U) << "pooled ones are nobody's who waits";
  EXPECT_EQ(counts.declined_count(), 3U);
  EXPECT_EQ(HandOverText(counts),
            "381 idle connections, 18 tunnels moved, 12 upstream connections; "
            "3 declined (route 2, limits 1)");
  EXPECT_EQ(ShortHandOverText(counts), "399 moved, 3 declined (route 2, limits 1)");
}

TEST(HandOverCounts, SayNothingOfWhatThereIsNone) {
  HandOverCounts counts;
  EXPECT_EQ(HandOverText(counts), "0 idle connections, 0 tunnels moved");
  EXPECT_EQ(ShortHandOverText(counts), "");
  counts.moved = {1, 1, 0};
  EXPECT_EQ(HandOverText(counts), "1 idle connection, 1 tunnel moved");
  counts.moved = {0, 0, 1};
  EXPECT_EQ(HandOverText(counts), "0 idle connections, 0 tunnels moved, 1 upstream connection");
  EXPECT_EQ(ShortHandOverText(counts), "");
  counts.declined.back() = 4;
  EXPECT_EQ(ShortHandOverText(counts), "4 declined (draining 4)");
}

TEST(HandOverCounts, AreTheSameAfterTheirJson) {
  HandOverCounts counts = HandOverCountsOf(Report());
  EXPECT_EQ(MovedJson(counts), json::parse(R"({"idle": 381, "tunnels": 18, "upstream": 12})"));
  EXPECT_EQ(DeclinedJson(counts), json::parse(R"({"route": 2, "limits": 1})"));
  json object = {{"moved", MovedJson(counts)}, {"declined", DeclinedJson(counts)}};
  EXPECT_EQ(HandOverCountsIn(object), counts);
}

TEST(HandOverCounts, TakeNonsenseForNothing) {
  for (const char* text :
       {"null", "[]", "7", "{}", R"({"moved": 3, "declined": ["route"]})",
        R"({"moved": {"idle": "many", "tunnel": -3, "upstream": null, "other": 9}})",
        R"({"declined": {"because": 1, "route": {}}})"}) {
    EXPECT_EQ(HandOverCountsOf(json::parse(text)), HandOverCounts()) << text;
    EXPECT_EQ(HandOverCountsIn(json::parse(text)), HandOverCounts()) << text;
  }
}

TEST(HandOverCounts, DoNotWrapHoweverMuchAWorkerSays) {
  HandOverCounts counts =
      HandOverCountsOf(json::parse(R"({"moved": {"idle": 18446744073709551615, "tunnel": 1}})"));
  EXPECT_EQ(counts.moved[0], kMostCounted);
  EXPECT_EQ(counts.moved_connections(), kMostCounted + 1);
}

TEST(HandOverCounts, AddUp) {
  HandOverCounts counts = HandOverCountsOf(Report());
  counts += HandOverCountsOf(Report());
  EXPECT_EQ(counts.moved, (std::array<std::uint64_t, 3>{762, 36, 24}));
  EXPECT_EQ(counts.declined_count(), 6U);
}

}  // namespace
}  // namespace tidegate
