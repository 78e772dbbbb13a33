#include "common/text.h"

#include <array>
#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using namespace std::string_literals;

TEST(Text, LowersOnlyAsciiLetters) {
  EXPECT_EQ(ToLower("AbC-\xc3\x84.Z"), "abc-\xc3\x84.z");
}

TEST(Text, ComparesWithoutCase) {
  EXPECT_TRUE(EqualsIgnoringCase("Content-Length", "content-lENGTH"));
  EXPECT_FALSE(EqualsIgnoringCase("a", "ab"));
  EXPECT_FALSE(EqualsIgnoringCase("a@", "a`"));
}

TEST(Text, ATokenHasNoSeparators) {
  EXPECT_TRUE(IsToken("X-Forwarded-For"));
  EXPECT_TRUE(IsToken("!#$%&'*+-.^_`|~09azAZ"));
  for (const char* text : {"", "a b", "a:", "a\r", "\xc3\xa4", "a(b)", "\""}) {
    EXPECT_FALSE(IsToken(text)) << text;
  }
}

TEST(Text, AFieldValueHasNoLineEndsAndNoSpacesAround) {
  EXPECT_TRUE(IsFieldValue(""));
  EXPECT_TRUE(IsFieldValue("a b\tc \xc3\xa4"));
  for (const std::string& text : {" a"s, "a "s, "a\r\nb"s, "a\n"s, "a\0b"s, "\x7f"s}) {
    EXPECT_FALSE(IsFieldValue(text)) << text;
  }
}

TEST(Text, Utf8SequencesAreJudgedByTheirOctets) {
  EXPECT_EQ(Utf8SequenceLength("a", 0), 1U);
  EXPECT_EQ(Utf8SequenceLength("\xc3\xa4", 0), 2U);
  EXPECT_EQ(Utf8SequenceLength("\xe2\x82\xac", 0), 3U);
  EXPECT_EQ(Utf8SequenceLength("\xf0\x9f\x8c\x8a", 0), 4U);
  for (const char* bad : {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                          "\xf4\x90\x80\x80", "\xc3", "\xe2\x82", "\xff"}) {
    EXPECT_EQ(Utf8SequenceLength(bad, 0), 0U);
  }
  EXPECT_EQ(Utf8Length("\xe2\x82\xac"
                       "a\xff"
                       "b"),
            4U);
}

TEST(Text, DistanceCountsSlips) {
  EXPECT_EQ(EditDistance("", "abc"), 3U);
  EXPECT_EQ(EditDistance("upstream", "upstream"), 0U);
  EXPECT_EQ(EditDistance("upsteam", "upstream"), 1U);
  EXPECT_EQ(EditDistance("upstraem", "upstream"), 1U);
  EXPECT_EQ(EditDistance("Keepalive", "keepalive"), 0U);
}

TEST(Text, SuggestsTheNearestWordOrNone) {
  std::array<std::string_view, 4> words = {"upstream", "upstreams", "listen", "on"};
  EXPECT_EQ(Nearest("upsteam", words), "upstream");
  EXPECT_EQ(Nearest("lisen", words), "listen");
  EXPECT_EQ(Nearest("xn", words), "on");
  EXPECT_EQ(Nearest("banana", words), std::nullopt);
  EXPECT_EQ(Nearest("", words), std::nullopt);
}

TEST(Text, CountsInWords) {
  EXPECT_EQ(CountOf(0, "error"), "0 errors");
  EXPECT_EQ(CountOf(1, "error"), "1 error");
  EXPECT_EQ(CountOf(2, "warning"), "2 warnings");
}

TEST(Text, ListsAChoice) {
  std::array<std::string_view, 3> words = {"a", "b", "c"};
  EXPECT_EQ(QuotedChoice(words), R"("a", "b" or "c")");
  EXPECT_EQ(QuotedChoice(std::span(words).first(1)), R"("a")");
}

// RFC 4648 section 10.
TEST(Text, Base64HasTheVectorsOfItsStandard) {
  EXPECT_EQ(ToBase64(""), "");
  EXPECT_EQ(ToBase64("f"), "Zg==");
  EXPECT_EQ(ToBase64("fo"), "Zm8=");
  EXPECT_EQ(ToBase64("foo"), "Zm9v");
  EXPECT_EQ(ToBase64("foob"), "Zm9vYg==");
  EXPECT_EQ(ToBase64("fooba"), "Zm9vYmE=");
  EXPECT_EQ(ToBase64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(ToBase64("\xff\xfe\xfb"), "//77");
}

}  // namespace
}  // namespace tidegate
