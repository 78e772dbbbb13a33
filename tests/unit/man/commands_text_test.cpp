#include "man/commands_text.h"

#include <gtest/gtest.h>

#include "common/counters.h"
#include "supervisor/commands.h"

namespace tidegate {
namespace {

bool Has(std::string_view command, std::string_view text) {
  auto written = CommandText(command);
  return written && written->find(text) != std::string::npos;
}

TEST(CommandsText, ACommandBeginsWithItsUsage) {
  EXPECT_TRUE(
      CommandText("loglevel")->starts_with("*tidegate loglevel* _LEVEL_ [*--for* _DUR_]\n\t"));
  EXPECT_TRUE(CommandText("status")->starts_with("*tidegate status* [_NAME_] [*--watch*]\n"));
  EXPECT_TRUE(
      CommandText("proxy")->starts_with("*tidegate proxy* *--from* _ADDR_ *--to* _ADDR_... ["));
}

TEST(CommandsText, EveryOptionOfEveryCommandIsThere) {
  for (const CommandRow& row : Commands()) {
    for (const OptionRow& option : row.options) {
      EXPECT_TRUE(Has(row.name, "\n\t*--" + std::string(option.name) + "*")) << row.name;
    }
  }
}

TEST(CommandsText, WordsToChooseFromStayAsTheyAreWritten) {
  EXPECT_TRUE(Has("loglevel", "\t_LEVEL_\n\t\tdebug, info, warn or error.\n"));
  EXPECT_TRUE(Has("conns", "\t\tOne of idle, request, response, tunnel, closing.\n"));
}

TEST(CommandsText, DetailsFollowTheSummaryAndLabelsBeginAParagraph) {
  EXPECT_TRUE(Has("rollback", "configuration.\n\tBy the same steps as an upgrade.\n"));
  EXPECT_TRUE(Has("cert", "\n\n\tcheck: without the daemon"));
}

TEST(CommandsText, WhatEveryCommandTakesIsNotRepeated) {
  EXPECT_FALSE(Has("run", "--config"));
}

TEST(CommandsText, ThereIsNoTextOfAnUnknownCommand) {
  EXPECT_FALSE(CommandText("frobnicate"));
}

TEST(CountersText, HasEveryCounterButThoseOfTheErrors) {
  std::string text = CountersText();
  EXPECT_NE(text.find("*requests\\_total*\n\tExchanges that ended.\n"), std::string::npos);
  EXPECT_NE(text.find("*drain\\_forced*\n"), std::string::npos);
  EXPECT_EQ(text.find("errors\\_"), std::string::npos);
}

}  // namespace
}  // namespace tidegate
