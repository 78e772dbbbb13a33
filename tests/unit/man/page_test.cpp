#include "man/page.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

std::optional<std::string> Write(std::string_view name, std::string_view argument) {
  if (name == "part") {
    return "it says " + std::string(argument) + "\n";
  }
  return std::nullopt;
}

TEST(Page, APartIsReplacedAndTheTextAroundItStays) {
  auto filled =
      FillParts("# A\n; begin part one\nold\nolder\n; end\n\tyours\n; begin part\n; end\n", &Write);
  ASSERT_TRUE(filled);
  EXPECT_EQ(*filled,
            "# A\n; begin part one\nit says one\n; end\n\tyours\n; begin part\nit says \n; end\n");
}

TEST(Page, FillingAgainChangesNothing) {
  auto once = FillParts("; begin part one\n; end\n", &Write);
  ASSERT_TRUE(once);
  EXPECT_EQ(*FillParts(*once, &Write), *once);
}

TEST(Page, APartThatNobodyWritesIsAFaultWithItsLine) {
  auto filled = FillParts("# A\n; begin other\n; end\n", &Write);
  ASSERT_FALSE(filled);
  EXPECT_EQ(filled.error().detail(), "2: no table says \"other\"");
}

TEST(Page, APartThatDoesNotEndIsAFault) {
  EXPECT_EQ(FillParts("; begin part one\nold\n", &Write).error().detail(),
            "1: \"part one\" does not end");
  EXPECT_EQ(FillParts("; begin part one\n; begin part two\n; end\n", &Write).error().detail(),
            "1: \"part one\" does not end");
}

TEST(Page, TheFirstDifferenceNamesItsLineAndBothTexts) {
  EXPECT_EQ(FirstDifference("a\nb\nc\n", "a\nx\ny\n"),
            "2: the page says\n  b\nand the tables say\n  x\n");
  EXPECT_EQ(FirstDifference("a\n", "a\nb\n"), "2: the page says\n  \nand the tables say\n  b\n");
  EXPECT_EQ(FirstDifference("a\n", "a\n"), "");
}

TEST(Page, MarksOfScdocAreEscaped) {
  EXPECT_EQ(Escaped("max_body *.json a+b a++b \\"), "max\\_body \\*.json a+b a+\\+b \\\\");
  EXPECT_EQ(Escaped("--auto is a-b."), "\\--auto is a-b.");
}

TEST(Page, ASentenceBeginsWithACapitalAndEndsWithAStop) {
  EXPECT_EQ(Sentence("only errors"), "Only errors.");
  EXPECT_EQ(Sentence("Already."), "Already.");
  EXPECT_EQ(Sentence("301, 302"), "301, 302.");
  EXPECT_EQ(Sentence(""), "");
}

}  // namespace
}  // namespace tidegate
