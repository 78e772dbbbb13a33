#include "common/config_check.h"

#include <gtest/gtest.h>

#include "tests/support/config_text.h"

namespace tidegate {
namespace {

std::string Routes(std::string_view routes) {
  return FaultsOf(R"({ "listen": ":1", "routes": [ )" + std::string(routes) + " ] }");
}

// Which routes are said never to match.
std::string Shadowed(std::string_view routes) {
  std::string faults = Routes(routes);
  std::string indices;
  for (std::size_t at = faults.find("warning: routes["); at != std::string::npos;
       at = faults.find("warning: routes[", at + 1)) {
    indices += faults[at + 16];
  }
  return indices;
}

TEST(ConfigCheck, ARouteNamesAnUpstreamThatExists) {
  EXPECT_EQ(
      FaultsOf(
          R"({ "listen": ":1", "upstreams": { "images": { "endpoints": ["a:1"] } }, "routes": [ { "upstream": "image" } ] })"),
      "routes[0].upstream: there is no upstream \"image\" | did you mean \"images\"?\n");
  EXPECT_EQ(Routes(R"({ "upstream": "a" })"),
            "routes[0].upstream: there is no upstream \"a\" | there are no upstreams\n");
  EXPECT_EQ(Routes(R"({ "upstream": "127.0.0.1:1" })"),
            "routes[0].upstream: there is no upstream \"127.0.0.1:1\" | a route takes the name of "
            "an upstream; give it this endpoint\n");
}

TEST(ConfigCheck, AnUnusedUpstreamIsAWarning) {
  EXPECT_EQ(FaultsOf(With(R"("upstreams": { "spare": { "endpoints": ["a:1"] } })")),
            "warning: upstreams.spare: no route uses this upstream\n");
}

TEST(ConfigCheck, NamesAndAddressesAreTakenOnce) {
  EXPECT_EQ(
      FaultsOf(
          R"({ "upstream": "a:1", "listeners": [ { "name": "a", "bind": ":1" }, { "name": "a", "bind": ":2" },
                          { "bind": ":1" }, { "bind": "127.0.0.1:1" }, { "bind": ":0" }, { "name": "z", "bind": ":0" } ] })"),
      "listeners[1].name: the name \"a\" is taken, by listeners[0] at t.json:1\n"
      "listeners[2].bind: the address \":1\" is taken, by listeners[0] at t.json:1\n");
  EXPECT_EQ(FaultsOf(With(R"("listeners": [ { "bind": ":8080" } ])")),
            "listen: the address \":8080\" is taken, by listeners[0] at t.json:1\n");
  EXPECT_EQ(
      Routes(R"({ "name": "a", "respond": {} }, { "name": "a", "path": "/x", "respond": {} })"),
      "routes[1].name: the name \"a\" is taken, by routes[0] at t.json:1\n");
  EXPECT_EQ(FaultsOf(With(R"("upstreams": { "default": { "endpoints": ["a:1"] } })")),
            "upstream: the name \"default\" is taken, by upstreams.default at t.json:1\n");
}

TEST(ConfigCheck, AllAddressesOfAPortAreTakenByItsShortForm) {
  auto binds = [](std::string_view first, std::string_view second) {
    return FaultsOf(R"({ "upstream": "a:1", "listeners": [ { "bind": ")" + std::string(first) +
                    R"(" }, { "bind": ")" + std::string(second) + R"(" } ] })");
  };
  EXPECT_EQ(
      binds(":80", "0.0.0.0:80"),
      "listeners[1].bind: the address \"0.0.0.0:80\" is taken, by listeners[0] at t.json:1\n");
  EXPECT_EQ(binds("[::]:80", ":80"),
            "listeners[1].bind: the address \":80\" is taken, by listeners[0] at t.json:1\n");
  EXPECT_EQ(binds("unix:/x", "unix:/x"),
            "listeners[1].bind: the address \"unix:/x\" is taken, by listeners[0] at t.json:1\n");
  EXPECT_EQ(binds("0.0.0.0:80", "[::]:80"), "");
  EXPECT_EQ(binds(":80", ":81"), "");
  EXPECT_EQ(binds(":0", ":0"), "") << "the kernel finds a port for each, and each gets a name";
  EXPECT_EQ(binds("127.0.0.1:0", "127.0.0.1:0"), "");
}

TEST(ConfigCheck, AnEndpointGivenTwiceIsAWarning) {
  EXPECT_EQ(
      FaultsOf(
          R"({ "listen": ":1", "upstreams": { "a": { "endpoints": ["a:1", "b:1", "A:1"] } }, "routes": [ { "upstream": "a" } ] })"),
      "warning: upstreams.a.endpoints[2]: the endpoint a:1 is given twice | remove one of them\n");
}

TEST(ConfigCheck, ARouteIsShadowedByAnEarlierOneOfItsHostAndPath) {
  EXPECT_EQ(Shadowed(R"({ "respond": {} }, { "respond": {} })"), "1");
  EXPECT_EQ(Shadowed(R"({ "respond": {} }, { "methods": ["GET"], "respond": {} })"), "1");
  EXPECT_EQ(
      Shadowed(
          R"({ "methods": ["GET", "PUT"], "respond": {} }, { "methods": ["PUT"], "respond": {} })"),
      "1");
  EXPECT_EQ(
      Shadowed(
          R"({ "methods": ["GET"], "respond": {} }, { "methods": ["PUT"], "respond": {} }, { "methods": ["PUT", "GET"], "respond": {} })"),
      "2");
  EXPECT_EQ(
      Shadowed(R"({ "host": ["a.de", "b.de"], "respond": {} }, { "host": "b.de", "respond": {} })"),
      "1");
  EXPECT_EQ(
      Shadowed(
          R"({ "host": "a.de", "respond": {} }, { "host": "b.de", "respond": {} }, { "host": ["b.de", "a.de"], "respond": {} })"),
      "2");
  EXPECT_EQ(
      Shadowed(R"({ "methods": ["GET"], "respond": {} }, { "methods": ["HEAD"], "respond": {} })"),
      "1")
      << "GET stands for HEAD";
  EXPECT_EQ(Shadowed(R"({ "host": "*.a.de", "respond": {} }, { "host": "*.A.de", "respond": {} })"),
            "1");
}

TEST(ConfigCheck, ARouteThatCanMatchIsNotShadowed) {
  EXPECT_EQ(Shadowed(R"({ "respond": {} }, { "path": "/a", "respond": {} })"), "")
      << "a longer path wins";
  EXPECT_EQ(Shadowed(R"({ "respond": {} }, { "host": "a.de", "respond": {} })"), "")
      << "a host wins";
  EXPECT_EQ(Shadowed(R"({ "host": "*.a.de", "respond": {} }, { "host": "b.a.de", "respond": {} })"),
            "")
      << "an exact host wins";
  EXPECT_EQ(Shadowed(R"({ "methods": ["GET"], "respond": {} }, { "respond": {} })"), "")
      << "other methods are left";
  EXPECT_EQ(
      Shadowed(
          R"({ "methods": ["GET"], "respond": {} }, { "methods": ["GET", "PUT"], "respond": {} })"),
      "");
  EXPECT_EQ(
      Shadowed(R"({ "host": "a.de", "respond": {} }, { "host": ["a.de", "b.de"], "respond": {} })"),
      "")
      << "b.de is left";
  EXPECT_EQ(
      Shadowed(R"({ "methods": ["HEAD"], "respond": {} }, { "methods": ["GET"], "respond": {} })"),
      "");
  EXPECT_EQ(Shadowed(R"({ "path": "/a", "respond": {} }, { "path": "/A", "respond": {} })"), "")
      << "paths have a case";
}

TEST(ConfigCheck, WhatWasNotReadShadowsNothing) {
  EXPECT_EQ(Shadowed(R"({ "path": "x", "respond": {} }, { "path": "y", "respond": {} })"), "");
  EXPECT_EQ(Shadowed(R"({ "host": "a b", "respond": {} }, { "respond": {} })"), "");
}

TEST(ConfigCheck, AUrlLimitAboveTheHeadLimitIsAWarning) {
  EXPECT_EQ(FaultsOf(With(R"("limits": { "max_header_bytes": "8KiB" })")),
            "warning: limits.max_url_bytes: 16KiB is more than max_header_bytes (8KiB), which "
            "counts the URL too\n");
}

}  // namespace
}  // namespace tidegate
