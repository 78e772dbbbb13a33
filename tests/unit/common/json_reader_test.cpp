#include "common/json_reader.h"

#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

std::string TextAt(std::string_view text, const Place& place) {
  return std::string(text.substr(place.offset, place.length));
}

// Every leaf and key of `node` in order, as it stands in the text.
std::string TokensOf(std::string_view text, const JsonNode& node) {
  std::string tokens;
  for (const JsonNode& item : node.items) {
    tokens += TokensOf(text, item);
  }
  for (const JsonMember& member : node.members) {
    tokens += TextAt(text, member.key_place) + "=" + TokensOf(text, member.value);
  }
  return node.items.empty() && node.members.empty() ? TextAt(text, node.place) + ";" : tokens;
}

TEST(JsonReader, ReadsEveryKindOfValue) {
  JsonDocument document = ReadJson(
      R"({"n": null, "f": true, "i": -5, "r": 1.5, "s": "a\u00e4\n", "a": [1], "o": {}})", 0);
  ASSERT_TRUE(document.root);
  const JsonNode& root = *document.root;
  EXPECT_EQ(root.Find("n")->kind, JsonNode::Kind::kNull);
  EXPECT_TRUE(root.Find("f")->flag);
  EXPECT_EQ(root.Find("i")->integer, -5);
  EXPECT_EQ(root.Find("r")->text, "1.5");
  EXPECT_EQ(root.Find("s")->text, "a\xc3\xa4\n");
  EXPECT_EQ(root.Find("a")->items.size(), 1U);
  EXPECT_EQ(root.Find("o")->kind, JsonNode::Kind::kObject);
  EXPECT_EQ(root.Find("x"), nullptr);
}

TEST(JsonReader, KnowsThePlaceOfEveryToken) {
  std::string_view text =
      "\xef\xbb\xbf// first\n{ \"a\" : 12 , /* : , */ \"b\\\"c\":[ true,null , -1.5e3,\"x\\\\\" "
      "],\"d\":{\"e\":0}\n//\n}";
  JsonDocument document = ReadJson(text, 7);
  ASSERT_TRUE(document.root);
  EXPECT_EQ(TokensOf(text, *document.root),
            "\"a\"=12;\"b\\\"c\"=true;null;-1.5e3;\"x\\\\\";\"d\"=\"e\"=0;");
  EXPECT_EQ(document.root->place.file, 7U);
  EXPECT_EQ(TextAt(text, document.root->Find("d")->place), "{\"e\":0}");
  EXPECT_EQ(TextAt(text, document.root->place), text.substr(text.find('{')));
}

TEST(JsonReader, ACommentMayFollowANumberDirectly) {
  std::string_view text = "[1/**/,2//\n]";
  JsonDocument document = ReadJson(text, 0);
  ASSERT_TRUE(document.root);
  EXPECT_EQ(TokensOf(text, *document.root), "1;2;");
}

TEST(JsonReader, EveryDuplicateKeyIsAFaultAndTheFirstIsKept) {
  std::string_view text = R"({"a": 1, "b": [{"c": 1, "c": 2}], "a": {"x": [2]}, "a": 3})";
  JsonDocument document = ReadJson(text, 0);
  ASSERT_TRUE(document.root);
  EXPECT_EQ(document.root->Find("a")->integer, 1);
  EXPECT_EQ(document.root->members.size(), 2U);
  ASSERT_EQ(document.faults.size(), 3U);
  EXPECT_EQ(document.faults[0].path, "b[0]");
  EXPECT_EQ(document.faults[1].path, "");
  EXPECT_EQ(document.faults[1].place.offset, text.find(R"("a": {)"));
}

TEST(JsonReader, AnEscapedKeyIsTheSameKey) {
  EXPECT_EQ(ReadJson(R"({"a": 1, "\u0061": 2})", 0).faults.size(), 1U);
}

TEST(JsonReader, ASyntaxErrorLeavesNothing) {
  JsonDocument document = ReadJson(R"({"a": 1, "a": 2,})", 0);
  EXPECT_FALSE(document.root);
  ASSERT_EQ(document.faults.size(), 2U);
  EXPECT_EQ(document.faults[1].message, "a comma before '}'");
}

TEST(JsonReader, LargeIntegersAreSaturatedOrReal) {
  JsonDocument document =
      ReadJson("[18446744073709551615, -9223372036854775808, 99999999999999999999]", 0);
  ASSERT_TRUE(document.root);
  EXPECT_EQ(document.root->items[0].integer, INT64_MAX);
  EXPECT_EQ(document.root->items[1].integer, INT64_MIN);
  EXPECT_EQ(document.root->items[2].kind, JsonNode::Kind::kReal);
}

TEST(JsonReader, DepthIsBounded) {
  auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(ReadJson(nested(64), 0).root);
  EXPECT_FALSE(ReadJson(nested(65), 0).root);
  EXPECT_EQ(ReadJson(std::string(1'000'000, '['), 0).faults.size(), 1U);
}

TEST(JsonReader, ANulByteIsNotTheEnd) {
  using namespace std::string_view_literals;
  EXPECT_FALSE(ReadJson("{}\0 garbage"sv, 0).root);
  EXPECT_FALSE(ReadJson("{}\0"sv, 0).root);
}

TEST(JsonReader, PathsQuoteWhatIsNotPlain) {
  EXPECT_EQ(MemberPath("", "routes"), "routes");
  EXPECT_EQ(ItemPath("routes", 2), "routes[2]");
  EXPECT_EQ(MemberPath("routes[2]", "path"), "routes[2].path");
  EXPECT_EQ(MemberPath("upstreams", "a.b"), "upstreams[\"a.b\"]");
  EXPECT_EQ(MemberPath("upstreams", ""), "upstreams[\"\"]");
}

}  // namespace
}  // namespace tidegate
