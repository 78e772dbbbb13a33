#include "common/config_reader.h"

#include <gtest/gtest.h>

#include "tests/support/config_text.h"

namespace tidegate {
namespace {

TEST(ConfigReader, AllFaultsAreFoundAtOnce) {
  EXPECT_EQ(
      FaultsOf(
          R"({ "listen": "x", "upstream": 5, "workers": 0, "colour": 1, "timeouts": { "keepalive": 1, "keepalve": 2 } })"),
      "listen: \"x\" has no port | write e.g. \"x:80\"\n"
      "upstream: expected an address such as \"127.0.0.1:3000\", not a number\n"
      "workers: 0 is out of range | the range is 1 to 256\n"
      ": unknown key \"colour\"\n"
      "timeouts.keepalive: a duration needs a unit | write \"1s\", not 1\n"
      "timeouts: unknown key \"keepalve\" | did you mean \"keepalive\"?\n");
}

TEST(ConfigReader, AMissingKeyIsReportedUnlessItIsMisspelt) {
  EXPECT_EQ(FaultsOf(R"({ "upstream": "a:1", "listeners": [ {}, { "bnid": ":1" } ] })"),
            "listeners[0]: \"bind\" is missing\nlisteners[1]: unknown key \"bnid\" | did you mean "
            "\"bind\"?\n");
}

TEST(ConfigReader, NullIsNotAValue) {
  EXPECT_EQ(FaultsOf(With(R"("user": null, "timeouts": null)")),
            "user: null is not a value | leave the key out\ntimeouts: null is not a value | leave "
            "the key out\n");
}

TEST(ConfigReader, NamesThatTheFileLeavesOutComeFromAddressesHostsAndPaths) {
  Config config = ConfigFrom(
      R"({ "listeners": [ { "bind": ":80" }, { "bind": "unix:/run/a b" }, { "name": "x", "bind": ":81" } ],
      "routes": [ { "host": ["a.example", "b.example"], "path": "/v1/", "respond": {} }, { "respond": {} },
                  { "methods": ["GET"], "path": "/m", "respond": {} }, { "path": "/m", "respond": {} },
                  { "name": "/m#2", "path": "/n", "respond": {} } ] })");
  EXPECT_EQ(config.listeners[0].name, ":80");
  EXPECT_EQ(config.listeners[1].name, "unix:/run/a_b");
  EXPECT_EQ(config.listeners[2].name, "x");
  EXPECT_EQ(config.routes[0].name, "a.example/v1/");
  EXPECT_EQ(config.routes[1].name, "/");
  EXPECT_EQ(config.routes[2].name, "/m");
  EXPECT_EQ(config.routes[3].name, "/m#3") << "names that somebody chose come first";
}

TEST(ConfigReader, EveryValueKnowsItsOrigin) {
  LoadedConfig loaded = LoadedFrom(
      "{\n\"listen\": \":1\",\n\"upstream\": \"a:1\",\n\"timeouts\": {\n\"keepalive\": \"1s\" } }");
  EXPECT_EQ(loaded.origins.at("listeners[0].bind"), "t.json:2");
  EXPECT_EQ(loaded.origins.at("upstreams.default.endpoints"), "t.json:3");
  EXPECT_EQ(loaded.origins.at("routes[0].upstream"), "t.json:3");
  EXPECT_EQ(loaded.origins.at("timeouts.keepalive"), "t.json:5");
  EXPECT_FALSE(loaded.origins.contains("timeouts.body_idle"));
}

}  // namespace
}  // namespace tidegate
