#include "common/known_addresses.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using nlohmann::json;

TEST(KnownAddresses, ComeBackAsTheyWereSent) {
  KnownAddresses known = {{"app.test", {"192.0.2.7", "2001:db8::7"}}, {"db.test", {"::1"}}};
  EXPECT_EQ(KnownAddressesOf(json{{"addresses", known}}, "addresses"), known);
}

TEST(KnownAddresses, AreNoneWhereTheFieldIsMissingOrOfAnotherKind) {
  EXPECT_TRUE(KnownAddressesOf(json::object(), "addresses").empty());
  EXPECT_TRUE(KnownAddressesOf(json("text"), "addresses").empty());
  for (const json& value : {json(nullptr), json(7), json("app.test"), json::array({"192.0.2.7"})}) {
    EXPECT_TRUE(KnownAddressesOf(json{{"addresses", value}}, "addresses").empty()) << value;
  }
}

TEST(KnownAddresses, AreOnlyWhatIsAnAddress) {
  json object = json::parse(R"({"addresses": {
      "a.test": ["192.0.2.7", "192.0.2.7:80", "[::1]", "fe80::1%lo", "app.test", "", "0", 7, null],
      "b.test": ["192.0.2.8\u0000"], "c.test": "192.0.2.9", "d.test": [], "": ["192.0.2.1"]}})");
  EXPECT_EQ(KnownAddressesOf(object, "addresses"), (KnownAddresses{{"a.test", {"192.0.2.7"}}}));
}

TEST(KnownAddresses, AreBounded) {
  json names = json::object();
  names[std::string(kLongestName + 1, 'a')] = {"192.0.2.1"};
  names["many.test"] = std::vector<std::string>(kMostKnownAddresses + 5, "192.0.2.1");
  KnownAddresses known = KnownAddressesOf(json{{"addresses", names}}, "addresses");
  ASSERT_EQ(known.size(), 1U);
  EXPECT_EQ(known["many.test"].size(), kMostKnownAddresses);
  for (std::size_t i = 0; i < kMostKnownNames + 5; ++i) {
    names[std::to_string(i) + ".test"] = {"192.0.2.1"};
  }
  EXPECT_EQ(KnownAddressesOf(json{{"addresses", names}}, "addresses").size(), kMostKnownNames);
}

}  // namespace
}  // namespace tidegate
