// Which responses are taken and which refused. Every input is read whole, octet by octet and cut at
// every place.

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/h1_every_way.h"

namespace tidegate {
namespace {

using h1_transcript::Options;
using h1_transcript::Responses;
using h1_transcript::Transcript;

void ExpectRefused(const std::string& input, const char* detail) {
  const Transcript transcript = Responses(input);
  EXPECT_EQ(transcript.error, "upstream_bad_response") << input;
  EXPECT_EQ(transcript.error_detail, detail) << input;
}

TEST(StatusLine, IsTaken) {
  struct Case {
    const char* line;
    const char* seen;
  };
  for (const Case& c : std::vector<Case>{
           {"HTTP/1.1 200 OK", "200 [OK] 1.1 keep"},
           {"HTTP/1.1 200 ", "200 [] 1.1 keep"},
           {"HTTP/1.1 200", "200 [] 1.1 keep"},
           {"HTTP/1.0 404 Not Found", "404 [Not Found] 1.0 close"},
           {"HTTP/1.1 799 What\tever (1)", "799 [What\tever (1)] 1.1 keep"},
           {"HTTP/1.1 999 x", "999 [x] 1.1 keep"},
           {"HTTP/1.1 200 caf\xe9", "200 [caf\xe9] 1.1 keep"},
       }) {
    EXPECT_EQ(Responses(std::string(c.line) + "\r\nContent-Length: 0\r\n\r\n").complete,
              std::string(c.seen) + " body=length:0\n  Content-Length: 0\n[]\n");
  }
}

TEST(StatusLine, IsRefused) {
  constexpr const char* kDigits = "status code is not three digits";
  constexpr const char* kVersion = "HTTP version other than 1.0 and 1.1";
  constexpr const char* kNoVersion = "start line without HTTP/1.0 or HTTP/1.1";
  struct Case {
    std::string line;
    const char* detail;
  };
  for (const Case& c : std::vector<Case>{
           {"HTTP/1.1 099 x\r\n", "status code below 100"},
           {"HTTP/1.1 1000 x\r\n", kDigits},
           {"HTTP/1.1 20 x\r\n", kDigits},
           {"HTTP/1.1 2x0 x\r\n", kDigits},
           {"HTTP/1.1 -20 x\r\n", kDigits},
           {"HTTP/1.1  200 x\r\n", kDigits},
           {"HTTP/1.1\r\n", "version is malformed"},
           {"HTTP/2.0 200 x\r\n", kVersion},
           {"HTTP/0.9 200 x\r\n", kVersion},
           {"HTTP/1.2 200 x\r\n", kVersion},
           {"ICY 200 OK\r\n", kNoVersion},
           {"SSH-2.0-OpenSSH\r\n", kNoVersion},
           {"<html>\r\n", kNoVersion},
           {"\r\nHTTP/1.1 200 x\r\n", "empty line before the status line"},
           {"\nHTTP/1.1 200 x\r\n", "empty line before the status line"},
           {"HTTP/1.1 200 a\x01"
            "b\r\n",
            "reason phrase has a control octet"},
           {std::string("HTTP/1.1 200 a\0b\r\n", 18), "reason phrase has a control octet"},
           {"HTTP/1.1 200 a\x7f\r\n", "reason phrase has a control octet"},
           {"HTTP/1.1 200 OK\n", "line feed without carriage return"},
           {"HTTP/1.1 200 OK\rA: b\r\n", "carriage return without line feed"},
           {"HTTP/1.1 200 OK\r\rA: b\r\n", "carriage return without line feed"},
           {"HTTP/1.1 200 OK\r\r\nA: b\r\n", "carriage return without line feed"},
           {"HTTP/1.1 200 \r\rA: b\r\n", "carriage return without line feed"},
           {"HTTP/1.1 200\r\r", "carriage return without line feed"},
       }) {
    ExpectRefused(c.line + "Content-Length: 0\r\n\r\n", c.detail);
  }
}

// Longer than what is copied at once.
TEST(StatusLine, MayBeLong) {
  const std::string reason(1200, 'a');
  const Transcript transcript =
      Responses("HTTP/1.1 200 " + reason + "\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(transcript.error.empty()) << transcript.Text();
}

TEST(ResponseFields, AreRefused) {
  struct Case {
    const char* fields;
    const char* detail;
  };
  for (const Case& c : std::vector<Case>{
           {"a : b\r\n", "field name has a space before the colon"},
           {"a: b\r\n c\r\n", "field value is folded over several lines"},
           {": b\r\n", "field name is empty"},
           {"a\r\n", "field line without a colon"},
           {"a: b\nc: d\r\n", "line feed without carriage return"},
           {"a: b\rc\r\n", "line does not end as it must"},
           {"Content-Length: 1\r\nContent-Length: 1\r\n", "Content-Length more than once"},
           {"Content-Length: 1, 1\r\n", "Content-Length is not a number of octets"},
           {"Content-Length: -1\r\n", "Content-Length is not a number of octets"},
           {"Content-Length: 1\r\nTransfer-Encoding: gzip\r\n",
            "Transfer-Encoding other than chunked"},
           {"Transfer-Encoding: gzip\r\n", "Transfer-Encoding other than chunked"},
           {"Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding other than chunked"},
           {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding more than once"},
       }) {
    ExpectRefused(std::string("HTTP/1.1 200 OK\r\n") + c.fields + "\r\n", c.detail);
  }
  // Ours after trimming, but not llhttp's, which would give us the framing as body.
  for (const char* coding : {"chunked\t", "chunked \t", "chunked\t "}) {
    ExpectRefused(std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: ") + coding + "\r\n\r\n",
                  "length of the body is ambiguous");
  }
  ExpectRefused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "Transfer-Encoding in HTTP/1.0");
}

// RFC 9112 section 6.3 item 3; what follows on that connection is not believed.
TEST(ResponseFields, WithBothLengthsAreChunkedAndTheLast) {
  for (const char* fields : {"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n",
                             "Transfer-Encoding: chunked\r\nContent-Length: 9\r\n"}) {
    const std::string complete =
        Responses(std::string("HTTP/1.1 200 OK\r\n") + fields + "\r\n1\r\na\r\n0\r\n\r\n").complete;
    EXPECT_TRUE(complete.starts_with("200 [OK] 1.1 close body=chunked")) << complete;
    EXPECT_TRUE(complete.ends_with("[a]\n")) << complete;
  }
}

TEST(ResponseFields, WithUnderscoresAreNotOurs) {
  EXPECT_EQ(Responses("HTTP/1.1 200 OK\r\nContent_Length: 7\r\nContent-Length: 0\r\n\r\n").complete,
            "200 [OK] 1.1 keep body=length:0\n  Content_Length: 7\n  Content-Length: 0\n[]\n");
}

TEST(ResponseBody, EndsWithTheConnection) {
  for (const char* version : {"1.0", "1.1"}) {
    const Transcript transcript =
        Responses(std::string("HTTP/") + version + " 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    EXPECT_EQ(transcript.complete, std::string("200 [OK] ") + version +
                                       " close body=until close\n[HTTP/1.1 200 OK\r\n\r\n]\n");
    EXPECT_EQ(transcript.finish, "end");
  }
  EXPECT_EQ(Responses("HTTP/1.1 200 OK\r\n\r\n").complete,
            "200 [OK] 1.1 close body=until close\n[]\n");
  // A keep-alive that cannot be.
  EXPECT_EQ(Responses("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").complete,
            "200 [OK] 1.0 close body=until close\n  Connection: keep-alive\n[]\n");
}

TEST(ResponseBody, IsTruncated) {
  EXPECT_EQ(Responses("").finish, "upstream_closed (not started)");
  for (const char* input :
       {"H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r"}) {
    const Transcript transcript = Responses(input);
    EXPECT_EQ(transcript.complete, "") << input;
    EXPECT_EQ(transcript.finish, "upstream_truncated (started)") << input;
  }
}

TEST(ResponseBody, IsNoneWhereThereCannotBeOne) {
  struct Case {
    Method method;
    const char* head;
    const char* seen;
  };
  for (const Case& c : std::vector<Case>{
           {Method::kHead, "200 OK\r\nContent-Length: 5\r\n", "200 [OK] 1.1 keep body=length:5\n"},
           {Method::kHead, "200 OK\r\nTransfer-Encoding: chunked\r\n",
            "200 [OK] 1.1 keep body=chunked\n"},
           {Method::kHead, "200 OK\r\n", "200 [OK] 1.1 keep body=until close\n"},
           {Method::kHead, "404 No\r\nConnection: close\r\n",
            "404 [No] 1.1 close body=until close\n"},
           {Method::kGet, "204 No\r\n", "204 [No] 1.1 keep body=none\n"},
           {Method::kGet, "204 No\r\nContent-Length: 0\r\n", "204 [No] 1.1 keep body=none\n"},
           // These may send a body after all: what follows is not to be trusted.
           {Method::kGet, "204 No\r\nContent-Length: 5\r\n", "204 [No] 1.1 close body=none\n"},
           {Method::kGet, "204 No\r\nTransfer-Encoding: chunked\r\n",
            "204 [No] 1.1 close body=none\n"},
           {Method::kGet, "304 Not\r\n", "304 [Not] 1.1 keep body=none\n"},
           {Method::kGet, "304 Not\r\nContent-Length: 5\r\n", "304 [Not] 1.1 keep body=length:5\n"},
           {Method::kGet, "304 Not\r\nTransfer-Encoding: chunked\r\n",
            "304 [Not] 1.1 keep body=chunked\n"},
       }) {
    Options options;
    options.methods = {c.method, Method::kGet};
    const Transcript transcript = Responses(
        std::string("HTTP/1.1 ") + c.head + "\r\nHTTP/1.1 200 Next\r\nContent-Length: 3\r\n\r\nabc",
        options);
    EXPECT_TRUE(transcript.complete.starts_with(c.seen)) << transcript.complete;
    EXPECT_TRUE(transcript.complete.ends_with(
        "[]\n200 [Next] 1.1 keep body=length:3\n  Content-Length: 3\n[abc]\n"))
        << transcript.complete;
  }
}

TEST(InterimResponses, ComeBeforeTheFinalOne) {
  const Transcript transcript = Responses(
      "HTTP/1.1 100 Continue\r\n\r\n"
      "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
      "HTTP/1.1 102 P\r\nContent-Length: 0\r\n\r\n"
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab");
  EXPECT_EQ(transcript.complete,
            "100 [Continue] 1.1 keep body=none\n[]\n"
            "103 [Early Hints] 1.1 keep body=none\n  Link: x\n[]\n"
            "102 [P] 1.1 keep body=none\n  Content-Length: 0\n[]\n"
            "200 [OK] 1.1 keep body=length:2\n  Content-Length: 2\n[ab]\n");
  Options head;
  head.methods = {Method::kHead};
  EXPECT_EQ(Responses("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", head)
                .complete,
            "100 [C] 1.1 keep body=none\n[]\n"
            "200 [OK] 1.1 keep body=length:2\n  Content-Length: 2\n[]\n");
}

TEST(InterimResponses, HaveNoBody) {
  ExpectRefused("HTTP/1.1 100 C\r\nContent-Length: 1\r\n\r\n", "interim response with a body");
  ExpectRefused("HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n",
                "interim response with a body");
}

TEST(Tunnels, BeginAfterA101) {
  struct Case {
    const char* fields;
    const char* seen;
  };
  for (const Case& c :
       std::vector<Case>{{"Connection: upgrade\r\nUpgrade: websocket\r\n", " upgrade=websocket"},
                         {"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n",
                          " upgrade=websocket"},
                         {"", ""},
                         {"Upgrade: websocket\r\n", ""}}) {
    for (const char* tunnel : {"\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "\x81\x05hello", ""}) {
      const Transcript transcript =
          Responses(std::string("HTTP/1.1 101 Switching\r\n") + c.fields + "\r\n" + tunnel);
      EXPECT_TRUE(transcript.complete.starts_with(
          std::string("101 [Switching] 1.1 keep body=none") + c.seen + "\n"))
          << transcript.complete;
      EXPECT_EQ(transcript.left, tunnel);
    }
  }
}

TEST(Tunnels, DoNotBeginAfterAnotherStatus) {
  const Transcript transcript = Responses(
      "HTTP/1.1 426 U\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nabc"
      "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "1\r\na\r\n0\r\n\r\n"
      "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n"
      "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nxyz");
  EXPECT_EQ(transcript.error, "");
  EXPECT_EQ(transcript.finish, "end");
  EXPECT_EQ(std::ranges::count(transcript.complete, '['), 8);
  EXPECT_TRUE(transcript.complete.ends_with("[xyz]\n"));
}

}  // namespace
}  // namespace tidegate
