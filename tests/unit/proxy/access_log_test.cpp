#include "proxy/access_log.h"

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace tidegate {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

std::string Line(const AccessRecord& record, const AccessLogConfig& config = {}) {
  AccessFormatter formatter(config);
  std::string line = "before ";
  formatter.Format(record, line);
  EXPECT_TRUE(line.starts_with("before {"));
  EXPECT_TRUE(line.ends_with("}\n"));
  return line.substr(7);
}

ClientInfo Client() {
  ClientInfo client;
  client.peer = "192.0.2.1:5123";
  client.ip = "192.0.2.1";
  client.listener = "web";
  return client;
}

TEST(AccessLogTest, WritesAGoodExchange) {
  ClientInfo client = Client();
  AccessRecord record;
  record.timestamp = milliseconds(1795246800123);
  record.id = "0123456789abcdef";
  record.client = &client;
  record.client_ip = "198.51.100.7";
  record.method = "GET";
  record.host = "example.org:8080";
  record.target = "/a/b?c=d";
  record.protocol = "HTTP/1.1";
  record.status = 200;
  record.bytes_out = 12;
  record.route = "site";
  record.upstream = "app";
  record.endpoint = "10.0.0.7:9000";
  record.upstream_status = 200;
  record.attempts = 1;
  record.reused = true;
  record.time_total = milliseconds(12);
  record.time_queue = milliseconds(0);
  record.time_first_byte = std::chrono::microseconds(1500250);
  record.generation = 7;
  EXPECT_EQ(Line(record),
            "{\"ts\":\"2026-11-21T07:40:00.123Z\",\"id\":\"0123456789abcdef\","
            "\"client_ip\":\"198.51.100.7\",\"peer\":\"192.0.2.1:5123\",\"listener\":\"web\","
            "\"proto\":\"HTTP/1.1\",\"method\":\"GET\",\"host\":\"example.org:8080\","
            "\"path\":\"/a/b?c=d\",\"status\":200,\"bytes_in\":0,\"bytes_out\":12,"
            "\"route\":\"site\",\"upstream\":\"app\",\"endpoint\":\"10.0.0.7:9000\","
            "\"upstream_status\":200,\"attempts\":1,\"reused\":true,\"time_total\":0.012,"
            "\"time_queue\":0.000,\"time_first_byte\":1.500250,\"generation\":7}\n");
}

TEST(AccessLogTest, SaysWhyAndWhoseFault) {
  AccessRecord record;
  Error refused =
      Error::System(ECONNREFUSED, "connect 10.0.0.7:9000").As(ErrorKind::kUpstreamRefused);
  record.error = &refused;
  record.status = 502;
  json line = json::parse(Line(record));
  EXPECT_EQ(line["reason"], "upstream_refused");
  EXPECT_EQ(line["detail"], "connect 10.0.0.7:9000: Connection refused");
  EXPECT_EQ(line["who"], "upstream");

  Error closed(ErrorKind::kClientClosed);
  record.error = &closed;
  line = json::parse(Line(record));
  EXPECT_EQ(line["reason"], "client_closed");
  EXPECT_EQ(line["who"], "client");
  EXPECT_FALSE(line.contains("detail"));
}

TEST(AccessLogTest, LeavesOutWhatCannotBeTold) {
  json line = json::parse(Line(AccessRecord{}));
  EXPECT_EQ(line, json::parse("{\"ts\":\"1970-01-01T00:00:00.000Z\",\"bytes_in\":0,"
                              "\"bytes_out\":0,\"generation\":0}"));
}

TEST(AccessLogTest, TakesThePeerForTheClientUnlessTold) {
  ClientInfo client = Client();
  AccessRecord record;
  record.client = &client;
  EXPECT_EQ(json::parse(Line(record))["client_ip"], "192.0.2.1");
}

TEST(AccessLogTest, EscapesWhatCouldHarmAReader) {
  struct Case {
    std::string_view text;
    std::string_view escaped;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"", "\"\""},
           {"plain text of more than eight octets", "\"plain text of more than eight octets\""},
           {"a\"b\\c", "\"a\\\"b\\\\c\""},
           {"\x01\n\r\t\x1b[31m\x7f", "\"\\u0001\\u000a\\u000d\\u0009\\u001b[31m\\u007f\""},
           {std::string_view("a\0b", 3), "\"a\\u0000b\""},
           {"sch\xc3\xb6n \xe2\x82\xac \xf0\x9f\x98\x80",
            "\"sch\xc3\xb6n \xe2\x82\xac \xf0\x9f\x98\x80\""},
           {"\xff\xfe", "\"\\\\xff\\\\xfe\""},
           {"\xc3", "\"\\\\xc3\""},
           {"\xc3(", "\"\\\\xc3(\""},
           {"\xed\xa0\x80", "\"\\\\xed\\\\xa0\\\\x80\""},
           {"\xc2\x9b", "\"\\u009b\""},
           {"\xc2\xa0", "\"\xc2\xa0\""},
       }) {
    std::string out;
    AppendJsonString(c.text, out);
    EXPECT_EQ(out, c.escaped);
    EXPECT_TRUE(json::accept(out));
  }
}

TEST(AccessLogTest, EscapesEveryOctetAtEveryPlace) {
  for (int octet = 0; octet < 256; ++octet) {
    for (std::size_t place = 0; place < 20; ++place) {
      std::string text(20, 'x');
      text[place] = static_cast<char>(octet);
      std::string out;
      AppendJsonString(text, out);
      json parsed = json::parse(out);
      for (char c : out) {
        auto value = static_cast<unsigned char>(c);
        EXPECT_TRUE(value >= 0x20 && value < 0x7f);
      }
      if (octet < 0x80) {
        EXPECT_EQ(parsed.get<std::string>(), text);
      }
    }
  }
}

TEST(AccessLogTest, HasRoomForTheLongestLine) {
  std::string hostile(1000, '\x01');
  ClientInfo client;
  client.peer = hostile;
  client.listener = hostile;
  AccessRecord record;
  record.timestamp = milliseconds(253402300799999);
  record.id = record.client_ip = record.method = record.host = record.target = hostile;
  record.protocol = record.route = record.upstream = record.endpoint = hostile;
  record.client = &client;
  record.status = std::numeric_limits<int>::min();
  record.upstream_status = std::numeric_limits<int>::min();
  record.bytes_in = record.bytes_out = std::numeric_limits<std::uint64_t>::max();
  record.attempts = record.generation = std::numeric_limits<std::uint64_t>::max();
  record.time_total = record.time_queue = record.time_connect = record.time_first_byte =
      AccessRecord::Time::max();
  AccessLogConfig config;
  config.request_headers = {hostile, "b"};
  record.request_headers = {hostile, hostile};
  for (std::size_t kind = 0; kind < ErrorCount(); ++kind) {
    Error error(static_cast<ErrorKind>(kind), hostile);
    record.error = &error;
    EXPECT_TRUE(json::accept(Line(record, config)));
  }
}

TEST(AccessLogTest, LogsTheConfiguredHeadersAsReceived) {
  AccessLogConfig config;
  config.request_headers = {"User-Agent",    "Referer", "X-Empty",    "X-Many",
                            "authorization", "COOKIE",  "Set-Cookie", "Proxy-Authorization"};
  AccessFormatter formatter(config);
  RequestHead head;
  head.fields.Add("user-agent", "curl/8 \"x\"");
  head.fields.Add("X-Empty", "");
  head.fields.Add("X-Many", "1");
  head.fields.Add("Cookie", "secret");
  head.fields.Add("Authorization", "secret");
  head.fields.Add("x-many", "2");
  head.fields.Add("X-MANY", "3");
  AccessRecord record;
  formatter.CaptureHeaders(head, record);
  head.fields.Clear();
  std::string line;
  formatter.Format(record, line);
  EXPECT_EQ(json::parse(line)["request_headers"],
            (json{{"User-Agent", "curl/8 \"x\""}, {"X-Empty", ""}, {"X-Many", "1, 2, 3"}}));
  EXPECT_EQ(line.find("secret"), std::string::npos);
}

TEST(AccessLogTest, RedactsQueryParameters) {
  std::vector<std::string> names = {"token", "Key"};
  struct Case {
    std::string_view target;
    std::string_view redacted;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"/a", "/a"},
           {"/a?", "/a?"},
           {"/token=x", "/token=x"},
           {"/a?token=x", "/a?token=***"},
           {"/a?b=1&token=x&c=2", "/a?b=1&token=***&c=2"},
           {"/a?TOKEN=x;key=y", "/a?TOKEN=***;key=***"},
           {"/a?tok%65n=x", "/a?tok%65n=***"},
           {"/a?token=x=y&token=z", "/a?token=***&token=***"},
           {"/a?token", "/a?token"},
           {"/a?token=", "/a?token=***"},
           {"/a?xtoken=1&&tokens=2&", "/a?xtoken=1&&tokens=2&"},
           {"/a?b=%zz&%t=1", "/a?b=%zz&%t=1"},
           {"/a?b?token=x", "/a?b?token=x"},
       }) {
    EXPECT_EQ(RedactQuery(c.target, names), c.redacted) << c.target;
  }
  AccessLogConfig config;
  config.redact_query = names;
  AccessRecord record;
  record.target = "/a?token=secret";
  EXPECT_EQ(json::parse(Line(record, config))["path"], "/a?token=***");
}

TEST(AccessLogTest, KeepsTheSecondApartFromTheMilliseconds) {
  AccessFormatter formatter(AccessLogConfig{});
  AccessRecord record;
  for (long long time : {999LL, 1000LL, 1001LL, 61005LL}) {
    record.timestamp = milliseconds(time);
    std::string line;
    formatter.Format(record, line);
    char expected[32];
    std::snprintf(expected, sizeof(expected), "1970-01-01T00:%02lld:%02lld.%03lldZ", time / 60000,
                  time / 1000 % 60, time % 1000);
    EXPECT_EQ(json::parse(line)["ts"], expected);
  }
}

}  // namespace
}  // namespace tidegate
