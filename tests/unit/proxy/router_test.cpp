#include "proxy/router.h"

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

RouteConfig Route(std::string name, std::vector<std::string> hosts, std::string path,
                  std::vector<std::string> methods = {}) {
  RouteConfig route;
  route.name = std::move(name);
  route.hosts = std::move(hosts);
  route.path = std::move(path);
  route.methods = std::move(methods);
  return route;
}

Config WithRoutes(std::vector<RouteConfig> routes) {
  Config config;
  config.routes = std::move(routes);
  return config;
}

Router::Match Find(const Router& router, std::string_view host, std::string_view target,
                   std::string_view method = "GET") {
  RequestHead head;
  head.method_name = method;
  head.method = MethodOf(method);
  head.authority = host;
  head.target = target;
  return router.Find(head);
}

std::string NameFound(const Router& router, std::string_view host, std::string_view target,
                      std::string_view method = "GET") {
  Router::Match match = Find(router, host, target, method);
  return match.route == nullptr ? "none" : match.route->name;
}

TEST(RouterTest, PrefersTheMostSpecificHost) {
  Config config = WithRoutes({
      Route("any", {}, "/"),
      Route("wide", {"*.example.org"}, "/"),
      Route("narrow", {"*.eu.example.org"}, "/"),
      Route("exact", {"a.eu.example.org", "example.org"}, "/"),
  });
  Router router(config);
  struct Case {
    std::string_view host;
    std::string_view route;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"a.eu.example.org", "exact"},
           {"b.eu.example.org", "narrow"},
           {"x.b.eu.example.org", "narrow"},
           {"eu.example.org", "wide"},
           {"example.org", "exact"},
           {"notexample.org", "any"},
           {"example.com", "any"},
           {"", "any"},
           {"[::1]", "any"},
           {".", "any"},
           {"..", "any"},
       }) {
    EXPECT_EQ(NameFound(router, c.host, "/"), c.route) << c.host;
  }
  EXPECT_EQ(NameFound(router, std::string(300, 'a') + ".example.org", "/"), "any");
}

TEST(RouterTest, ComparesHostsWithoutPortCaseAndTrailingDot) {
  Config config = WithRoutes({Route("exact", {"www.example.org"}, "/"),
                              Route("wild", {"*.example.org"}, "/"), Route("six", {"[::1]"}, "/")});
  Router router(config);
  EXPECT_EQ(NameFound(router, "WWW.Example.ORG", "/"), "exact");
  EXPECT_EQ(NameFound(router, "www.example.org:8080", "/"), "exact");
  EXPECT_EQ(NameFound(router, "www.example.org.", "/"), "exact");
  EXPECT_EQ(NameFound(router, "www.example.org.:80", "/"), "exact");
  EXPECT_EQ(NameFound(router, "X.Example.org.:80", "/"), "wild");
  EXPECT_EQ(NameFound(router, "[::1]:80", "/"), "six");
}

TEST(RouterTest, MatchesPrefixesAtSegments) {
  Config config = WithRoutes({Route("open", {}, "/v1"), Route("closed", {}, "/w1/"),
                              Route("deep", {}, "/v1/a/b"), Route("side", {}, "/v1/a!")});
  Router router(config);
  struct Case {
    std::string_view target;
    std::string_view route;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"/v1", "open"},      {"/v1/x", "open"},
           {"/v1/", "open"},     {"/v1?x=/v1/a/b", "open"},
           {"/v10", "none"},     {"/v", "none"},
           {"/", "none"},        {"/w1", "none"},
           {"/w1/", "closed"},   {"/w1/x", "closed"},
           {"/w1?/", "none"},    {"/v1/a", "open"},
           {"/v1/a/b", "deep"},  {"/v1/a/b?q", "deep"},
           {"/v1/a/bc", "open"}, {"/v1/a/b/c", "deep"},
           {"/v1/a!", "side"},   {"/v1/a!b", "open"},
           {"/v1/a!/b", "side"}, {"/V1", "none"},
           {"//v1", "none"},     {"/v%31", "none"},
           {"*", "none"},
       }) {
    EXPECT_EQ(NameFound(router, "h", c.target), c.route) << c.target;
  }
}

TEST(RouterTest, RoutesTheAsteriskAsTheRoot) {
  Config config = WithRoutes({Route("root", {}, "/"), Route("deep", {}, "/x")});
  Router router(config);
  EXPECT_EQ(NameFound(router, "h", "*", "OPTIONS"), "root");
}

TEST(RouterTest, LetsTheOrderOfTheFileDecideBetweenEquals) {
  Config config =
      WithRoutes({Route("first", {}, "/a"), Route("second", {}, "/a"), Route("third", {}, "/")});
  Router router(config);
  EXPECT_EQ(NameFound(router, "h", "/a"), "first");
}

TEST(RouterTest, FallsThroughToALessSpecificRoute) {
  Config config = WithRoutes({Route("any", {}, "/"), Route("host", {"example.org"}, "/v1"),
                              Route("wild", {"*.example.org"}, "/w"),
                              Route("post", {"example.org"}, "/v1/x", {"POST"})});
  Router router(config);
  EXPECT_EQ(NameFound(router, "example.org", "/v2"), "any");
  EXPECT_EQ(NameFound(router, "example.org", "/v1/x", "POST"), "post");
  EXPECT_EQ(NameFound(router, "example.org", "/v1/x", "GET"), "host");
  EXPECT_EQ(NameFound(router, "a.example.org", "/v1"), "any");
}

TEST(RouterTest, TellsAMethodMismatchFromNoRoute) {
  Config config =
      WithRoutes({Route("get", {"example.org"}, "/v1", {"GET", "PROPFIND"}),
                  Route("post", {}, "/v1/x", {"POST", "GET"}), Route("all", {}, "/open")});
  Router router(config);
  Router::Match match = Find(router, "example.org", "/v1/x", "DELETE");
  EXPECT_EQ(match.route, nullptr);
  EXPECT_TRUE(match.method_mismatch);
  EXPECT_EQ(match.allow, "GET, HEAD, PROPFIND, POST");
  EXPECT_TRUE(Find(router, "example.org", "/v1", "MKCOL").method_mismatch);
  EXPECT_TRUE(Find(router, "example.org", "/v1", "get").method_mismatch);

  match = Find(router, "example.org", "/v2", "GET");
  EXPECT_EQ(match.route, nullptr);
  EXPECT_FALSE(match.method_mismatch);
  EXPECT_EQ(match.allow, "");

  EXPECT_EQ(NameFound(router, "example.org", "/v1", "PROPFIND"), "get");
  EXPECT_EQ(NameFound(router, "example.org", "/open", "MKCOL"), "all");
}

TEST(RouterTest, LetsGetStandForHead) {
  Config config = WithRoutes({Route("get", {}, "/g", {"GET"}), Route("post", {}, "/p", {"POST"})});
  Router router(config);
  EXPECT_EQ(NameFound(router, "h", "/g", "HEAD"), "get");
  EXPECT_EQ(NameFound(router, "h", "/p", "HEAD"), "none");
}

TEST(RouterTest, FindsTheRightOneAmongThousands) {
  std::vector<RouteConfig> routes;
  for (int i = 0; i < 3000; ++i) {
    std::string number = std::to_string(i);
    routes.push_back(Route("h" + number, {"h" + number + ".example.org"}, "/"));
    routes.push_back(Route("p" + number, {}, "/p/" + number));
  }
  Config config = WithRoutes(std::move(routes));
  Router router(config);
  for (int i = 0; i < 3000; ++i) {
    std::string number = std::to_string(i);
    EXPECT_EQ(NameFound(router, "h" + number + ".example.org", "/q"), "h" + number);
    EXPECT_EQ(NameFound(router, "x", "/p/" + number + "/q"), "p" + number);
    EXPECT_EQ(NameFound(router, "x", "/p/" + number + "a"), "none");
  }
}

TEST(RouterTest, AgreesWithASearchThroughAllRoutes) {
  // Every prefix over a small alphabet up to a length, against every path: the sorted table with
  // its parents must find what the plain definition finds.
  std::vector<std::string> texts = {"/"};
  for (std::size_t i = 0; i < texts.size() && texts.size() < 400; ++i) {
    for (char c : std::string_view("/a!")) {
      texts.push_back(texts[i] + c);
    }
  }
  std::vector<RouteConfig> routes;
  for (std::size_t i = 0; i < texts.size(); i += 3) {
    routes.push_back(Route(texts[i], {}, texts[i]));
  }
  Config config = WithRoutes(std::move(routes));
  Router router(config);
  for (const std::string& path : texts) {
    std::string best = "none";
    for (const RouteConfig& route : config.routes) {
      const std::string& prefix = route.path;
      bool matches =
          path.starts_with(prefix) &&
          (path.size() == prefix.size() || prefix.back() == '/' || path[prefix.size()] == '/');
      if (matches && (best == "none" || prefix.size() > best.size())) {
        best = prefix;
      }
    }
    EXPECT_EQ(NameFound(router, "h", path), best) << path;
  }
}

}  // namespace
}  // namespace tidegate
