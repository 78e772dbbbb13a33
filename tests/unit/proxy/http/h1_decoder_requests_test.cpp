// Which requests are taken and which refused, and with which error. Every input is read whole,
// octet by octet and cut at every place.

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/h1_every_way.h"

namespace tidegate {
namespace {

using h1_transcript::Requests;
using h1_transcript::Transcript;

// `\0` may stand in a case.
template <std::size_t Size>
std::string Octets(const char (&text)[Size]) {
  return std::string(text, Size - 1);
}

struct Refused {
  std::string line_or_fields;
  const char* error;
  const char* detail;
};

void ExpectRefused(const std::string& input, const Refused& expected) {
  const Transcript transcript = Requests(input);
  EXPECT_EQ(transcript.error, expected.error) << input;
  EXPECT_EQ(transcript.error_detail, expected.detail) << input;
  EXPECT_EQ(transcript.complete, "") << input;
}

TEST(RequestLine, IsTaken) {
  struct Case {
    const char* line;
    const char* seen;
  };
  for (const Case& c : std::vector<Case>{
           {"GET / HTTP/1.1", "GET / host=h 1.1 keep body=none\n"},
           {"GET /a%2Fb//c;d=e?f=/?&? HTTP/1.1",
            "GET /a%2Fb//c;d=e?f=/?&? host=h 1.1 keep body=none\n"},
           {"GET /? HTTP/1.1", "GET /? host=h 1.1 keep body=none\n"},
           {"GET //x HTTP/1.1", "GET //x host=h 1.1 keep body=none\n"},
           {"GET /|\"<>\\^`{}[] HTTP/1.1", "GET /|\"<>\\^`{}[] host=h 1.1 keep body=none\n"},
           {"GET /../%00 HTTP/1.1", "GET /../%00 host=h 1.1 keep body=none\n"},
           {"OPTIONS * HTTP/1.1", "OPTIONS * host=h 1.1 keep body=none\n"},
           {"OPTIONS / HTTP/1.1", "OPTIONS / host=h 1.1 keep body=none\n"},
           {"PROPFIND / HTTP/1.1", "PROPFIND / host=h 1.1 keep body=none\n"},
           {"M-SEARCH / HTTP/1.1", "M-SEARCH / host=h 1.1 keep body=none\n"},
           {"UNSUBSCRIBE / HTTP/1.1", "UNSUBSCRIBE / host=h 1.1 keep body=none\n"},
           {"QUERY / HTTP/1.1", "QUERY / host=h 1.1 keep body=none\n"},
           {"GET / HTTP/1.0", "GET / host=h 1.0 close body=none\n"},
       }) {
    const Transcript transcript = Requests(std::string(c.line) + "\r\nHost: h\r\n\r\n");
    EXPECT_EQ(transcript.complete, std::string(c.seen) + "  Host: h\n[]\n") << c.line;
    EXPECT_EQ(transcript.finish, "client_closed (not started)");
  }
}

TEST(RequestLine, OfAnAbsoluteTargetIsTaken) {
  struct Case {
    const char* line;
    const char* seen;
    const char* host;
  };
  for (const Case& c : std::vector<Case>{
           {"GET http://b/x?y HTTP/1.1", "GET /x?y host=b 1.1", "b"},
           {"GET HTTP://B.example:81/ HTTP/1.1", "GET / host=B.example:81 1.1", "B.example:81"},
           {"GET https://b/ HTTP/1.1", "GET / host=b 1.1", "b"},
           {"GET http://b HTTP/1.1", "GET / host=b 1.1", "b"},
           {"GET http://b?x HTTP/1.1", "GET /?x host=b 1.1", "b"},
           {"OPTIONS http://b HTTP/1.1", "OPTIONS * host=b 1.1", "b"},
           {"OPTIONS http://b/ HTTP/1.1", "OPTIONS / host=b 1.1", "b"},
           {"GET http://[::1]:80/ HTTP/1.1", "GET / host=[::1]:80 1.1", "[::1]:80"},
           {"GET http://127.0.0.1/a:b@c HTTP/1.1", "GET /a:b@c host=127.0.0.1 1.1", "127.0.0.1"},
       }) {
    const Transcript transcript = Requests(std::string(c.line) + "\r\nA: b\r\nHost: h\r\n\r\n");
    EXPECT_EQ(transcript.complete,
              std::string(c.seen) + " keep body=none\n  A: b\n  Host: " + c.host + "\n[]\n")
        << c.line;
  }
  // Without a Host field, which HTTP/1.0 allows, there is one afterwards.
  EXPECT_EQ(Requests("GET http://b/ HTTP/1.0\r\n\r\n").complete,
            "GET / host=b 1.0 close body=none\n  Host: b\n[]\n");
}

TEST(RequestLine, IsRefused) {
  constexpr const char* kNoMethod = "request line does not begin with a method";
  constexpr const char* kNotValid = "request target is not valid";
  constexpr const char* kApart = "carriage return and line feed apart";
  constexpr const char* kVersion = "HTTP version other than 1.0 and 1.1";
  constexpr const char* kNoVersion = "start line without HTTP/1.0 or HTTP/1.1";
  for (const Refused& c : std::vector<Refused>{
           // Method.
           {"FOO / HTTP/1.1\r\n", "method_not_implemented", "unknown method"},
           {"get / HTTP/1.1\r\n", "method_not_implemented", "unknown method"},
           {"GETX / HTTP/1.1\r\n", "method_not_implemented", "unknown method"},
           {"GE / HTTP/1.1\r\n", "method_not_implemented", "unknown method"},
           {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "method_not_implemented", "unknown method"},
           {"SOURCE / ICE/1.0\r\n", "method_not_implemented", "unknown method"},
           {"DESCRIBE rtsp://a RTSP/1.0\r\n", "method_not_implemented", "unknown method"},
           {"A-METHOD-THAT-IS-LONGER-THAN-ANY-KNOWN / HTTP/1.1\r\n", "method_not_implemented",
            "unknown method"},
           {"A-METHOD-THAT-IS-LONGER-THAN-ANY;KNOWN / HTTP/1.1\r\n", "method_not_implemented",
            "unknown method"},
           {"A-METHOD-THAT-IS-LONGER-THAN-AN;KNOWN / HTTP/1.1\r\n", "bad_request", kNoMethod},
           {"CONNECT a:443 HTTP/1.1\r\n", "method_not_allowed", "CONNECT"},
           {"F@O / HTTP/1.1\r\n", "bad_request", kNoMethod},
           {" GET / HTTP/1.1\r\n", "bad_request", kNoMethod},
           {"GET\t/ HTTP/1.1\r\n", "bad_request", kNoMethod},
           {"GET\r\n", "bad_request", kNoMethod},
           {"\x16\x03\x01\x02", "bad_request", kNoMethod},
           {Octets("G\0T / HTTP/1.1\r\n"), "bad_request", kNoMethod},
           // White space and empty lines.
           {"GET  / HTTP/1.1\r\n", "bad_request", "more than one space after the method"},
           {"GET  /\x80 HTTP/1.1\r\n", "bad_request", "more than one space after the method"},
           {"GET /  HTTP/1.1\r\n", "bad_request", "more than one space before the version"},
           {"GET / RTSP/1.0\r\n", "bad_request", "a protocol other than HTTP"},
           {"GET /\tHTTP/1.1\r\n", "bad_target", kNotValid},
           {"\nGET / HTTP/1.1\r\n", "bad_request", kApart},
           {"\rGET / HTTP/1.1\r\n", "bad_request", kApart},
           {"\r\n\nGET / HTTP/1.1\r\n", "bad_request", kApart},
           {"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n", "bad_request",
            "too many empty lines before the request line"},
           // Target.
           {"GET * HTTP/1.1\r\n", "bad_target",
            "request target * with a method other than OPTIONS"},
           {"OPTIONS *x HTTP/1.1\r\n", "bad_target", "request target is neither a path nor a URL"},
           {"GET /#f HTTP/1.1\r\n", "bad_target",
            "request target has an octet that is not allowed"},
           {"GET /\x80 HTTP/1.1\r\n", "bad_target", kNotValid},
           {"GET /?\xc3\xa9 HTTP/1.1\r\n", "bad_target", kNotValid},
           {"GET /\x01 HTTP/1.1\r\n", "bad_target", kNotValid},
           {"GET /\x7f HTTP/1.1\r\n", "bad_target", kNotValid},
           {Octets("GET /\0 HTTP/1.1\r\n"), "bad_target", kNotValid},
           {"GET x HTTP/1.1\r\n", "bad_target", kNotValid},
           {"GET ?x HTTP/1.1\r\n", "bad_target", kNotValid},
           {"GET b:80 HTTP/1.1\r\n", "bad_target", kNotValid},
           {"GET http:/x HTTP/1.1\r\n", "bad_target", kNotValid},
           {"GET ftp://b/ HTTP/1.1\r\n", "bad_target",
            "request target has a scheme other than http and https"},
           {"GET http://u@b/ HTTP/1.1\r\n", "bad_target", "request target has user information"},
           {"GET http://u:p@b/ HTTP/1.1\r\n", "bad_target", "request target has user information"},
           {"GET http:///x HTTP/1.1\r\n", "bad_target",
            "request target has an invalid host or port"},
           {"GET http://b:80:80/ HTTP/1.1\r\n", "bad_target",
            "request target has an invalid host or port"},
           {"GET http://b:x/ HTTP/1.1\r\n", "bad_target",
            "request target has an invalid host or port"},
           // Version.
           {"GET /\r\n", "bad_request", "request line without a version"},
           {"GET / \r\n", "bad_request", kNoVersion},
           {"GET / HTTP/0.9\r\n", "version_not_supported", kVersion},
           {"GET / HTTP/1.2\r\n", "version_not_supported", kVersion},
           {"GET / HTTP/2.0\r\n", "version_not_supported", kVersion},
           {"GET / HTTP/3.0\r\n", "version_not_supported", kVersion},
           {"GET / HTTP/1.10\r\n", "bad_request", "version is malformed"},
           {"GET / HTTP/11\r\n", "bad_request", "version is malformed"},
           {"GET / HTTP/x.1\r\n", "bad_request", "version is malformed"},
           {"GET / HTTP/1.x\r\n", "bad_request", "version is malformed"},
           {"GET / HTTP/1.1\n1", "bad_request", "version is malformed"},
           {"GET / HTTP/1\r\n", "bad_request", "version is malformed"},
           {"GET / HTTP/1.1 \r\n", "bad_request", "version is malformed"},
           {"GET / HTTP/1.1\n", "bad_request", "version is malformed"},
           {"GET / HTTP/1.1\rHost: h\r\n", "bad_request", "line does not end as it must"},
           {"GET / http/1.1\r\n", "bad_request", kNoVersion},
           {"GET / HTP/1.1\r\n", "bad_request", kNoVersion},
           {"GET / x HTTP/1.1\r\n", "bad_request", kNoVersion},
       }) {
    ExpectRefused(c.line_or_fields + "Host: h\r\n\r\n", c);
  }
}

TEST(RequestLine, WithoutVersionIsRefusedBeforeTheHeadEnds) {
  EXPECT_EQ(Requests("GET /\r\nA").error, "bad_request");
}

TEST(RequestLine, EmptyLinesBeforeItAreSkipped) {
  for (const char* lines : {"\r\n", "\r\n\r\n\r\n\r\n"}) {
    const Transcript transcript =
        Requests(std::string(lines) + "GET / HTTP/1.1\r\nHost: h\r\n\r\n" + lines);
    EXPECT_EQ(transcript.complete, "GET / host=h 1.1 keep body=none\n  Host: h\n[]\n");
    EXPECT_EQ(transcript.finish, "client_closed (not started)");
  }
}

TEST(RequestFields, AreTaken) {
  struct Case {
    const char* fields;
    const char* seen;
  };
  for (const Case& c : std::vector<Case>{
           {"a:b\r\n", "  a: b\n"},
           {"a: \t b c \t \r\n", "  a: b c\n"},
           {"a:\r\nb: \r\nc: \t \r\n", "  a: \n  b: \n  c: \n"},
           {"a: \xc3\xa9\x80\r\n", "  a: \xc3\xa9\x80\n"},
           {"!#$%&'*+-.^_`|~09: x\r\n", "  !#$%&'*+-.^_`|~09: x\n"},
           {"A: 1\r\na: 2\r\nA: 1\r\n", "  A: 1\n  a: 2\n  A: 1\n"},
           {"Cookie: a=\"b\"; c\r\n", "  Cookie: a=\"b\"; c\n"},
           // Origins behind CGI read these as ours.
           {"X_Forwarded_For: 1\r\na_b: 2\r\ncontent_length: 3\r\n", "  a_b: 2\n"},
       }) {
    EXPECT_EQ(Requests(std::string("GET / HTTP/1.1\r\nHost: h\r\n") + c.fields + "\r\n").complete,
              std::string("GET / host=h 1.1 keep body=none\n  Host: h\n") + c.seen + "[]\n");
  }
}

TEST(RequestFields, AreRefused) {
  constexpr const char* kSpace = "field name has a space before the colon";
  constexpr const char* kName = "field name has an octet that is not allowed";
  constexpr const char* kValue = "field value has an octet that is not allowed";
  constexpr const char* kNoReturn = "line feed without carriage return";
  for (const Refused& c : std::vector<Refused>{
           {"a : b\r\n", "bad_request", kSpace},
           {"a\t: b\r\n", "bad_request", kSpace},
           {"a b: c\r\n", "bad_request", kSpace},
           {" a: b\r\n", "bad_request", "field value is folded over several lines"},
           {"\ta: b\r\n", "bad_request", "field value is folded over several lines"},
           {": b\r\n", "bad_request", "field name is empty"},
           {"a\r\n", "bad_request", "field line without a colon"},
           {"a@: b\r\n", "bad_request", kName},
           {"a\x80: b\r\n", "bad_request", kName},
           {"(: b\r\n", "bad_request", kName},
           {Octets("a\0: b\r\n"), "bad_request", kName},
           {Octets("a: b\0c\r\n"), "bad_request", kValue},
           {"a: b\x01\r\n", "bad_request", kValue},
           {"a: b\x7f\r\n", "bad_request", kValue},
           {"a: b\rc\r\n", "bad_request", "line does not end as it must"},
           {"a: b\nc: d\r\n", "bad_request", kNoReturn},
           {"a: b\n", "bad_request", kNoReturn},
           {"a:\n", "bad_request", kValue},
           {"a: b\r\n\n", "bad_request", "field line without a colon"},
           {"a: b\r\n\rx", "bad_request", "line does not end as it must"},
       }) {
    ExpectRefused("GET / HTTP/1.1\r\nHost: h\r\n" + c.line_or_fields + "\r\n", c);
  }
  ExpectRefused("GET / HTTP/1.1\r\n Host: h\r\n\r\n",
                {"", "bad_request", "white space before the first field"});
}

// llhttp reads some fields itself, each with its own states: none may let through what others
// refuse.
TEST(RequestFields, NoValueMayHaveAControlOctet) {
  for (const char* field :
       {"Connection: close", "Connection: keep-alive", "Connection: upgrade", "Connection: x",
        "Content-Length: 1", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Upgrade: x",
        "Proxy-Connection: close", "Host: x", "A: "}) {
    for (int octet = 0; octet < 256; ++octet) {
      if ((octet >= 0x20 && octet != 0x7f) || octet == '\t') {
        continue;
      }
      for (const char* rest : {"", "x", ",x", " "}) {
        const std::string input = std::string("POST / HTTP/1.1\r\n") + field +
                                  static_cast<char>(octet) + rest + "\r\n\r\n";
        const Transcript transcript = h1_transcript::ReadRequests(input);
        EXPECT_FALSE(transcript.error.empty()) << field << " with octet " << octet << rest;
      }
    }
  }
}

TEST(RequestHost, IsTaken) {
  for (const std::string host :
       {"h", "h:80", "h:", "h:0", "h:65535", "127.0.0.1", "[::1]", "[::1]:80", "[::ffff:1.2.3.4]",
        "a-b_c.d~!$&'()*+,;=e", "%41%c3%A9", "xn--bcher-kva.example."}) {
    EXPECT_EQ(Requests("GET / HTTP/1.1\r\nhOsT:" + host + "\r\n\r\n").complete,
              "GET / host=" + host + " 1.1 keep body=none\n  hOsT: " + host + "\n[]\n");
  }
  EXPECT_EQ(Requests("GET / HTTP/1.0\r\n\r\n").complete, "GET / host= 1.0 close body=none\n[]\n");
}

TEST(RequestHost, IsRefused) {
  constexpr const char* kMalformed = "Host is not a host with or without a port";
  for (const Refused& c : std::vector<Refused>{
           {"", "bad_host", "Host is missing"},
           {"Host: h\r\nHost: h\r\n", "bad_host", "Host more than once"},
           {"Host: h\r\nA: b\r\nHOST: i\r\n", "bad_host", "Host more than once"},
           {"Host:\r\n", "bad_host", kMalformed},
           {"Host: a b\r\n", "bad_host", kMalformed},
           {"Host: a, b\r\n", "bad_host", kMalformed},
           {"Host: a/b\r\n", "bad_host", kMalformed},
           {"Host: u@h\r\n", "bad_host", kMalformed},
           {"Host: h:65536\r\n", "bad_host", kMalformed},
           {"Host: h:000080\r\n", "bad_host", kMalformed},
           {"Host: h:8x\r\n", "bad_host", kMalformed},
           {"Host: h:-1\r\n", "bad_host", kMalformed},
           {"Host: :80\r\n", "bad_host", kMalformed},
           {"Host: ::1\r\n", "bad_host", kMalformed},
           {"Host: [::1\r\n", "bad_host", kMalformed},
           {"Host: [::1]80\r\n", "bad_host", kMalformed},
           {"Host: [::1%eth0]\r\n", "bad_host", kMalformed},
           {"Host: []\r\n", "bad_host", kMalformed},
           {"Host: [v1.x]\r\n", "bad_host", kMalformed},
           {"Host: [1.2.3.4]\r\n", "bad_host", kMalformed},
           {"Host: %4\r\n", "bad_host", kMalformed},
           {"Host: %zz\r\n", "bad_host", kMalformed},
           {"Host: a?b\r\n", "bad_host", kMalformed},
           {"Host: a#b\r\n", "bad_host", kMalformed},
           {"Host: a\\b\r\n", "bad_host", kMalformed},
           {"Host: \xc3\xa9\r\n", "bad_host", kMalformed},
           {"Host: [::1]:80]:80\r\n", "bad_host", kMalformed},
           {"Host: [11111111111111111111111111111111111111111111111111]\r\n", "bad_host",
            kMalformed},
       }) {
    ExpectRefused("GET / HTTP/1.1\r\n" + c.line_or_fields + "\r\n", c);
  }
  ExpectRefused("GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n",
                {"", "bad_host", "Host more than once"});
  // Also when the target has an authority, which wins.
  ExpectRefused("GET http://b/ HTTP/1.1\r\n\r\n", {"", "bad_host", "Host is missing"});
  ExpectRefused("GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n", {"", "bad_host", kMalformed});
}

TEST(RequestOptions, AreUnderstood) {
  struct Case {
    const char* version;
    const char* fields;
    const char* seen;
  };
  for (const Case& c : std::vector<Case>{
           {"1.1", "Connection: close\r\n", " 1.1 close body=none"},
           {"1.1", "Connection: keep-alive\r\n", " 1.1 keep body=none"},
           {"1.1", "Connection: x, Close\r\n", " 1.1 close body=none"},
           {"1.1", "Connection: close, keep-alive\r\n", " 1.1 close body=none"},
           {"1.1", "Connection: keep-alive\r\nConnection: ,close\r\n", " 1.1 close body=none"},
           {"1.0", "Connection: keep-alive\r\n", " 1.0 keep body=none"},
           {"1.0", "Connection: Keep-Alive, x\r\n", " 1.0 keep body=none"},
           {"1.0", "Connection: keep-alive, close\r\n", " 1.0 close body=none"},
           {"1.0", "Connection: x\r\n", " 1.0 close body=none"},
           {"1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            " 1.1 keep body=none upgrade=websocket"},
           {"1.1", "Upgrade: a/1, b\r\nConnection: keep-alive, Upgrade\r\n",
            " 1.1 keep body=none upgrade=a/1, b"},
           {"1.1", "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
            " 1.1 keep body=none upgrade=a, b"},
           {"1.1", "Upgrade: websocket\r\n", " 1.1 keep body=none"},
           {"1.1", "Connection: upgrade\r\n", " 1.1 keep body=none"},
           {"1.0", "Connection: upgrade, keep-alive\r\nUpgrade: websocket\r\n",
            " 1.0 keep body=none"},
           {"1.1", "Expect: 100-Continue\r\n", " 100-continue 1.1 keep body=none"},
           {"1.0", "Expect: 100-continue\r\n", " 1.0 close body=none"},
       }) {
    const Transcript transcript =
        Requests(std::string("GET / HTTP/") + c.version + "\r\nHost: h\r\n" + c.fields + "\r\n");
    EXPECT_EQ(transcript.complete.substr(0, transcript.complete.find('\n')),
              std::string("GET / host=h") + c.seen)
        << c.fields;
  }
  for (const char* value :
       {"x", "100-continue, x", "100-continue;a", "", "100-continue, 100-continue"}) {
    ExpectRefused(std::string("GET / HTTP/1.1\r\nHost: h\r\nExpect: ") + value + "\r\n\r\n",
                  {"", "expectation_failed", "Expect other than 100-continue"});
  }
}

}  // namespace
}  // namespace tidegate
