#include "proxy/http/h2_budget.h"

#include <set>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(H2Budget, EveryKindHasItsRowAndItsError) {
  std::set<std::string_view> names;
  for (std::size_t kind = 0; kind < H2Budget::kKinds; ++kind) {
    const H2AbuseRow& row = RowOf(static_cast<H2Abuse>(kind));
    EXPECT_EQ(row.abuse, static_cast<H2Abuse>(kind));
    EXPECT_EQ(RowOf(row.error).side, Side::kClient);
    EXPECT_TRUE(RowOf(row.error).log_name.starts_with("h2_"));
    EXPECT_TRUE(names.insert(RowOf(row.error).log_name).second);
    EXPECT_FALSE(row.detail.empty());
  }
}

TEST(H2Budget, SoMuchAtOnceAndSoMuchASecond) {
  const H2AbuseRow& row = RowOf(H2Abuse::kPing);
  H2Budget budget(1000);
  for (unsigned i = 0; i < row.burst; ++i) {
    EXPECT_TRUE(budget.Spend(H2Abuse::kPing, 1000));
  }
  EXPECT_FALSE(budget.Spend(H2Abuse::kPing, 1000));
  EXPECT_TRUE(budget.Spend(H2Abuse::kReset, 1000)) << "each kind has its own";
  for (unsigned i = 0; i < row.per_second; ++i) {
    EXPECT_TRUE(budget.Spend(H2Abuse::kPing, 2000));
  }
  EXPECT_FALSE(budget.Spend(H2Abuse::kPing, 2000));
  unsigned after_long = 0;
  while (budget.Spend(H2Abuse::kPing, 100'000'000)) {
    ++after_long;
  }
  EXPECT_EQ(after_long, row.burst) << "nothing is saved up";
}

TEST(H2Budget, SomeCostMore) {
  const H2AbuseRow& row = RowOf(H2Abuse::kWindow);
  H2Budget budget(0);
  EXPECT_FALSE(budget.Spend(H2Abuse::kWindow, 0, row.burst + 1));
  EXPECT_TRUE(budget.Spend(H2Abuse::kWindow, 0, row.burst)) << "what was refused costs nothing";
  EXPECT_FALSE(budget.Spend(H2Abuse::kWindow, 0));
}

TEST(H2Budget, DataExplainsWhatItsReaderSays) {
  constexpr std::uint32_t kSmall = H2WindowCost::kSmall;
  EXPECT_EQ(H2WindowCost::Explained(16'384, true), 64 * kSmall);
  EXPECT_EQ(H2WindowCost::Explained(16'384, false), 64 * kSmall);
  EXPECT_EQ(H2WindowCost::Explained(1, true), 0U) << "its own window is why";
  EXPECT_EQ(H2WindowCost::Explained(1, false), 2 * kSmall) << "of the stream, of the connection";
  EXPECT_EQ(H2WindowCost::Explained(0, false), 2 * kSmall);
}

TEST(H2Budget, WhatIsExplainedIsForgiven) {
  const H2AbuseRow& row = RowOf(H2Abuse::kWindow);
  H2Budget budget(0);
  budget.Earn(H2Abuse::kWindow, 100);
  for (unsigned i = 0; i < row.burst; ++i) {
    EXPECT_TRUE(budget.Spend(H2Abuse::kWindow, 0));
  }
  EXPECT_FALSE(budget.Spend(H2Abuse::kWindow, 0)) << "never more than the burst";
  budget.Earn(H2Abuse::kWindow, 1);
  EXPECT_TRUE(budget.Spend(H2Abuse::kWindow, 0));
  EXPECT_FALSE(budget.Spend(H2Abuse::kWindow, 0));
}

}  // namespace
}  // namespace tidegate
