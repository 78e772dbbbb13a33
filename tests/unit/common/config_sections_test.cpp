#include <gtest/gtest.h>

#include "tests/support/config_text.h"

namespace tidegate {
namespace {

TEST(ConfigSections, TheShortFormsAreAListenerAnUpstreamAndARoute) {
  Config config = ConfigFrom(R"({ "listen": ":8080", "upstream": "127.0.0.1:3000" })");
  ASSERT_EQ(config.listeners.size(), 1U);
  EXPECT_EQ(config.listeners[0].name, "default");
  EXPECT_EQ(config.listeners[0].bind.ToString(), ":8080");
  EXPECT_EQ(config.listeners[0].accept, AcceptMode::kReusePort);
  ASSERT_EQ(config.upstreams.size(), 1U);
  EXPECT_EQ(config.upstreams[0].name, "default");
  EXPECT_EQ(config.upstreams[0].endpoints[0].address.ToString(), "127.0.0.1:3000");
  ASSERT_EQ(config.routes.size(), 1U);
  EXPECT_EQ(config.routes[0].name, "default");
  EXPECT_EQ(config.routes[0].path, "/");
  EXPECT_EQ(std::get<ForwardAction>(config.routes[0].action).upstream, "default");
}

TEST(ConfigSections, ShortFormsInheritLikeLongOnes) {
  Config config = ConfigFrom(With(
      R"("timeouts": { "keepalive": "1s" }, "limits": { "max_body": "1B" }, "trusted_proxies": ["unix"])"));
  EXPECT_EQ(config.routes[0].timeouts.keepalive, std::chrono::seconds(1));
  EXPECT_EQ(config.routes[0].max_body, 1U);
  EXPECT_EQ(config.listeners[0].trusted_proxies.size(), 1U);
  EXPECT_EQ(ConfigFrom(R"({ "listen": "unix:/x", "upstream": "a:1" })").listeners[0].accept,
            AcceptMode::kShared);
}

TEST(ConfigSections, ARouteOverridesSingleTimeouts) {
  // Before and after: the order in the file does not matter.
  for (const char* text :
       {R"({ "timeouts": { "keepalive": "9s", "body_idle": "8s" }, "listen": ":1",
                               "routes": [ { "respond": {}, "timeouts": { "body_idle": "7s" } } ] })",
        R"({ "routes": [ { "timeouts": { "body_idle": "7s" }, "respond": {} } ], "listen": ":1",
                               "timeouts": { "body_idle": "8s", "keepalive": "9s" } })"}) {
    Config config = ConfigFrom(text);
    EXPECT_EQ(config.routes[0].timeouts.keepalive, std::chrono::seconds(9));
    EXPECT_EQ(config.routes[0].timeouts.body_idle, std::chrono::seconds(7));
    EXPECT_EQ(config.timeouts.body_idle, std::chrono::seconds(8));
  }
}

TEST(ConfigSections, ARouteHasOneAction) {
  EXPECT_EQ(FaultsOf(WithRoute(R"("path": "/x")")),
            "routes[0]: a route needs \"upstream\", \"respond\" or \"redirect\"\n");
  EXPECT_EQ(FaultsOf(WithRoute(R"("path": "/x", "respond": {}, "redirect": { "to": "/" })")),
            "routes[0]: \"redirect\" beside \"respond\"; a route has one of \"upstream\", "
            "\"respond\" or \"redirect\" | "
            "remove one of them\n");
}

TEST(ConfigSections, OneSocketCannotBeGivenToEachWorker) {
  Config config = ConfigFrom(
      R"({ "upstream": "a:1", "listeners": [ { "bind": "unix:/x" }, { "bind": "systemd:s", "accept": "shared" } ] })");
  EXPECT_EQ(config.listeners[0].accept, AcceptMode::kShared);
  EXPECT_EQ(config.listeners[1].accept, AcceptMode::kShared);
  EXPECT_EQ(
      FaultsOf(
          R"({ "upstream": "a:1", "listeners": [ { "bind": "unix:/x", "accept": "reuseport" } ] })"),
      "listeners[0].accept: \"unix:/x\" is one socket; reuseport needs one for each worker | write "
      "\"shared\"\n");
}

TEST(ConfigSections, SomeStatusesHaveNoBody) {
  EXPECT_EQ(FaultsOf(WithRoute(R"("path": "/x", "respond": { "status": 204, "body": "" })")), "");
  EXPECT_EQ(FaultsOf(WithRoute(R"("path": "/x", "respond": { "status": 304, "body": "x" })")),
            "routes[0].respond.body: a response with status 304 has no body | remove the body\n");
}

TEST(ConfigSections, WhatIsStrippedBeginsThePath) {
  EXPECT_EQ(FaultsOf(WithRoute(R"("path": "/v1/", "strip_prefix": "/v1", "upstream": "default")")),
            "");
  EXPECT_EQ(FaultsOf(WithRoute(R"("path": "/v1/", "strip_prefix": "/v2", "upstream": "default")")),
            "routes[0].strip_prefix: \"/v2\" is not a beginning of the path \"/v1/\"\n");
  EXPECT_EQ(
      FaultsOf(WithRoute(R"("path": "/v1/", "strip_prefix": "/v1", "respond": {})")),
      "routes[0].strip_prefix: only a route with \"upstream\" sends a path on | remove this key\n");
}

TEST(ConfigSections, EndpointsAreTextsOrObjects) {
  Config config = ConfigFrom(
      R"({ "listen": ":1", "upstreams": { "a": { "endpoints": ["a:1", { "address": "unix:/x" }] } },
                                  "routes": [ { "upstream": "a" } ] })");
  EXPECT_EQ(config.upstreams[0].endpoints[0].address.host, "a");
  EXPECT_EQ(config.upstreams[0].endpoints[1].address.path, "/x");
}

std::string WithUpstreamTls(std::string_view tls, std::string_view endpoint = "a:1") {
  return R"({ "listen": ":1", "routes": [ { "upstream": "a" } ], "upstreams": { "a": { "endpoints": [")" +
         std::string(endpoint) + R"("], "tls": )" + std::string(tls) + " } } }";
}

TEST(ConfigSections, TlsTowardsUpstreamsHasDefaultsAndNoNewKeysWithoutIt) {
  Config config = ConfigFrom(WithUpstreamTls(R"({ "verify": false })"));
  UpstreamTlsConfig blind;
  blind.verify = false;
  EXPECT_EQ(config.upstreams[0].tls, blind);
  const std::string plain = EffectiveJson(ConfigFrom(With(R"("workers": 2)")));
  for (const char* key : {"\"tls\"", "system_roots", "_pem"}) {
    // An older image, which we may go back to, knows none of them.
    EXPECT_EQ(plain.find(key), std::string::npos) << key;
  }
  EXPECT_EQ(FaultsOf(WithUpstreamTls("true")),
            "upstreams.a.tls: expected an object, not true or false\n");
}

TEST(ConfigSections, TlsTowardsUpstreamsMustMakeSense) {
  EXPECT_EQ(FaultsOf(WithUpstreamTls(R"({ "verify": false })", "unix:/x")), "");
  EXPECT_EQ(
      FaultsOf(WithUpstreamTls(R"({ "server_name": "A.example", "verify": false })", "unix:/x")),
      "");
  EXPECT_EQ(FaultsOf(WithUpstreamTls(R"({ "server_name": "*.example", "verify": false })")),
            "upstreams.a.tls.server_name: \"*.example\" is not the name of one server | write e.g. "
            "\"app.internal\"\n");
  EXPECT_EQ(FaultsOf(WithUpstreamTls(R"({ "verify": false, "ca_pem": "x" })")),
            "upstreams.a.tls: unknown key \"ca_pem\"\n");
  EXPECT_EQ(FaultsOf(With(R"("system_roots": { "pem": "x" })")),
            ": unknown key \"system_roots\"\n");
}

TEST(ConfigSections, WithoutListenersOrRoutesThereIsNothingToDo) {
  EXPECT_EQ(FaultsOf("{}"),
            ": no listener | add \"listen\": \":8080\"\n"
            ": no route | add \"upstream\": \"127.0.0.1:3000\", or \"routes\"\n");
  EXPECT_EQ(FaultsOf(R"({ "listen": ":1", "upstreams": { "a": { "endpoints": ["a:1"] } } })"),
            ": no route | add \"upstream\": \"127.0.0.1:3000\", or \"routes\"\n");
  EXPECT_EQ(FaultsOf(R"({ "listeners": [], "routes": [] })"),
            "listeners: there are no listeners\nroutes: there are no routes\n");
  EXPECT_EQ(FaultsOf(R"({ "lissten": ":1", "upstream": "a:1" })"),
            ": unknown key \"lissten\" | did you mean \"listen\"?\n");
}

}  // namespace
}  // namespace tidegate
