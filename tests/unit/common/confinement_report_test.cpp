#include "common/confinement_report.h"

#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using nlohmann::json;

const ConfinementReport kWhole{.seccomp = {.in_force = true}, .landlock = {.in_force = true}};

TEST(ConfinementReport, SurvivesTheWayThroughJson) {
  for (const ConfinementReport& report :
       {kWhole,
        ConfinementReport{.seccomp = {.in_force = true, .note = "ABI 4"},
                          .landlock = {.note = "this kernel has none"}},
        ConfinementReport{}}) {
    EXPECT_EQ(ConfinementReportOf(ConfinementJson(report)), report);
  }
  EXPECT_EQ(ConfinementJson(kWhole),
            json::parse(R"({"seccomp":{"in_force":true},"landlock":{"in_force":true}})"));
}

TEST(ConfinementReport, IsNoneWhereAPeerSaysNothingThatMakesSense) {
  for (const char* text :
       {"null", "7", "[]", "{}", R"({"seccomp":{}})", R"({"seccomp":true,"landlock":true})"}) {
    EXPECT_EQ(ConfinementReportOf(json::parse(text)), std::nullopt) << text;
  }
  // Not in force unless it says so.
  EXPECT_EQ(ConfinementReportOf(json::parse(R"({"seccomp":{"in_force":1},"landlock":{}})")),
            ConfinementReport{});
}

TEST(ConfinementReport, BoundsWhatAPeerSays) {
  json written = ConfinementJson(kWhole);
  written["landlock"]["note"] = "a\nb\x1b[1m" + std::string(5000, 'x');
  auto report = ConfinementReportOf(written);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->landlock.note.substr(0, 8), "a?b?[1mx");
  EXPECT_EQ(report->landlock.note.size(), 200U);
}

TEST(ConfinementReport, ReadsAsAPersonWouldSayIt) {
  EXPECT_EQ(ConfinementText(kWhole), "seccomp, landlock");
  EXPECT_TRUE(kWhole.is_complete());
  ConfinementReport report = kWhole;
  report.landlock = {.note = "this kernel has none"};
  EXPECT_EQ(ConfinementText(report), "seccomp; no landlock: this kernel has none");
  EXPECT_FALSE(report.is_complete());
  report.landlock = {.in_force = true, .note = "ABI 4, without signals"};
  EXPECT_EQ(ConfinementText(report), "seccomp, landlock (ABI 4, without signals)");
  EXPECT_TRUE(report.is_complete());
  EXPECT_EQ(ConfinementText({.seccomp = {.note = "off"}, .landlock = {.note = "off"}}),
            "no seccomp: off; no landlock: off");
}

}  // namespace
}  // namespace tidegate
