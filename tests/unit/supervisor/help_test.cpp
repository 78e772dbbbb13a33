#include "supervisor/help.h"

#include <sstream>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

// A table's row that is too long shows up here and not on somebody's terminal.
void ExpectFits(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 80U) << line;
  }
}

TEST(Help, ListsEveryCommandWithItsSummary) {
  std::string text = GeneralHelp();
  for (const CommandRow& row : Commands()) {
    EXPECT_NE(text.find("  " + std::string(row.name) + " "), std::string::npos) << row.name;
    EXPECT_NE(text.find(row.summary), std::string::npos) << row.name;
  }
  ExpectFits(text);
}

TEST(Help, OfACommandListsItsOptionsAndTheGlobalOnes) {
  for (const CommandRow& row : Commands()) {
    std::string text = CommandHelp(row);
    for (const OptionRow& option : row.options) {
      EXPECT_NE(text.find("--" + std::string(option.name)), std::string::npos) << option.name;
      EXPECT_NE(text.find(option.help), std::string::npos) << option.name;
    }
    EXPECT_NE(text.find("--socket PATH"), std::string::npos);
    EXPECT_EQ(text.contains("--config FILE"), row.reads_config) << row.name;
    ExpectFits(text);
  }
}

TEST(Help, UsageMarksWhatMayBeLeftOut) {
  EXPECT_EQ(UsageLine(*FindCommand("upgrade")),
            "tidegate upgrade [--auto] [--binary PATH] [--drain DUR] [--force] [--detach]");
  EXPECT_EQ(UsageLine(*FindCommand("loglevel")), "tidegate loglevel LEVEL [--for DUR]");
  EXPECT_EQ(UsageLine(*FindCommand("proxy")),
            "tidegate proxy --from ADDR --to ADDR... [--workers N] [--pidfile F]");
}

}  // namespace
}  // namespace tidegate
