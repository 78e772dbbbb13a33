#include "proxy/http/fields.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

struct Known {
  const char* name;
  FieldId id;
};

constexpr Known kKnown[] = {
    {"Connection", FieldId::kConnection},
    {"Content-Length", FieldId::kContentLength},
    {"Date", FieldId::kDate},
    {"Expect", FieldId::kExpect},
    {"Forwarded", FieldId::kForwarded},
    {"Host", FieldId::kHost},
    {"Keep-Alive", FieldId::kKeepAlive},
    {"Max-Forwards", FieldId::kMaxForwards},
    {"Proxy-Authenticate", FieldId::kProxyAuthenticate},
    {"Proxy-Connection", FieldId::kProxyConnection},
    {"Server", FieldId::kServer},
    {"TE", FieldId::kTe},
    {"Trailer", FieldId::kTrailer},
    {"Transfer-Encoding", FieldId::kTransferEncoding},
    {"Upgrade", FieldId::kUpgrade},
    {"Via", FieldId::kVia},
    {"X-Forwarded-For", FieldId::kXForwardedFor},
    {"X-Forwarded-Host", FieldId::kXForwardedHost},
    {"X-Forwarded-Port", FieldId::kXForwardedPort},
    {"X-Forwarded-Proto", FieldId::kXForwardedProto},
    {"X-Request-Id", FieldId::kXRequestId},
};

std::string Cased(std::string text, int (*change)(int)) {
  for (char& octet : text) {
    octet = static_cast<char>(change(octet));
  }
  return text;
}

TEST(FieldIds, AreFoundInAnyCase) {
  for (const Known& known : kKnown) {
    EXPECT_EQ(FieldIdOf(known.name), known.id) << known.name;
    EXPECT_EQ(FieldIdOf(Cased(known.name, std::tolower)), known.id) << known.name;
    EXPECT_EQ(FieldIdOf(Cased(known.name, std::toupper)), known.id) << known.name;
  }
}

TEST(FieldIds, HaveARowEach) {
  // kXRequestId is the last one, kOther the first.
  EXPECT_EQ(std::size(kKnown), static_cast<std::size_t>(FieldId::kXRequestId));
}

TEST(FieldIds, DifferAtEveryOctet) {
  for (const Known& known : kKnown) {
    const std::string name = known.name;
    EXPECT_EQ(FieldIdOf(name + "x"), FieldId::kOther);
    EXPECT_EQ(FieldIdOf(name.substr(1)), FieldId::kOther);
    EXPECT_EQ(FieldIdOf(name.substr(0, name.size() - 1)), FieldId::kOther);
    for (std::size_t at = 0; at < name.size(); ++at) {
      for (int octet = 0; octet < 256; ++octet) {
        if (octet == '\r') {
          continue;  // no name has one
        }
        std::string other = name;
        other[at] = static_cast<char>(octet);
        const bool same = EqualsIgnoringCase(other, name);
        const FieldId id = FieldIdOf(other);
        // X-Forwarded-Host and -Port differ in two octets, so no known name becomes another.
        EXPECT_EQ(id, same ? known.id : FieldId::kOther) << other;
      }
    }
  }
}

TEST(FieldIds, UnknownNamesAreOther) {
  for (const char* name : {"", "x", "Accept", "User-Agent", "Content-Type", "X-Forwarded",
                           "A-Name-That-Is-Longer-Than-Every-Known-One"}) {
    EXPECT_EQ(FieldIdOf(name), FieldId::kOther) << name;
  }
}

TEST(FieldIds, NamesWithUnderscoresMayPassForKnownOnes) {
  for (const char* name : {"X_Forwarded_For", "x_forwarded-proto", "Content_Length",
                           "transfer_encoding", "X-Request_Id"}) {
    EXPECT_TRUE(PassesForKnownField(name)) << name;
  }
  for (const char* name : {"X-Forwarded-For", "Host", "my_field", "X_Forwarded_Fox", "_Host", ""}) {
    EXPECT_FALSE(PassesForKnownField(name)) << name;
  }
}

TEST(Lists, HaveTokens) {
  struct Case {
    const char* list;
    bool has;
  };
  for (const Case& c : std::vector<Case>{{"close", true},
                                         {"CLOSE", true},
                                         {"keep-alive, Close", true},
                                         {" ,, ,\tclose\t,", true},
                                         {"close;q=1", true},
                                         {"x;close", false},
                                         {"closed", false},
                                         {"not-close", false},
                                         {"clo se", false},
                                         {"", false},
                                         {",", false}}) {
    EXPECT_EQ(ListHasToken(c.list, "close"), c.has) << c.list;
  }
}

TEST(ArenaTest, KeepsViewsWhileItGrows) {
  Arena arena;
  std::vector<std::string_view> views;
  std::vector<std::string> texts;
  for (int i = 0; i < 3000; ++i) {
    texts.push_back(std::string(static_cast<std::size_t>(i % 37), static_cast<char>('a' + i % 26)));
    views.push_back(arena.Copy(texts.back()));
  }
  for (std::size_t i = 0; i < views.size(); ++i) {
    ASSERT_EQ(views[i], texts[i]);
  }
}

TEST(ArenaTest, ExtendsInPlaceAndElsewhere) {
  Arena arena;
  std::string_view first = arena.Copy("ab");
  const char* where = first.data();
  first = arena.Extend(first, "cd");
  EXPECT_EQ(first, "abcd");
  EXPECT_EQ(first.data(), where);
  const std::string_view second = arena.Copy("x");
  first = arena.Extend(first, "ef");
  EXPECT_EQ(first, "abcdef");
  EXPECT_EQ(second, "x");
  EXPECT_EQ(arena.Extend(arena.Copy({}), "y"), "y");
}

TEST(ArenaTest, ExtendsOctetByOctetBeyondABlock) {
  Arena arena;
  std::string expected;
  std::string_view text;
  for (int i = 0; i < 100000; ++i) {
    const char octet = static_cast<char>('a' + i % 26);
    expected.push_back(octet);
    text = arena.Extend(text, {&octet, 1});
  }
  EXPECT_EQ(text, expected);
}

TEST(ArenaTest, ReusesItsFirstBlock) {
  Arena arena;
  arena.Clear();
  const char* where = arena.Copy("first").data();
  arena.Copy(std::string(100000, 'x'));
  arena.Clear();
  EXPECT_EQ(arena.Copy("again").data(), where);
}

TEST(ArenaTest, KeepsASmallBlockAfterALargeText) {
  Arena arena;
  arena.Copy(std::string(100000, 'x'));
  arena.Clear();
  const std::string_view small = arena.Copy("a");
  // Were the large block kept, this would still fit behind `small`.
  const std::string_view large = arena.Copy(std::string(50000, 'y'));
  EXPECT_NE(large.data(), small.data() + 1);
}

TEST(ArenaTest, AllocatesMemoryToFillIn) {
  Arena arena;
  char* memory = arena.Allocate(5000);
  std::fill_n(memory, 5000, 'z');
  EXPECT_EQ(arena.Copy("x"), "x");
  EXPECT_EQ(memory[4999], 'z');
}

TEST(FieldsTest, GrowsAlsoByAFieldOfItsOwn) {
  Fields fields;
  fields.Add("First", "1");
  for (std::size_t size = 1; size < 200; ++size) {
    fields.Add(*fields.begin());
    ASSERT_EQ(fields.size(), size + 1);
    EXPECT_EQ(fields.end()[-1].name, "First");
    EXPECT_EQ(fields.end()[-1].value, "1");
  }
  Field& last = fields.Append();
  last = {"Last", "2"};
  EXPECT_EQ(fields.Find("Last"), &last);
  fields.Clear();
  EXPECT_TRUE(fields.empty());
  EXPECT_EQ(fields.begin(), fields.end());
}

TEST(FieldsTest, RemovesSomeAndKeepsTheOrderOfTheOthers) {
  Fields fields;
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    fields.Add(name, name);
  }
  EXPECT_EQ(
      fields.RemoveIf([](const Field& field) { return field.name == "b" || field.name == "e"; }),
      2U);
  std::string left;
  for (const Field& field : fields) {
    left += field.name;
  }
  EXPECT_EQ(left, "acd");
  EXPECT_EQ(fields.RemoveIf([](const Field&) { return true; }), 3U);
  EXPECT_TRUE(fields.empty());
}

TEST(FieldsTest, KeepsOrderAndDuplicates) {
  Fields fields;
  fields.Add("Set-Cookie", "a=1");
  fields.Add("Via", "x");
  fields.Add("set-cookie", "b=2");
  ASSERT_EQ(fields.size(), 3U);
  EXPECT_EQ(fields.Find("SET-COOKIE")->value, "a=1");
  EXPECT_EQ(fields.Find(FieldId::kVia)->value, "x");
  EXPECT_EQ(fields.Find(FieldId::kHost), nullptr);
  EXPECT_EQ(fields.Find("none"), nullptr);
  EXPECT_TRUE(fields.Has(FieldId::kVia));
  EXPECT_EQ(fields.Remove("Set-Cookie"), 2U);
  EXPECT_EQ(fields.Remove(FieldId::kVia), 1U);
  EXPECT_EQ(fields.Remove(FieldId::kVia), 0U);
  EXPECT_TRUE(fields.empty());
}

}  // namespace
}  // namespace tidegate
