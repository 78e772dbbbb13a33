#include "supervisor/commands.h"

#include <set>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(Commands, AreFoundByNameAndOnlyOnce) {
  std::set<std::string_view> names;
  for (const CommandRow& row : Commands()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(FindCommand(row.name), &row);
    EXPECT_NE(row.run, nullptr);
    EXPECT_LE(row.arguments.size(), 1U) << row.name;
    EXPECT_FALSE(row.summary.empty());
  }
  EXPECT_EQ(FindCommand("upgrad"), nullptr);
}

TEST(Commands, NoOptionOfACommandHidesAGlobalOne) {
  for (const CommandRow& row : Commands()) {
    std::set<std::string_view> names;
    for (const OptionRow& option : GlobalOptions()) {
      names.insert(option.name);
    }
    for (const OptionRow& option : row.options) {
      EXPECT_TRUE(names.insert(option.name).second) << row.name << " --" << option.name;
    }
  }
}

TEST(Commands, AnOptionWithAValueNamesIt) {
  for (const CommandRow& row : Commands()) {
    for (const OptionRow& option : row.options) {
      EXPECT_EQ(option.kind == ValueKind::kFlag, option.metavar.empty()) << option.name;
      EXPECT_EQ(option.kind == ValueKind::kChoice, !option.choices.empty()) << option.name;
    }
  }
}

}  // namespace
}  // namespace tidegate
