#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/config_text.h"

namespace tidegate {
namespace {

constexpr std::string_view kSmallest = R"({ "listen": ":8080", "upstream": "127.0.0.1:3000" })";

std::string Changes(std::string_view before, std::string_view after) {
  std::string text;
  for (const std::string& change : DiffConfig(ConfigFrom(before), ConfigFrom(after))) {
    text += change + "\n";
  }
  return text;
}

TEST(ConfigEffective, VariablesAreNotPutInTwice) {
  Config config = ConfigFrom(WithRoute(R"("path": "/x", "respond": { "body": "${A} $${B}" })"),
                             EnvironmentOf({{"A", "${C}"}}));
  EXPECT_EQ(std::get<RespondAction>(config.routes[0].action).body, "${C} ${B}");
  auto again = ParseEffectiveConfig(EffectiveJson(config));
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, config);
}

TEST(ConfigEffective, EveryKindOfOddTextSurvives) {
  Config config = ConfigFrom(kSmallest);
  config.routes[0].action =
      RespondAction{200, std::string("nul\0 \x01 \xe2\x82\xac \" \\ \r\n", 17), {{"X", ""}}};
  auto again = ParseEffectiveConfig(EffectiveJson(config));
  ASSERT_TRUE(again);
  // A NUL is written as an escape, so the text itself has none.
  EXPECT_EQ(*again, config);
}

TEST(ConfigEffective, OnlyExceptionsFromTheGeneralValuesAreWritten) {
  std::string effective =
      LoadedFrom(WithRoute(R"("path": "/x", "respond": {}, "timeouts": { "write_idle": "1s" })"))
          .effective;
  std::size_t route = effective.find("\"routes\"");
  EXPECT_NE(effective.find("\"write_idle\": \"1s\"", route), std::string::npos);
  EXPECT_EQ(effective.find("body_idle", route), std::string::npos);
}

TEST(ConfigEffective, TicketRotationIsWrittenOnlyWhenItIsNotTheDefault) {
  auto effective = [](const char* rotation) {
    return LoadedFrom(With(fmt::format(R"("tls": {{ "ticket_rotation": "{}" }})", rotation)))
        .effective;
  };
  EXPECT_EQ(effective("12h").find("ticket_rotation"), std::string::npos)
      << "an older version does not know it";
  EXPECT_NE(effective("1h").find(R"("ticket_rotation": "1h")"), std::string::npos);
  auto again = ParseEffectiveConfig(effective("1h"));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->tls.ticket_rotation, std::chrono::hours(1));
  EXPECT_EQ(Changes(kSmallest, With(R"("tls": { "ticket_rotation": "1h" })")),
            "tls.ticket_rotation: added 1h\n");
}

TEST(ConfigEffective, PrintShowsEachValueWithItsOrigin) {
  LoadedConfig loaded = LoadedFrom(
      "{\n\"listen\": \":1\",\n\"upstream\": \"a:1\",\n\"routes\": [ { \"path\": \"/x\", "
      "\"respond\": {\n"
      "\"headers\": { \"X-A\": \"1\" } } } ] }");
  std::string text = PrintEffective(loaded);
  auto line_of = [&](std::string_view path) {
    std::size_t at = text.find(path);
    return at == std::string::npos ? "" : text.substr(at, text.find('\n', at) - at);
  };
  EXPECT_TRUE(line_of("listeners[0].bind = \":1\" ").ends_with("  # t.json:2"));
  EXPECT_TRUE(line_of("timeouts.keepalive = \"75s\" ").ends_with("  # default"));
  EXPECT_TRUE(line_of("routes[0].respond.headers.X-A = \"1\" ").ends_with("  # t.json:5"));
  EXPECT_TRUE(line_of("routes[0].respond.status = 200 ").ends_with("  # default"));
}

TEST(ConfigEffective, EqualConfigurationsHaveNoDifference) {
  EXPECT_EQ(Changes(kSmallest, kSmallest), "");
  EXPECT_EQ(
      Changes(kSmallest, R"({ /* long */ "listeners": [ { "name": "default", "bind": ":8080" } ],
      "upstreams": { "default": { "endpoints": ["127.0.0.1:3000"] } }, "routes": [ { "name": "default", "upstream": "default" } ] })"),
      "");
}

TEST(ConfigEffective, ChangesAreSaidInWords) {
  EXPECT_EQ(
      Changes(kSmallest,
              With(R"("timeouts": { "keepalive": "30s" }, "workers": 2, "user": "www-data")")),
      "workers: auto -> 2\ntimeouts.keepalive: 75s -> 30s\nuser: added www-data\n");
  EXPECT_EQ(Changes(kSmallest, WithRoute(R"("name": "api", "path": "/api", "respond": {})")),
            "routes: added \"api\"\n");
  EXPECT_EQ(Changes(WithRoute(R"("name": "api", "path": "/api", "respond": {})"), kSmallest),
            "routes: removed \"api\"\n");
  EXPECT_EQ(Changes(kSmallest, R"({ "listen": ":8081", "upstream": "127.0.0.1:3001" })"),
            "listeners[\"default\"].bind: :8080 -> :8081\n"
            "upstreams[\"default\"].endpoints: [\"127.0.0.1:3000\"] -> [\"127.0.0.1:3001\"]\n");
  EXPECT_EQ(Changes(kSmallest, With(R"("logging": { "access": { "path": "stdout" } })")),
            "logging.access.path: added stdout\nlogging.access.request_headers: added "
            "[]\nlogging.access.redact.query: added []\n");
}

TEST(ConfigEffective, AnotherOrderOfRoutesIsAChange) {
  EXPECT_EQ(
      Changes(
          R"({ "listen": ":1", "routes": [ { "name": "a", "path": "/a", "respond": {} }, { "name": "b", "path": "/b", "respond": {} } ] })",
          R"({ "listen": ":1", "routes": [ { "name": "b", "path": "/b", "respond": {} }, { "name": "a", "path": "/a", "respond": {} } ] })"),
      "routes: order changed\n");
}

TEST(ConfigEffective, AnotherOrderOfHeadersIsAChange) {
  EXPECT_EQ(
      Changes(
          WithRoute(
              R"("name": "a", "path": "/a", "respond": { "headers": { "A": "1", "B": "2" } })"),
          WithRoute(
              R"("name": "a", "path": "/a", "respond": { "headers": { "B": "2", "A": "1" } })")),
      "routes[\"a\"].respond.headers: order changed\n");
}

TEST(ConfigEffective, AnotherActionIsARemovalAndAnAddition) {
  EXPECT_EQ(Changes(WithRoute(R"("name": "a", "path": "/a", "upstream": "default")"),
                    WithRoute(R"("name": "a", "path": "/a", "redirect": { "to": "/b" })")),
            "routes[\"a\"].upstream: removed default\nroutes[\"a\"].redirect.to: added "
            "/b\nroutes[\"a\"].redirect.status: added 302\n");
}

TEST(ConfigEffective, WorkersAndUserNeedAnUpgrade) {
  Config config = ConfigFrom(kSmallest);
  EXPECT_FALSE(NeedsUpgrade(config, config));
  EXPECT_FALSE(NeedsUpgrade(config, ConfigFrom(R"({ "listen": ":1", "upstream": "a:1" })")));
  EXPECT_FALSE(NeedsUpgrade(config, ConfigFrom(With(R"("upgrade": {"hand_over": false})"))));
  EXPECT_TRUE(NeedsUpgrade(config, ConfigFrom(With(R"("workers": 2)"))));
  EXPECT_TRUE(NeedsUpgrade(config, ConfigFrom(With(R"("user": "nobody")"))));
}

}  // namespace
}  // namespace tidegate
