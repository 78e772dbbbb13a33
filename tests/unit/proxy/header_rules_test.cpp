#include "proxy/header_rules.h"

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using NamedValue = std::pair<std::string_view, std::string_view>;
using List = std::vector<std::pair<std::string, std::string>>;

List ListOf(const Fields& fields) {
  List list;
  for (const Field& field : fields) {
    EXPECT_EQ(field.id, FieldIdOf(field.name)) << field.name;
    list.emplace_back(field.name, field.value);
  }
  return list;
}

constexpr Field kRequestId{"X-Request-Id", "id0", FieldId::kXRequestId};

// One request on its way; what a test does not say is the plainest there is.
struct Script {
  RequestHead head;
  RouteConfig route;
  ForwardedConfig forwarded = {.x_forwarded = false, .rfc7239 = false, .via = false};
  ClientInfo client;
  const ListenerRules* rules = nullptr;
  // What the rewritten head looks into.
  std::optional<ServedClient> served;

  explicit Script(std::initializer_list<NamedValue> fields = {}) {
    head.method = Method::kGet;
    head.method_name = "GET";
    head.target = "/";
    head.authority = "example.org:8080";
    for (const auto& [name, value] : fields) {
      head.fields.Add(name, value);
    }
    client.peer = "192.0.2.1:5123";
    client.ip = "192.0.2.1";
    client.has_ip = true;
    client.port = "8080";
  }

  // The fields that come out, without the X-Request-Id at their end.
  List Rewrite() {
    RewriteRequest(head, route, forwarded, served.emplace(client), kRequestId, rules);
    List list = ListOf(head.fields);
    EXPECT_FALSE(list.empty());
    EXPECT_EQ(list.back(), (std::pair<std::string, std::string>("X-Request-Id", "id0")));
    list.pop_back();
    return list;
  }
};

TEST(HeaderRulesTest, Rule1TakesAwayWhatConcernsOneConnection) {
  Script script({{"Host", "example.org"},
                 {"Connection", "keep-alive, X-Hop"},
                 {"Keep-Alive", "timeout=5"},
                 {"Proxy-Connection", "keep-alive"},
                 {"TE", "trailers"},
                 {"Transfer-Encoding", "chunked"},
                 {"Content-Length", "3"},
                 {"Upgrade", "websocket"},
                 {"x-hop", "1"},
                 {"X-Hop", "2"},
                 {"Accept", "*/*"},
                 {"Trailer", "X-Sum"},
                 {"Expect", "100-continue"},
                 {"Cookie", "a=b"}});
  EXPECT_EQ(script.Rewrite(), (List{{"Host", "example.org"},
                                    {"Accept", "*/*"},
                                    {"Trailer", "X-Sum"},
                                    {"Expect", "100-continue"},
                                    {"Cookie", "a=b"}}));
}

TEST(HeaderRulesTest, Rule1ReadsSeveralConnectionLinesWithEmptyElements) {
  Script script({{"A", "1"},
                 {"Connection", "close"},
                 {"Connection", ", a ,,\tB,"},
                 {"b", "2"},
                 {"Connection", "c"},
                 {"C", "3"},
                 {"D", "4"},
                 {"Connection", ""}});
  EXPECT_EQ(script.Rewrite(), (List{{"D", "4"}}));
}

TEST(HeaderRulesTest, Rule1StripsResponsesToo) {
  ResponseHead head;
  head.status = 200;
  for (const auto& [name, value] :
       std::initializer_list<NamedValue>{{"Connection", "X-Hop"},
                                         {"X-Hop", "1"},
                                         {"Content-Length", "3"},
                                         {"Keep-Alive", "timeout=5"},
                                         {"Transfer-Encoding", "chunked"},
                                         {"Upgrade", "h2c"},
                                         {"Set-Cookie", "a"},
                                         {"Set-Cookie", "b"}}) {
    head.fields.Add(name, value);
  }
  RewriteResponse(head, RouteConfig{}, ForwardedConfig{}, "now");
  EXPECT_EQ(
      ListOf(head.fields),
      (List{{"Set-Cookie", "a"}, {"Set-Cookie", "b"}, {"Via", "1.1 tidegate"}, {"Date", "now"}}));
}

TEST(HeaderRulesTest, Rule2LetsNobodyNominateWhatWeNeed) {
  Script script({{"Connection",
                  "Host, Date, Expect, Forwarded, Max-Forwards, Via, X-Forwarded-For, "
                  "x-forwarded-ssl, X-Request-Id, Content-Length, close, X-Mine"},
                 {"Host", "example.org"},
                 {"Date", "d"},
                 {"Expect", "100-continue"},
                 {"Forwarded", "for=1.1.1.1"},
                 {"Max-Forwards", "3"},
                 {"Via", "1.1 front"},
                 {"X-Forwarded-For", "1.1.1.1"},
                 {"X-Forwarded-Ssl", "on"},
                 {"X-Mine", "x"}});
  script.client.trusted = true;
  EXPECT_EQ(script.Rewrite(), (List{{"Host", "example.org"},
                                    {"Date", "d"},
                                    {"Expect", "100-continue"},
                                    {"Forwarded", "for=1.1.1.1"},
                                    {"Max-Forwards", "3"},
                                    {"Via", "1.1 front"},
                                    {"X-Forwarded-For", "1.1.1.1"},
                                    {"X-Forwarded-Ssl", "on"}}));
}

TEST(HeaderRulesTest, Rule3ReplacesWhatAnUntrustedPeerSays) {
  Script script({{"X-Forwarded-For", "6.6.6.6"},
                 {"X-Forwarded-Proto", "https"},
                 {"X-Forwarded-Host", "evil"},
                 {"X-Forwarded-Port", "1"},
                 {"X-Forwarded-Prefix", "/evil"},
                 {"Forwarded", "for=6.6.6.6"},
                 {"X-Request-Id", "theirs"},
                 {"Accept", "*/*"}});
  script.forwarded = {.x_forwarded = true, .rfc7239 = true, .via = true};
  EXPECT_EQ(script.Rewrite(),
            (List{{"Accept", "*/*"},
                  {"X-Forwarded-For", "192.0.2.1"},
                  {"X-Forwarded-Proto", "http"},
                  {"X-Forwarded-Port", "8080"},
                  {"X-Forwarded-Host", "example.org:8080"},
                  {"Forwarded", "for=192.0.2.1;host=\"example.org:8080\";proto=http"},
                  {"Via", "1.1 tidegate"}}));
}

TEST(HeaderRulesTest, Rule3RemovesThemAlsoWhenWeAddNone) {
  Script script({{"X-Forwarded-For", "6.6.6.6"}, {"Forwarded", "for=6.6.6.6"}});
  EXPECT_EQ(script.Rewrite(), List{});
}

TEST(HeaderRulesTest, Rule3DropsNamesThatPassForOthers) {
  for (bool trusted : {false, true}) {
    Script script({{"X_Forwarded_For", "6.6.6.6"},
                   {"X-Forwarded_For", "6.6.6.6"},
                   {"x_forwarded-proto", "https"},
                   {"X.Forwarded.Host", "evil"},
                   {"X-Forwarded-Client_Cert", "x"},
                   {"X_Request_Id", "x"},
                   {"Proxy", "http://evil"},
                   {"Proxy-Authorization", "kept"},
                   {"X-Forwarder-For", "kept"},
                   {"X_Other", "kept"},
                   {"X-Request-Idea", "kept"},
                   {"Priority", "kept"},
                   {"X", "kept"}});
    script.client.trusted = trusted;
    EXPECT_EQ(script.Rewrite(), (List{{"Proxy-Authorization", "kept"},
                                      {"X-Forwarder-For", "kept"},
                                      {"X_Other", "kept"},
                                      {"X-Request-Idea", "kept"},
                                      {"Priority", "kept"},
                                      {"X", "kept"}}));
  }
}

TEST(HeaderRulesTest, KeepsAndExtendsWhatATrustedPeerSays) {
  Script script({{"X-Forwarded-For", "198.51.100.1"},
                 {"Via", "1.0 front"},
                 {"X-Forwarded-For", "198.51.100.2, 198.51.100.3"},
                 {"X-Forwarded-Proto", "https"},
                 {"X-Forwarded-Host", "public.example"},
                 {"X-Forwarded-Port", "443"},
                 {"X-Forwarded-Ssl", "on"},
                 {"Forwarded", "for=198.51.100.1"}});
  script.client.trusted = true;
  script.forwarded = {.x_forwarded = true, .rfc7239 = true, .via = true};
  EXPECT_EQ(
      script.Rewrite(),
      (List{{"X-Forwarded-Proto", "https"},
            {"X-Forwarded-Host", "public.example"},
            {"X-Forwarded-Port", "443"},
            {"X-Forwarded-Ssl", "on"},
            {"X-Forwarded-For", "198.51.100.1, 198.51.100.2, 198.51.100.3, 192.0.2.1"},
            {"Forwarded", "for=198.51.100.1, for=192.0.2.1;host=\"example.org:8080\";proto=http"},
            {"Via", "1.0 front, 1.1 tidegate"}}));
}

TEST(HeaderRulesTest, CompletesWhatATrustedPeerLeftOut) {
  Script script({{"X-Forwarded-Proto", "https"}, {"X-Forwarded-For", ""}});
  script.client.trusted = true;
  script.forwarded.x_forwarded = true;
  EXPECT_EQ(script.Rewrite(), (List{{"X-Forwarded-Proto", "https"},
                                    {"X-Forwarded-For", "192.0.2.1"},
                                    {"X-Forwarded-Host", "example.org:8080"},
                                    {"X-Forwarded-Port", "8080"}}));
}

TEST(HeaderRulesTest, HasNoAddressToTellOfAUnixPeer) {
  Script script({{"X-Forwarded-For", "198.51.100.1"}});
  script.client.ip = "unix";
  script.client.has_ip = false;
  script.client.port = "";
  script.client.trusted = true;
  script.forwarded = {.x_forwarded = true, .rfc7239 = true, .via = false};
  EXPECT_EQ(script.Rewrite(),
            (List{{"X-Forwarded-For", "198.51.100.1"},
                  {"X-Forwarded-Proto", "http"},
                  {"X-Forwarded-Host", "example.org:8080"},
                  {"Forwarded", "for=unknown;host=\"example.org:8080\";proto=http"}}));
}

TEST(HeaderRulesTest, QuotesIpv6InForwarded) {
  Script script;
  script.client.ip = "2001:db8::1";
  script.head.authority = "";
  script.forwarded.rfc7239 = true;
  EXPECT_EQ(script.Rewrite(), (List{{"Forwarded", "for=\"[2001:db8::1]\";proto=http"}}));
}

TEST(HeaderRulesTest, SaysInViaWhichVersionCame) {
  Script script;
  script.head.minor_version = 0;
  script.forwarded.via = true;
  EXPECT_EQ(script.Rewrite(), (List{{"Via", "1.0 tidegate"}}));
}

TEST(HeaderRulesTest, AppliesTheEditsLastAndInOrder) {
  Script script({{"Accept", "a"}, {"X-One", "1"}, {"x-one", "2"}, {"X-Two", "1"}});
  script.forwarded.via = true;
  script.route.headers.request = {
      .set = {{"X-Two", "set"}, {"Via", "mine"}, {"Content-Length", "9"}, {"Connection", "x"}},
      .add = {{"X-Two", "added"}, {"Host", "second"}},
      .remove = {"X-ONE", "Host", "X-Absent"}};
  script.head.fields.Add("Host", "example.org");
  RewriteRequest(script.head, script.route, script.forwarded, script.served.emplace(script.client),
                 kRequestId);
  EXPECT_EQ(ListOf(script.head.fields), (List{{"Accept", "a"},
                                              {"Host", "example.org"},
                                              {"X-Request-Id", "id0"},
                                              {"X-Two", "set"},
                                              {"Via", "mine"},
                                              {"X-Two", "added"}}));
}

TEST(HeaderRulesTest, SetsHostAndAuthorityTogether) {
  Script script({{"Host", "example.org:8080"}});
  script.forwarded.x_forwarded = true;
  script.route.headers.request.set = {{"host", "app.internal"}};
  RewriteRequest(script.head, script.route, script.forwarded, script.served.emplace(script.client),
                 kRequestId);
  EXPECT_EQ(script.head.authority, "app.internal");
  ASSERT_NE(script.head.fields.Find(FieldId::kHost), nullptr);
  EXPECT_EQ(script.head.fields.Find(FieldId::kHost)->value, "app.internal");
  EXPECT_EQ(script.head.fields.Find(FieldId::kXForwardedHost)->value, "example.org:8080");
}

TEST(HeaderRulesTest, StripsThePrefix) {
  struct Case {
    std::string_view prefix;
    std::string_view target;
    std::string_view result;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"", "/v1/x", "/v1/x"},
           {"/", "/v1/x", "/v1/x"},
           {"/v1", "/v1/x?y", "/x?y"},
           {"/v1", "/v1", "/"},
           {"/v1", "/v1?a=b", "/?a=b"},
           {"/v1", "/v1/", "/"},
           {"/v1/", "/v1/x", "/x"},
           {"/v1/", "/v1/", "/"},
           {"/v1/", "/v1/?q", "/?q"},
           {"/v1", "/v1//x/%2F;..", "//x/%2F;.."},
           {"/v", "/v1", "/1"},
           {"/v1", "*", "*"},
       }) {
    Script script;
    script.head.target = c.target;
    script.route.strip_prefix = c.prefix;
    script.Rewrite();
    EXPECT_EQ(script.head.target, c.result) << c.prefix << " of " << c.target;
  }
}

TEST(HeaderRulesTest, KeepsAnUpgradeUnlessItIsH2cOrOfHttp10) {
  Script script;
  script.head.upgrade = "websocket";
  script.Rewrite();
  EXPECT_EQ(script.head.upgrade, "websocket");

  for (const char* refused :
       {"foo, H2C", "h2c/1", "\"h2c\"", "foo, a b", "foo/", "/1", "foo/1/2"}) {
    Script script_of_refused;
    script_of_refused.head.upgrade = refused;
    script_of_refused.Rewrite();
    EXPECT_EQ(script_of_refused.head.upgrade, "") << refused;
  }
  for (const char* kept : {"foo, bar/1.0", "foo,, bar", "h2"}) {
    Script script_of_kept;
    script_of_kept.head.upgrade = kept;
    script_of_kept.Rewrite();
    EXPECT_EQ(script_of_kept.head.upgrade, kept);
  }

  Script old;
  old.head.upgrade = "websocket";
  old.head.minor_version = 0;
  old.Rewrite();
  EXPECT_EQ(old.head.upgrade, "");
}

TEST(HeaderRulesTest, AddsDateOnlyIfItIsMissing) {
  ResponseHead head;
  head.status = 404;
  head.minor_version = 0;
  head.fields.Add("date", "theirs");
  head.fields.Add("Via", "1.1 inner");
  RouteConfig route;
  route.headers.response = {.set = {{"X-Frame-Options", "DENY"}}, .add = {}, .remove = {"server"}};
  head.fields.Add("Server", "origin");
  RewriteResponse(head, route, ForwardedConfig{}, "now");
  EXPECT_EQ(
      ListOf(head.fields),
      (List{{"date", "theirs"}, {"Via", "1.1 inner, 1.0 tidegate"}, {"X-Frame-Options", "DENY"}}));
}

TEST(HeaderRulesTest, LeavesInterimResponsesAlone) {
  ResponseHead head;
  head.status = 103;
  head.fields.Add("Link", "</a.css>; rel=preload");
  head.fields.Add("Connection", "close");
  RouteConfig route;
  route.headers.response.set = {{"X-Frame-Options", "DENY"}};
  RewriteResponse(head, route, ForwardedConfig{.via = false}, "now");
  EXPECT_EQ(ListOf(head.fields), (List{{"Link", "</a.css>; rel=preload"}}));
}

TEST(HeaderRulesTest, TreatsSwitchingProtocolsAsFinal) {
  ResponseHead head;
  head.status = 101;
  head.fields.Add("Upgrade", "websocket");
  head.fields.Add("Sec-WebSocket-Accept", "x");
  RewriteResponse(head, RouteConfig{}, ForwardedConfig{.via = false}, "now");
  EXPECT_EQ(ListOf(head.fields), (List{{"Sec-WebSocket-Accept", "x"}, {"Date", "now"}}));
}

TEST(HeaderRulesTest, StripsTrailers) {
  Fields trailers;
  for (std::string_view name :
       {"X-Sum", "Content-Length", "Host", "X-Forwarded-For", "X_Forwarded_For", "Via", "Etag"}) {
    trailers.Add(name, "1");
  }
  StripTrailers(trailers);
  EXPECT_EQ(ListOf(trailers), (List{{"X-Sum", "1"}, {"Etag", "1"}}));
}

struct Hop {
  Method method;
  std::initializer_list<std::string_view> max_forwards;
  std::vector<std::string> route_methods;
};

std::string HopOf(const Hop& hop) {
  Script script;
  script.head.method = hop.method;
  script.route.methods = hop.route_methods;
  for (std::string_view value : hop.max_forwards) {
    script.head.fields.Add("Max-Forwards", value);
  }
  Result<HopDecision> decision = CountHop(script.head, script.route);
  if (!decision) {
    return std::string(RowOf(decision.error().kind()).log_name);
  }
  if (*decision == HopDecision::kAnswer) {
    return "answer";
  }
  const Field* left = script.head.fields.Find(FieldId::kMaxForwards);
  return left == nullptr ? "forward" : "forward " + std::string(left->value);
}

TEST(HeaderRulesTest, CountsHopsOfOptionsAndTrace) {
  EXPECT_EQ(HopOf({Method::kOptions, {}, {}}), "forward");
  EXPECT_EQ(HopOf({Method::kOptions, {"0"}, {}}), "answer");
  EXPECT_EQ(HopOf({Method::kOptions, {"000"}, {}}), "answer");
  EXPECT_EQ(HopOf({Method::kOptions, {"1"}, {}}), "forward 0");
  EXPECT_EQ(HopOf({Method::kOptions, {"0010"}, {}}), "forward 9");
  EXPECT_EQ(HopOf({Method::kOptions, {"99999999999999999999999"}, {}}), "forward 4294967294");
  EXPECT_EQ(HopOf({Method::kOptions, {"-1"}, {}}), "bad_request");
  EXPECT_EQ(HopOf({Method::kOptions, {""}, {}}), "bad_request");
  EXPECT_EQ(HopOf({Method::kOptions, {"1", "1"}, {}}), "bad_request");
  EXPECT_EQ(HopOf({Method::kGet, {"0"}, {}}), "forward 0");
  EXPECT_EQ(HopOf({Method::kTrace, {}, {}}), "method_not_allowed");
  EXPECT_EQ(HopOf({Method::kTrace, {"5"}, {}}), "method_not_allowed");
  EXPECT_EQ(HopOf({Method::kTrace, {"5"}, {"GET", "TRACE"}}), "forward 4");
  EXPECT_EQ(HopOf({Method::kTrace, {"0"}, {"GET", "TRACE"}}), "method_not_allowed");
}

TEST(HeaderRulesTest, MakesTheDateOnceASecond) {
  HttpDate date;
  std::string first(date.At(784111777));
  EXPECT_EQ(first, "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(date.At(784111777), first);
  EXPECT_EQ(date.At(784111778).size(), first.size());
}

TEST(HeaderRules, NothingPassesForACertificateWhereSomebodyBelievesIt) {
  const List sent = {{"Client-Cert", ":AAAA:"}, {"X_Client-Cert_Verify", "SUCCESS"}, {"A", "b"}};
  Script script({{"Client-Cert", ":AAAA:"}, {"X_Client-Cert_Verify", "SUCCESS"}, {"A", "b"}});
  EXPECT_EQ(script.Rewrite(), sent) << "nobody has asked";
  ListenerRules rules{.drops_client_certificates = true};
  script.rules = &rules;
  script.client.trusted = true;
  script.head.fields.Remove("X-Request-Id");
  EXPECT_EQ(script.Rewrite(), (List{{"A", "b"}}));
}

TEST(HeaderRules, AConnectionThatWasNotAskedForACertificateHasNone) {
  Script script({{"Connection", "X-Client-Cert-Verify"}});
  ListenerRules rules{.drops_client_certificates = true, .client_headers = true};
  RewriteRequest(script.head, script.route, script.forwarded, script.served.emplace(script.client),
                 kRequestId, &rules);
  EXPECT_EQ(ListOf(script.head.fields),
            (List{{"X-Request-Id", "id0"}, {"X-Client-Cert-Verify", "NONE"}}));
}

TEST(HeaderRules, TrailersNameNoCertificate) {
  Fields trailers;
  trailers.Add("X-Client-Cert-Verify", "SUCCESS");
  trailers.Add("Checksum", "1");
  StripTrailers(trailers);
  EXPECT_EQ(ListOf(trailers), (List{{"Checksum", "1"}}));
}

}  // namespace
}  // namespace tidegate
