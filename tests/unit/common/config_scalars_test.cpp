#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/config_text.h"

namespace tidegate {
namespace {

struct Row {
  const char* members;
  const char* faults;
};

void ExpectFaults(std::initializer_list<Row> rows) {
  for (const Row& row : rows) {
    EXPECT_EQ(FaultsOf(With(row.members)), row.faults) << row.members;
  }
}

TEST(ConfigScalars, FlagsAreTrueOrFalse) {
  EXPECT_FALSE(ConfigFrom(With(R"("forwarded": { "via": false })")).forwarded.via);
  ExpectFaults(
      {{R"("forwarded": { "via": "off" })",
        "forwarded.via: expected true or false, not a string | write false\n"},
       {R"("forwarded": { "via": 1 })", "forwarded.via: expected true or false, not a number\n"}});
}

TEST(ConfigScalars, CountsKeepTheirRange) {
  EXPECT_EQ(ConfigFrom(With(R"("limits": { "max_headers": 1 })")).limits.max_headers, 1U);
  EXPECT_EQ(ConfigFrom(With(R"("limits": { "max_headers": 1000 })")).limits.max_headers, 1000U);
  ExpectFaults({
      {R"("limits": { "max_headers": 0 })",
       "limits.max_headers: 0 is out of range | the range is 1 to 1000\n"},
      {R"("limits": { "max_headers": 1001 })",
       "limits.max_headers: 1001 is out of range | the range is 1 to 1000\n"},
      {R"("limits": { "max_headers": -1 })",
       "limits.max_headers: -1 is out of range | the range is 1 to 1000\n"},
      {R"("limits": { "max_headers": 1.0 })",
       "limits.max_headers: expected a whole number, not 1.0\n"},
      {R"("limits": { "max_headers": "off" })",
       "limits.max_headers: expected a number, not a string\n"},
  });
}

TEST(ConfigScalars, AutoAndOffAreWords) {
  EXPECT_EQ(ConfigFrom(With(R"("workers": "auto")")).workers, std::nullopt);
  EXPECT_EQ(ConfigFrom(With(R"("workers": 256)")).workers, 256U);
  EXPECT_EQ(ConfigFrom(With(R"("limits": { "max_connections": 5 })")).limits.max_connections, 5U);
  Config config = ConfigFrom(
      R"({ "listen": ":1", "upstreams": { "a": { "endpoints": ["a:1"], "max_connections_per_endpoint": "off" } },
                                  "routes": [ { "upstream": "a" } ] })");
  EXPECT_EQ(config.upstreams[0].max_connections_per_endpoint, kUnlimited);
  ExpectFaults(
      {{R"("workers": "off")", "workers: expected a number or \"auto\", not \"off\"\n"},
       {R"("workers": "4")",
        "workers: expected a number or \"auto\", not a string | write 4 without quotes\n"}});
}

TEST(ConfigScalars, ANumberFromAVariableKeepsItsRange) {
  Environment environment =
      EnvironmentOf({{"N", "0"}, {"HUGE", "99999999999999999999"}, {"WORD", "many"}});
  EXPECT_EQ(FaultsOf(With(R"("workers": "${N}")"), environment),
            "workers: 0 is out of range | the range is 1 to 256\n");
  EXPECT_NE(FaultsOf(With(R"("workers": "${HUGE}")"), environment), "");
  EXPECT_NE(FaultsOf(With(R"("workers": "${WORD}")"), environment), "");
}

TEST(ConfigScalars, DurationsHaveUnitsAndARange) {
  EXPECT_EQ(ConfigFrom(With(R"("timeouts": { "keepalive": "1m30s" })")).timeouts.keepalive,
            std::chrono::seconds(90));
  EXPECT_EQ(ConfigFrom(With(R"("timeouts": { "keepalive": "off" })")).timeouts.keepalive, kNever);
  EXPECT_EQ(ConfigFrom(With(R"("shutdown": { "timeout": "0s" })")).shutdown.timeout,
            Duration::zero());
  ExpectFaults({
      {R"("timeouts": { "keepalive": 30 })",
       "timeouts.keepalive: a duration needs a unit | write \"30s\", not 30\n"},
      {R"("timeouts": { "keepalive": "0s" })",
       "timeouts.keepalive: \"0s\" is out of range | the range is \"1ms\" to \"365d\", or \"off\" "
       "for never\n"},
      {R"("upgrade": { "ready_timeout": "off" })",
       "upgrade.ready_timeout: this cannot be off | the default is \"30s\"\n"},
      {R"("timeouts": { "keepalive": 1.5 })",
       "timeouts.keepalive: expected a duration such as \"30s\", not a number\n"},
  });
}

TEST(ConfigScalars, RatesAreSizesASecond) {
  auto rate = [](const char* text) {
    return ConfigFrom(With(fmt::format(R"("timeouts": {{ "body_min_rate": "{}" }})", text)))
        .timeouts.body_min_rate;
  };
  EXPECT_EQ(rate("500B/s"), 500U);
  EXPECT_EQ(rate("2KiB/s"), 2048U);
  EXPECT_EQ(rate("off"), kUnlimited);
  const char* range =
      "timeouts.body_min_rate: \"0B/s\" is out of range | the range is \"1B/s\" to \"1GiB/s\"\n";
  ExpectFaults({
      {R"("timeouts": { "body_min_rate": 500 })",
       "timeouts.body_min_rate: a rate needs a unit | write \"500B/s\", not 500\n"},
      {R"("timeouts": { "body_min_rate": "1KiB" })",
       "timeouts.body_min_rate: \"1KiB\" is not a rate | write e.g. \"500B/s\", \"1KiB/s\" or "
       "\"off\"\n"},
      {R"("timeouts": { "body_min_rate": "off/s" })",
       "timeouts.body_min_rate: \"off/s\" is not a rate | write e.g. \"500B/s\", \"1KiB/s\" or "
       "\"off\"\n"},
      {R"("timeouts": { "body_min_rate": "0B/s" })", range},
      {R"("timeouts": { "body_min_rate": false })",
       "timeouts.body_min_rate: expected a rate such as \"1KiB/s\", not true or false\n"},
  });
}

TEST(ConfigScalars, SizesHaveUnitsAndARange) {
  EXPECT_EQ(ConfigFrom(With(R"("limits": { "max_body": "0B" })")).limits.max_body, 0U);
  EXPECT_EQ(ConfigFrom(With(R"("limits": { "max_body": "off" })")).limits.max_body, kUnlimited);
  EXPECT_EQ(ConfigFrom(With(R"("limits": { "max_url_bytes": "4KB" })")).limits.max_url_bytes,
            4000U);
  ExpectFaults({
      {R"("limits": { "max_body": 5 })",
       "limits.max_body: a size needs a unit | write \"5B\", not 5\n"},
      {R"("limits": { "max_url_bytes": "1B" })",
       "limits.max_url_bytes: \"1B\" is out of range | the range is \"64B\" to \"1MiB\"\n"},
      {R"("limits": { "max_url_bytes": "off" })",
       "limits.max_url_bytes: this cannot be off | the default is \"16KiB\"\n"},
  });
}

TEST(ConfigScalars, ChoicesSuggestTheNearestWord) {
  EXPECT_EQ(ConfigFrom(With(R"("logging": { "level": "error" })")).logging.level, LogLevel::kError);
  ExpectFaults({{R"("logging": { "level": "warning" })",
                 "logging.level: expected \"debug\", \"info\", \"warn\" or \"error\", not "
                 "\"warning\" | did you mean \"warn\"?\n"}});
}

TEST(ConfigScalars, StatusesAreThoseThatMakeSense) {
  EXPECT_EQ(FaultsOf(WithRoute(R"("path": "/x", "respond": { "status": 199 })")),
            "routes[0].respond.status: 199 is out of range | the range is 200 to 599\n");
  EXPECT_EQ(FaultsOf(WithRoute(R"("path": "/x", "redirect": { "to": "/", "status": 304 })")),
            "routes[0].redirect.status: 304 is not the status of a redirect | it is 301, 302, 303, "
            "307 or 308\n");
  for (int status : {301, 302, 303, 307, 308}) {
    Config config = ConfigFrom(WithRoute(R"("path": "/x", "redirect": { "to": "/", "status": )" +
                                         std::to_string(status) + "}"));
    EXPECT_EQ(std::get<RedirectAction>(config.routes[0].action).status, status);
  }
}

TEST(ConfigScalars, AListenerHasAnAddressAndAnEndpointAPeer) {
  auto listen = [](std::string_view address) {
    return FaultsOf(R"({ "upstream": "127.0.0.1:1", "listen": ")" + std::string(address) + "\" }");
  };
  auto upstream = [](std::string_view address) {
    return FaultsOf(R"({ "listen": ":1", "upstream": ")" + std::string(address) + "\" }");
  };
  EXPECT_EQ(listen(":0"), "");
  EXPECT_EQ(listen("systemd:web"), "");
  EXPECT_EQ(listen("localhost:80"),
            "listen: a listener has an IP address, not a name | write \"127.0.0.1:80\"\n");
  EXPECT_EQ(upstream("localhost:80"), "");
  EXPECT_EQ(upstream(":80"), "upstream: an endpoint needs a host | write \"127.0.0.1:80\"\n");
  EXPECT_EQ(upstream("a:0"), "upstream: an endpoint cannot have port 0\n");
  EXPECT_EQ(upstream("systemd:web"),
            "upstream: systemd gives sockets to accept on, not endpoints\n");
}

}  // namespace
}  // namespace tidegate
