#include "proxy/http/h2_rules.h"

#include <malloc.h>

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs Request(const Pairs& more = {}, const Pairs& pseudo = {{":method", "GET"},
                                                             {":scheme", "https"},
                                                             {":path", "/a?b"},
                                                             {":authority", "a.example"}}) {
  Pairs all = pseudo;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::optional<H2Fault> Read(RequestHead& head, const Pairs& fields, bool ends = true,
                            DecoderLimits limits = {}) {
  H2HeadReader reader;
  reader.BeginRequest(head, limits);
  for (const auto& [name, value] : fields) {
    reader.Add(name, value);
  }
  return reader.End(ends);
}

std::string Text(const Fields& fields) {
  std::string text;
  for (const Field& field : fields) {
    text += std::string(field.name) + "=" + std::string(field.value) + ";";
    if (field.is_line) {
      EXPECT_EQ(field.line(), std::string(field.name) + ": " + std::string(field.value) + "\r\n");
    }
  }
  return text;
}

TEST(H2Rules, ARequestBecomesAHead) {
  RequestHead head;
  ASSERT_FALSE(Read(head, Request({{"accept", "*/*"}, {"te", "trailers"}})));
  EXPECT_EQ(head.method, Method::kGet);
  EXPECT_EQ(head.method_name, "GET");
  EXPECT_EQ(head.target, "/a?b");
  EXPECT_EQ(head.authority, "a.example");
  EXPECT_EQ(Text(head.fields), "accept=*/*;te=trailers;Host=a.example;");
  EXPECT_EQ(head.body, BodyKind::kNone);
  EXPECT_TRUE(head.is_http2);
  EXPECT_EQ(head.minor_version, 1);
}

TEST(H2Rules, TheBodyIsWhatContentLengthAndTheEndSay) {
  RequestHead head;
  ASSERT_FALSE(Read(head, Request(), false));
  EXPECT_EQ(head.body, BodyKind::kChunked);
  ASSERT_FALSE(Read(head, Request({{"content-length", "7"}}), false));
  EXPECT_EQ(head.body, BodyKind::kLength);
  EXPECT_EQ(head.content_length, 7U);
  ASSERT_FALSE(Read(head, Request({{"content-length", "0"}}), true));
  EXPECT_EQ(head.body, BodyKind::kLength);
  ASSERT_FALSE(Read(head, Request({{"expect", "100-continue"}}), false));
  EXPECT_TRUE(head.expects_continue);
}

TEST(H2Rules, CookieCrumbsAreOneField) {
  RequestHead head;
  ASSERT_FALSE(
      Read(head, Request({{"cookie", "a=1"}, {"x", "y"}, {"cookie", "b=2"}, {"cookie", ""}})));
  EXPECT_EQ(head.fields.Find("cookie")->value, "a=1; b=2; ");
  EXPECT_EQ(head.fields.size(), 3U);
}

TEST(H2Rules, CrumbsThatStandApartLeaveNoCopiesBehind) {
  Pairs fields = {{"cookie", std::string(200, 'c')}};
  for (int i = 0; i < 90; ++i) {
    fields.emplace_back("x", "y");
    fields.emplace_back("cookie", std::string(100, 'd'));
  }
  RequestHead head;
  const std::size_t before = mallinfo2().uordblks;
  ASSERT_FALSE(Read(head, Request(fields)));
  EXPECT_EQ(head.fields.Find("cookie")->value.size(), 200U + 90 * 102);
  EXPECT_LT(mallinfo2().uordblks - before, 100'000U);
}

TEST(H2Rules, WhatCouldPassForAKnownFieldIsDropped) {
  RequestHead head;
  ASSERT_FALSE(Read(head, Request({{"x_forwarded_for", "1"}, {"content_length", "5"}})));
  EXPECT_EQ(Text(head.fields), "Host=a.example;");
}

TEST(H2Rules, HostStandsForAuthority) {
  RequestHead head;
  const Pairs pseudo = {{":method", "GET"}, {":scheme", "https"}, {":path", "/"}};
  ASSERT_FALSE(Read(head, Request({{"host", "b.example:81"}}, pseudo)));
  EXPECT_EQ(head.authority, "b.example:81");
  ASSERT_FALSE(Read(head, Request({{"host", "A.example"}})));
  EXPECT_EQ(head.authority, "A.example");
}

TEST(H2Rules, OptionsOfTheServer) {
  RequestHead head;
  ASSERT_FALSE(Read(head, Request({}, {{":method", "OPTIONS"},
                                       {":scheme", "https"},
                                       {":path", "*"},
                                       {":authority", "a"}})));
  EXPECT_EQ(head.target, "*");
}

struct Refusal {
  const char* name;
  Pairs fields;
  ErrorKind kind = ErrorKind::kBadRequest;
  bool malformed = true;
  bool ends = true;
};

Pairs Pseudo(std::string method, std::string scheme, std::string path, std::string authority) {
  return {{":method", std::move(method)},
          {":scheme", std::move(scheme)},
          {":path", std::move(path)},
          {":authority", std::move(authority)}};
}

std::string WithNul() {
  return std::string("a\0b", 3);
}

std::vector<Refusal> Refusals() {
  const Pairs connect = {{":method", "CONNECT"},
                         {":scheme", "https"},
                         {":path", "/"},
                         {":protocol", "websocket"},
                         {":authority", "a"}};
  return {
      // RFC 9113 section 8.2.1.
      {"upper case in a name", Request({{"Accept", "x"}})},
      {"one upper case letter", Request({{"acCept", "x"}})},
      {"empty name", Request({{"", "x"}})},
      {"space in a name", Request({{"a b", "x"}})},
      {"colon in a name", Request({{"a:b", "x"}})},
      {"control octet in a name", Request({{"a\x01", "x"}})},
      {"DEL in a name", Request({{"a\x7f", "x"}})},
      {"octet beyond ASCII in a name", Request({{"a\xc3", "x"}})},
      {"line feed in a name", Request({{"a\nb", "x"}})},
      {"carriage return in a value", Request({{"a", "b\rc"}})},
      {"line feed in a value", Request({{"a", "b\nc"}})},
      {"NUL in a value", Request({{"a", WithNul()}})},
      {"control octet in a value", Request({{"a", "b\x02"}})},
      {"DEL in a value", Request({{"a", "b\x7f"}})},
      {"space before a value", Request({{"a", " b"}})},
      {"space after a value", Request({{"a", "b "}})},
      {"tab before a value", Request({{"a", "\tb"}})},
      {"tab after a value", Request({{"a", "b\t"}})},
      {"a value of spaces", Request({{"a", "  "}})},
      // Section 8.2.2.
      {"connection", Request({{"connection", "close"}})},
      {"keep-alive", Request({{"keep-alive", "1"}})},
      {"proxy-connection", Request({{"proxy-connection", "close"}})},
      {"transfer-encoding", Request({{"transfer-encoding", "chunked"}}), ErrorKind::kBadRequest,
       true, false},
      {"upgrade", Request({{"upgrade", "websocket"}})},
      {"te", Request({{"te", "gzip"}})},
      {"te with trailers among others", Request({{"te", "trailers, gzip"}})},
      // Section 8.3.
      {"pseudo-header after a field", Request({{"a", "b"}, {":path", "/"}}, {{":method", "GET"}})},
      {"unknown pseudo-header", Request({}, {{":status", "200"}})},
      {":method twice", Request({}, {{":method", "GET"}, {":method", "GET"}})},
      {":path twice", Request({}, {{":path", "/"}, {":path", "/"}})},
      {":scheme twice", Request({}, {{":scheme", "http"}, {":scheme", "http"}})},
      {":authority twice", Request({}, {{":authority", "a"}, {":authority", "a"}})},
      {"no :method", Request({}, {{":scheme", "https"}, {":path", "/"}})},
      {"empty :method", Request({}, Pseudo("", "https", "/", "a"))},
      {"a space in :method", Request({}, Pseudo("GE T", "https", "/", "a"))},
      {"an octet beyond ASCII in :method", Request({}, Pseudo("G\xe4T", "https", "/", "a"))},
      {"no :scheme", Request({}, {{":method", "GET"}, {":path", "/"}, {":authority", "a"}})},
      {"no :path", Request({}, {{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}})},
      {"nothing at all", {}},
      {"empty :path", Request({}, Pseudo("GET", "https", "", "a"))},
      {":path that is a URL", Request({}, Pseudo("GET", "https", "http://b/", "a"))},
      {":path without a slash", Request({}, Pseudo("GET", "https", "a", "a"))},
      {"* of a GET", Request({}, Pseudo("GET", "https", "*", "a"))},
      {"line feed in :path", Request({}, Pseudo("GET", "https", "/a\nb", "a"))},
      {"NUL in :path", Request({}, Pseudo("GET", "https", "/" + WithNul(), "a"))},
      {"carriage return in :authority", Request({}, Pseudo("GET", "https", "/", "a\rb"))},
      {"user information", Request({}, Pseudo("GET", "https", "/", "u@a"))},
      {"another host", Request({{"host", "b.example"}})},
      {"one of two hosts is another", Request({{"host", "a.example"}, {"host", "b.example"}})},
      {":protocol of a GET", Request({}, {{":method", "GET"},
                                          {":scheme", "https"},
                                          {":path", "/"},
                                          {":protocol", "websocket"},
                                          {":authority", "a"}})},
      // Section 8.1.1.
      {"content-length without a body", Request({{"content-length", "1"}})},
      {"content-length that is no number", Request({{"content-length", "1x"}})},
      {"content-length with a sign", Request({{"content-length", "+1"}}), ErrorKind::kBadRequest,
       true, false},
      {"content-length twice", Request({{"content-length", "0"}, {"content-length", "0"}})},
      {"content-length as a list", Request({{"content-length", "0, 0"}})},
      {"content-length too large", Request({{"content-length", "99999999999999999999"}}),
       ErrorKind::kBadRequest, true, false},
      // Section 8.5 and RFC 8441.
      {"CONNECT with :path",
       Request({}, {{":method", "CONNECT"}, {":path", "/"}, {":authority", "a"}})},
      {"CONNECT without :authority", Request({}, {{":method", "CONNECT"}})},
      {"extended CONNECT without :path",
       Request({}, {{":method", "CONNECT"}, {":protocol", "websocket"}, {":authority", "a"}})},
      {"extended CONNECT with a length", Request({{"content-length", "3"}}, connect),
       ErrorKind::kBadRequest, true, false},
      // What has a status.
      {"CONNECT", Request({}, {{":method", "CONNECT"}, {":authority", "a:1"}}),
       ErrorKind::kMethodNotAllowed, false},
      {"extended CONNECT to something else",
       Request({}, {{":method", "CONNECT"},
                    {":scheme", "https"},
                    {":path", "/"},
                    {":protocol", "connect-udp"},
                    {":authority", "a"}}),
       ErrorKind::kMethodNotImplemented, false, false},
      {"unknown method", Request({}, Pseudo("BREW", "https", "/", "a")),
       ErrorKind::kMethodNotImplemented, false},
      {"method in lower case", Request({}, Pseudo("get", "https", "/", "a")),
       ErrorKind::kMethodNotImplemented, false},
      {"another scheme", Request({}, Pseudo("GET", "ftp", "/", "a")), ErrorKind::kBadTarget, false},
      {"space in :path", Request({}, Pseudo("GET", "https", "/a b", "a")), ErrorKind::kBadTarget,
       false},
      {"fragment in :path", Request({}, Pseudo("GET", "https", "/a#b", "a")), ErrorKind::kBadTarget,
       false},
      {"bad port", Request({}, Pseudo("GET", "https", "/", "a:x")), ErrorKind::kBadHost, false},
      {"empty :authority", Request({}, Pseudo("GET", "https", "/", "")), ErrorKind::kBadHost,
       false},
      {"neither :authority nor host",
       Request({}, {{":method", "GET"}, {":scheme", "https"}, {":path", "/"}}), ErrorKind::kBadHost,
       false},
      {"an expectation", Request({{"expect", "cake"}}), ErrorKind::kExpectationFailed, false},
  };
}

TEST(H2Rules, WhatNoRequestMayBeIsRefused) {
  EXPECT_GE(Refusals().size(), 60U);
  RequestHead head;
  for (const Refusal& refusal : Refusals()) {
    SCOPED_TRACE(refusal.name);
    auto fault = Read(head, refusal.fields, refusal.ends);
    ASSERT_TRUE(fault);
    EXPECT_EQ(RowOf(fault->kind).log_name, RowOf(refusal.kind).log_name) << fault->detail;
    EXPECT_EQ(fault->malformed, refusal.malformed) << fault->detail;
    EXPECT_FALSE(fault->detail.empty());
  }
}

TEST(H2Rules, AHeadHasItsLimits) {
  RequestHead head;
  DecoderLimits limits{.max_head_bytes = 400, .max_fields = 3, .max_url_bytes = 10};
  EXPECT_FALSE(Read(head, Request({{"a", "1"}, {"b", "2"}}), true, limits));
  auto fault = Read(head, Request({{"a", "1"}, {"b", "2"}, {"c", "3"}, {"d", "4"}}), true, limits);
  EXPECT_EQ(fault->kind, ErrorKind::kTooManyFields);
  fault = Read(head, Request({{"a", std::string(300, 'x')}}), true, limits);
  EXPECT_EQ(fault->kind, ErrorKind::kHeadTooLarge);
  EXPECT_FALSE(fault->malformed);
  EXPECT_EQ(head.target, "/a?b") << "the log wants to know";
  fault = Read(head, Request({}, Pseudo("GET", "https", "/0123456789", "a")), true, limits);
  EXPECT_EQ(fault->kind, ErrorKind::kUrlTooLong);
}

TEST(H2Rules, TheSizeOfAListCountsWhatEachFieldCosts) {
  RequestHead head;
  H2HeadReader reader;
  reader.BeginRequest(head, DecoderLimits{.max_head_bytes = 50});
  reader.Add("ab", "c");
  EXPECT_EQ(reader.list_octets(), 35U);
  reader.Add("d", "");
  EXPECT_EQ(reader.list_octets(), 68U) << "also what is not kept";
}

TEST(H2Rules, AWebSocketBecomesAGetThatAsksForTheUpgrade) {
  RequestHead head;
  H2HeadReader reader;
  reader.BeginRequest(head, {});
  for (const auto& [name, value] : Pairs{{":method", "CONNECT"},
                                         {":protocol", "WebSocket"},
                                         {":scheme", "https"},
                                         {":path", "/chat"},
                                         {":authority", "a"},
                                         {"sec-websocket-version", "13"},
                                         {"sec-websocket-key", "mine"}}) {
    reader.Add(name, value);
  }
  ASSERT_FALSE(reader.End(false));
  EXPECT_TRUE(reader.asks_for_websocket());
  EXPECT_EQ(head.method_name, "GET");
  EXPECT_EQ(head.body, BodyKind::kNone);
  EXPECT_EQ(Text(head.fields), "sec-websocket-version=13;Host=a;");
}

TEST(H2Rules, TrailersAreKeptApart) {
  RequestHead head;
  ASSERT_FALSE(Read(head, Request(), false));
  H2HeadReader reader;
  reader.BeginTrailers(head, {});
  reader.Add("grpc-status", "0");
  reader.Add("content-length", "5");
  reader.Add("host", "b");
  EXPECT_FALSE(reader.End(true));
  EXPECT_EQ(Text(head.trailers), "grpc-status=0;");
  EXPECT_EQ(Text(head.fields), "Host=a.example;");
  const std::vector<std::pair<Pairs, bool>> refused = {
      {{{"a", "b"}}, false},         {{{":path", "/"}}, true}, {{{"A", "b"}}, true},
      {{{"connection", "x"}}, true}, {{{"a", "b\n"}}, true},
  };
  for (const auto& [fields, ends] : refused) {
    reader.BeginTrailers(head, {});
    for (const auto& [name, value] : fields) {
      reader.Add(name, value);
    }
    auto fault = reader.End(ends);
    ASSERT_TRUE(fault) << fields[0].first;
    EXPECT_TRUE(fault->malformed);
  }
}

std::string Text(const std::vector<H2Field>& fields) {
  std::string text;
  for (const H2Field& field : fields) {
    text += std::string(field.name) + "=" + std::string(field.value) + ";";
  }
  return text;
}

TEST(H2Rules, AResponseIsWrittenInTheWordsOfHttp2) {
  ResponseHead head;
  head.status = 200;
  head.reason = "OK";
  head.body = BodyKind::kLength;
  head.content_length = 12;
  head.fields.Add("Content-Type", "text/plain");
  head.fields.Add("Connection", "close");
  head.fields.Add("Keep-Alive", "1");
  head.fields.Add("Transfer-Encoding", "chunked");
  head.fields.Add("Upgrade", "x");
  head.fields.Add("Proxy-Connection", "x");
  head.fields.Add("Content-Length", "99");
  head.fields.Add("set-cookie", "A=B");
  std::vector<H2Field> fields;
  EncodeH2Response(head, 200, head.arena, fields);
  EXPECT_EQ(Text(fields), ":status=200;content-type=text/plain;set-cookie=A=B;content-length=12;");
}

TEST(H2Rules, TheLengthIsSaidWhereItMayBe) {
  struct Row {
    int status;
    BodyKind body;
    const char* text;
  };
  for (const Row& row :
       {Row{200, BodyKind::kNone, ":status=200;content-length=0;"},
        Row{200, BodyKind::kChunked, ":status=200;"},
        Row{200, BodyKind::kUntilClose, ":status=200;"}, Row{204, BodyKind::kNone, ":status=204;"},
        Row{304, BodyKind::kNone, ":status=304;"},
        Row{304, BodyKind::kLength, ":status=304;content-length=7;"},
        Row{103, BodyKind::kNone, ":status=103;"}}) {
    ResponseHead head;
    head.status = row.status;
    head.body = row.body;
    head.content_length = 7;
    std::vector<H2Field> fields;
    EncodeH2Response(head, head.status, head.arena, fields);
    EXPECT_EQ(Text(fields), row.text);
  }
}

TEST(H2Rules, TrailersOfAResponseAreThoseThatMayBe) {
  ResponseHead head;
  head.trailers.Add("Grpc-Status", "0");
  head.trailers.Add("Content-Length", "9");
  head.trailers.Add(":status", "200");
  std::vector<H2Field> fields;
  EncodeH2Trailers(head.trailers, head.arena, fields);
  EXPECT_EQ(Text(fields), "grpc-status=0;");
}

}  // namespace
}  // namespace tidegate
