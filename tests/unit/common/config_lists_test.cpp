#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "tests/support/config_text.h"

namespace tidegate {
namespace {

TEST(ConfigLists, AHostIsOneOrSeveral) {
  using Hosts = std::vector<std::string>;
  EXPECT_EQ(ConfigFrom(WithRoute(R"("respond": {}, "host": "A.example")")).routes[0].hosts,
            Hosts{"a.example"});
  EXPECT_EQ(ConfigFrom(WithRoute(R"("respond": {}, "host": ["a.example", "*.b.example"])"))
                .routes[0]
                .hosts,
            (Hosts{"a.example", "*.b.example"}));
  EXPECT_EQ(
      FaultsOf(WithRoute(R"("respond": {}, "path": "/x", "host": ["a.example", "A.example"])")),
      "routes[0].host[1]: \"a.example\" is given twice | remove one of them\n");
  EXPECT_EQ(FaultsOf(WithRoute(R"("respond": {}, "path": "/x", "host": 1)")),
            "routes[0].host: expected a host or an array of hosts, not a number\n");
}

TEST(ConfigLists, AnEmptyListOfHostsOrMethodsSaysNothing) {
  EXPECT_EQ(FaultsOf(WithRoute(R"("respond": {}, "path": "/x", "host": [], "methods": [])")),
            "routes[0].host: an empty list of hosts | leave the key out to match all\n"
            "routes[0].methods: an empty list of methods | leave the key out to match all\n");
}

TEST(ConfigLists, OneStringInsteadOfAListIsToldHowToWriteIt) {
  EXPECT_EQ(
      FaultsOf(With(R"("trusted_proxies": "10.0.0.0/8")")),
      "trusted_proxies: expected an array of networks, not a string | write [\"10.0.0.0/8\"]\n");
}

TEST(ConfigLists, NetworksAreReadAndInherited) {
  Config config = ConfigFrom(R"({ "trusted_proxies": ["10.0.0.0/8", "unix"], "upstream": "a:1",
      "listeners": [ { "bind": ":1" }, { "bind": ":2", "trusted_proxies": [] }, { "bind": ":3", "trusted_proxies": ["::1"] } ] })");
  EXPECT_EQ(config.listeners[0].trusted_proxies, config.trusted_proxies);
  EXPECT_TRUE(config.listeners[1].trusted_proxies.empty());
  ASSERT_EQ(config.listeners[2].trusted_proxies.size(), 1U);
  EXPECT_EQ(config.listeners[2].trusted_proxies[0].ToString(), "::1/128");
}

TEST(ConfigLists, HeaderRulesKeepTheirOrderAndCase) {
  Config config = ConfigFrom(WithRoute(R"("path": "/x", "upstream": "default", "headers": {
      "request": { "set": { "Host": "h", "X-B": "1", "X-A": "" }, "add": { "Via": "x" }, "remove": ["Cookie"] },
      "response": { "remove": ["Server"] } })"));
  const HeaderRules& rules = config.routes[0].headers;
  EXPECT_EQ(rules.request.set, (HeaderList{{"Host", "h"}, {"X-B", "1"}, {"X-A", ""}}));
  EXPECT_EQ(rules.request.add, (HeaderList{{"Via", "x"}}));
  EXPECT_EQ(rules.request.remove, std::vector<std::string>{"Cookie"});
  EXPECT_EQ(rules.response.remove, std::vector<std::string>{"Server"});
}

TEST(ConfigLists, HeadersMatchInAnyCase) {
  EXPECT_EQ(
      FaultsOf(WithRoute(R"("path": "/x", "respond": { "headers": { "X-A": "1", "x-a": "2" } })")),
      "routes[0].respond.headers: the header x-a is given twice | names match in upper and lower "
      "case\n");
}

TEST(ConfigLists, TheReasonsToRetryAreASet) {
  auto retry = [](std::string_view on) {
    return ConfigFrom(
               R"({ "listen": ":1", "upstreams": { "a": { "endpoints": ["a:1"], "retry": { "on": )" +
               std::string(on) + R"( } } }, "routes": [ { "upstream": "a" } ] })")
        .upstreams[0]
        .retry;
  };
  EXPECT_TRUE(retry(R"(["connect"])").on_connect);
  EXPECT_FALSE(retry(R"(["connect"])").on_stale_connection);
  EXPECT_TRUE(retry(R"(["stale_connection", "connect"])").on_stale_connection);
  EXPECT_FALSE(retry("[]").on_connect);
}

TEST(ConfigLists, ProtocolsHaveADefaultThatIsNotWritten) {
  LoadedConfig loaded = LoadedFrom(
      R"({ "upstream": "a:1", "listeners": [ { "bind": ":1" }, { "bind": ":2", "protocols": ["h1"] },
           { "bind": ":3", "protocols": ["h2c", "h1"] } ] })");
  const auto& listeners = loaded.config.listeners;
  EXPECT_TRUE(std::ranges::equal(listeners[0].Protocols(), std::array{Protocol::kH1}));
  EXPECT_TRUE(listeners[1].protocols.empty()) << "that is the default";
  EXPECT_TRUE(
      std::ranges::equal(listeners[2].Protocols(), std::array{Protocol::kH2c, Protocol::kH1}));
  const std::size_t first = loaded.effective.find("\"protocols\"");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(loaded.effective.find("\"protocols\"", first + 1), std::string::npos);
  auto again = ParseEffectiveConfig(loaded.effective);
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, loaded.config);
  ListenerConfig secure{.tls = TlsConfig{}};
  EXPECT_TRUE(std::ranges::equal(secure.Protocols(), std::array{Protocol::kH2, Protocol::kH1}));
}

TEST(ConfigLists, ProtocolsAreGivenOnceAndFitTheListener) {
  const auto faults = [](std::string_view list) {
    return FaultsOf(R"({ "upstream": "a:1", "listeners": [ { "bind": ":1", "protocols": )" +
                    std::string(list) + " } ] }");
  };
  EXPECT_EQ(faults(R"(["h1", "h1"])"),
            "listeners[0].protocols[1]: \"h1\" is given twice | remove one of them\n");
  EXPECT_EQ(faults("[]"),
            "listeners[0].protocols: an empty list of protocols | leave the key out "
            "for the default\n");
  EXPECT_EQ(faults(R"(["h2"])"),
            "listeners[0].protocols[0]: \"h2\" is HTTP/2 over TLS, and this listener has no "
            "\"tls\" | write \"h2c\", or add \"tls\": {}\n");
}

}  // namespace
}  // namespace tidegate
