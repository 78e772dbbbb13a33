#include "supervisor/address_book.h"

#include <gtest/gtest.h>

#include "common/config_load.h"

namespace tidegate {
namespace {

Config ConfigWith(const std::string& endpoints) {
  auto loaded = LoadConfigText("test.json",
                               R"({"listen": ":0", "upstreams": {"a": {"endpoints": [)" +
                                   endpoints + R"(]}}, "routes": [{"upstream": "a"}]})",
                               [](std::string_view) { return std::nullopt; });
  EXPECT_TRUE(loaded) << FormatDiagnostics(loaded.error());
  return loaded ? loaded->config : Config{};
}

TEST(AddressBook, KnowsTheNamesThatWorkersResolve) {
  NameSet names;
  AddUpstreamNames(
      ConfigWith(R"("App.test:80", "app.test:81", "192.0.2.1:80", "[::1]:80", "unix:/run/a")"),
      names);
  EXPECT_EQ(names, NameSet{"app.test"});
}

TEST(AddressBook, TakesTheLatestOfTheNamesThatItMay) {
  AddressBook book;
  NameSet allowed = {"app.test", "db.test"};
  book.Learn({{"app.test", {"192.0.2.1"}}, {"evil.test", {"192.0.2.6"}}}, allowed);
  book.Learn({{"app.test", {"192.0.2.2"}}, {"db.test", {"192.0.2.3"}}}, allowed);
  EXPECT_EQ(book.all(), (KnownAddresses{{"app.test", {"192.0.2.2"}}, {"db.test", {"192.0.2.3"}}}));
  EXPECT_EQ(book.Of(ConfigWith(R"("db.test:80", "new.test:80")")),
            (KnownAddresses{{"db.test", {"192.0.2.3"}}}));
  book.KeepOnly({"app.test"});
  EXPECT_EQ(book.all(), (KnownAddresses{{"app.test", {"192.0.2.2"}}}));
}

TEST(AddressBook, IsBounded) {
  AddressBook book;
  NameSet allowed = {"late.test"};
  KnownAddresses many;
  for (std::size_t i = 0; i < kMostKnownNames; ++i) {
    std::string name = std::to_string(i) + ".test";
    allowed.insert(name);
    many[name] = {"192.0.2.1"};
  }
  book.Learn(many, allowed);
  book.Learn({{"late.test", {"192.0.2.1"}}, {"7.test", {"192.0.2.7"}}}, allowed);
  EXPECT_EQ(book.all().size(), kMostKnownNames);
  EXPECT_EQ(book.all().at("7.test"), std::vector<std::string>{"192.0.2.7"});
}

}  // namespace
}  // namespace tidegate
