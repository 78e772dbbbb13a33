#include "proxy/http/h1_encoder.h"

#include <ctime>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/h1_every_way.h"

namespace tidegate {
namespace {

std::string Encoded(const RequestHead& head, ConnectionOption option = ConnectionOption::kNone) {
  std::string out;
  EncodeRequestHead(head, option, out);
  return out;
}

std::string Encoded(const ResponseHead& head, ConnectionOption option = ConnectionOption::kNone) {
  std::string out;
  EncodeResponseHead(head, option, out);
  return out;
}

struct Get : RequestHead {
  Get() {
    method = Method::kGet;
    method_name = "GET";
    target = "/a?b";
    authority = "h:80";
  }
};

struct Ok : ResponseHead {
  Ok() {
    status = 200;
    reason = "OK";
    body = BodyKind::kLength;
  }
};

TEST(RequestHeads, BeginWithHost) {
  Get head;
  head.fields.Add("A", "1");
  head.fields.Add("host", "other");
  head.fields.Add("b", "");
  head.fields.Add("A", "2");
  EXPECT_EQ(Encoded(head), "GET /a?b HTTP/1.1\r\nHost: h:80\r\nA: 1\r\nb: \r\nA: 2\r\n\r\n");
}

TEST(RequestHeads, CopyLinesThatFollowEachOther) {
  const std::string text = "A: 1\r\nTE: x\r\nB: 2\r\nC: 3\r\n";
  const std::string_view lines = text;
  Get head;
  head.fields.Add(Field::OfLine(FieldId::kOther, lines.substr(0, 6), 1));
  head.fields.Add(Field::OfLine(FieldId::kTe, lines.substr(6, 7), 2));
  head.fields.Add(Field::OfLine(FieldId::kOther, lines.substr(13, 6), 1));
  head.fields.Add(Field::OfLine(FieldId::kOther, lines.substr(19, 6), 1));
  head.fields.Add("D", "4");
  head.fields.Add(Field::OfLine(FieldId::kOther, lines.substr(0, 6), 1));
  EXPECT_EQ(Encoded(head),
            "GET /a?b HTTP/1.1\r\nHost: h:80\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nA: 1\r\n\r\n");
  head.fields.begin()[2].SetValue("5");
  EXPECT_EQ(Encoded(head),
            "GET /a?b HTTP/1.1\r\nHost: h:80\r\nA: 1\r\nB: 5\r\nC: 3\r\nD: 4\r\nA: 1\r\n\r\n");
}

TEST(RequestHeads, SpeakOurVersion) {
  Get head;
  head.minor_version = 0;
  head.authority = {};
  EXPECT_EQ(Encoded(head), "GET /a?b HTTP/1.1\r\nHost: \r\n\r\n");
}

TEST(RequestHeads, SayHowTheBodyIsFramed) {
  Get head;
  head.fields.Add("Content-Length", "99");
  head.fields.Add("Transfer-Encoding", "gzip");
  EXPECT_EQ(Encoded(head), "GET /a?b HTTP/1.1\r\nHost: h:80\r\n\r\n");
  head.body = BodyKind::kLength;
  EXPECT_EQ(Encoded(head), "GET /a?b HTTP/1.1\r\nHost: h:80\r\nContent-Length: 0\r\n\r\n");
  head.content_length = 18446744073709551615U;
  EXPECT_EQ(Encoded(head),
            "GET /a?b HTTP/1.1\r\nHost: h:80\r\nContent-Length: 18446744073709551615\r\n\r\n");
  head.body = BodyKind::kChunked;
  EXPECT_EQ(Encoded(head), "GET /a?b HTTP/1.1\r\nHost: h:80\r\nTransfer-Encoding: chunked\r\n\r\n");
}

TEST(Heads, CarryNoFieldOfAnotherHop) {
  for (const char* name : {"Connection", "KEEP-ALIVE", "Proxy-Connection", "TE",
                           "Transfer-Encoding", "Upgrade", "Content-Length"}) {
    Get request;
    request.fields.Add(name, "x");
    EXPECT_EQ(Encoded(request), "GET /a?b HTTP/1.1\r\nHost: h:80\r\n\r\n") << name;
    Ok response;
    response.fields.Add(name, "x");
    EXPECT_EQ(Encoded(response), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") << name;
  }
}

TEST(Heads, SayWhatBecomesOfTheConnection) {
  Get head;
  const std::string start = "GET /a?b HTTP/1.1\r\nHost: h:80\r\n";
  EXPECT_EQ(Encoded(head, ConnectionOption::kClose), start + "Connection: close\r\n\r\n");
  EXPECT_EQ(Encoded(head, ConnectionOption::kKeepAlive), start + "Connection: keep-alive\r\n\r\n");
  head.upgrade = "websocket";
  EXPECT_EQ(Encoded(head, ConnectionOption::kUpgrade),
            start + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
  EXPECT_EQ(Encoded(head, ConnectionOption::kNone), start + "\r\n");
}

TEST(ResponseHeads, SayHowTheBodyIsFramed) {
  struct Case {
    int status;
    BodyKind body;
    const char* framing;
  };
  constexpr const char* kLength = "Content-Length: 5\r\n";
  constexpr const char* kChunked = "Transfer-Encoding: chunked\r\n";
  for (const Case& c : std::vector<Case>{{200, BodyKind::kLength, kLength},
                                         {200, BodyKind::kChunked, kChunked},
                                         {200, BodyKind::kUntilClose, ""},
                                         {200, BodyKind::kNone, "Content-Length: 0\r\n"},
                                         {100, BodyKind::kNone, ""},
                                         {101, BodyKind::kNone, ""},
                                         {103, BodyKind::kLength, ""},
                                         {204, BodyKind::kNone, ""},
                                         {204, BodyKind::kChunked, ""},
                                         {304, BodyKind::kNone, ""},
                                         {304, BodyKind::kLength, kLength}}) {
    ResponseHead head;
    head.status = c.status;
    head.reason = "R";
    head.body = c.body;
    head.content_length = 5;
    head.fields.Add("A", "b");
    EXPECT_EQ(Encoded(head),
              "HTTP/1.1 " + std::to_string(c.status) + " R\r\nA: b\r\n" + c.framing + "\r\n");
  }
}

TEST(ResponseHeads, PassUnknownCodesAndPhrases) {
  Ok head;
  head.status = 799;
  head.reason = "caf\xe9 (\t)";
  EXPECT_EQ(Encoded(head), "HTTP/1.1 799 caf\xe9 (\t)\r\nContent-Length: 0\r\n\r\n");
  head.reason = "";
  EXPECT_EQ(Encoded(head), "HTTP/1.1 799 \r\nContent-Length: 0\r\n\r\n");
}

TEST(ResponseHeads, KeepEachSetCookie) {
  Ok head;
  head.fields.Add("Set-Cookie", "a");
  head.fields.Add("Set-Cookie", "b");
  EXPECT_EQ(Encoded(head),
            "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n");
}

TEST(Heads, AreNeverSplitByTheirText) {
  for (const std::string& bad : {std::string("\r"), std::string("\n"), std::string(1, '\0')}) {
    for (std::size_t size = 0; size < 20; ++size) {
      const std::string before(size, 'x');
      const std::string evil = before + bad + bad + "Evil: 1";
      const std::string tame = before + "  Evil: 1";
      Get request;
      request.target = evil;
      request.authority = evil;
      request.fields.Add(evil, evil);
      EXPECT_EQ(Encoded(request), "GET " + tame + " HTTP/1.1\r\nHost: " + tame + "\r\n" + tame +
                                      ": " + tame + "\r\n\r\n");
      Ok response;
      response.reason = evil;
      response.fields.Add("A", evil);
      EXPECT_EQ(Encoded(response),
                "HTTP/1.1 200 " + tame + "\r\nA: " + tame + "\r\nContent-Length: 0\r\n\r\n");
    }
  }
  // Tabs and octets above 0x7f are text.
  Get head;
  head.fields.Add("A", "a\tb\xff\x80 12345678901234567890\t\xe9");
  EXPECT_TRUE(Encoded(head).contains("A: a\tb\xff\x80 12345678901234567890\t\xe9\r\n"));
}

TEST(Heads, AreAppended) {
  std::string out = "before";
  EncodeRequestHead(Get(), ConnectionOption::kNone, out);
  EncodeResponseHead(Ok(), ConnectionOption::kNone, out);
  EXPECT_EQ(out,
            "beforeGET /a?b HTTP/1.1\r\nHost: h:80\r\n\r\n"
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

TEST(Heads, OfAnySizeFit) {
  for (std::size_t size = 0; size < 300; ++size) {
    Get head;
    const std::string text(size, 'v');
    const std::string name = text + "n";
    head.fields.Add(name, text);
    EXPECT_EQ(Encoded(head, ConnectionOption::kClose), "GET /a?b HTTP/1.1\r\nHost: h:80\r\n" +
                                                           text + "n: " + text +
                                                           "\r\nConnection: close\r\n\r\n");
  }
}

// Texts of any size, at the end of a string that has any room left.
TEST(Heads, FitWhateverIsLongAndWhateverRoomThereIs) {
  for (std::size_t size = 0; size < 700; size += 7) {
    const std::string text(size, 't');
    const std::string method = "M" + text;
    const std::string target = "/" + text;
    for (std::size_t before = 0; before < 700; before += 33) {
      const std::string start(before, 's');
      Get request;
      request.method_name = method;
      request.target = target;
      request.authority = text;
      request.upgrade = text;
      std::string out = start;
      EncodeRequestHead(request, ConnectionOption::kUpgrade, out);
      EXPECT_EQ(out, start + method + " " + target + " HTTP/1.1\r\nHost: " + text +
                         "\r\nConnection: upgrade\r\nUpgrade: " + text + "\r\n\r\n");
      ResponseHead response;
      response.status = 101;
      response.reason = text;
      response.upgrade = text;
      out = start;
      EncodeResponseHead(response, ConnectionOption::kUpgrade, out);
      EXPECT_EQ(out, start + "HTTP/1.1 101 " + text +
                         "\r\nConnection: upgrade\r\nUpgrade: " + text + "\r\n\r\n");
      Fields trailers;
      trailers.Add("Name", text);
      out = start;
      EncodeLastChunk(trailers, out);
      EXPECT_EQ(out, start + "0\r\nName: " + text + "\r\n\r\n");
    }
  }
}

TEST(Heads, OfManyFieldsFit) {
  for (const bool lines : {false, true}) {
    Get head;
    std::string expected = "GET /a?b HTTP/1.1\r\nHost: h:80\r\n";
    std::vector<std::string> texts;
    for (std::size_t size = 1; size < 60; ++size) {
      texts.push_back("n: " + std::string(size * size, 'v') + "\r\n");
    }
    for (const std::string& text : texts) {
      expected += text;
      Field field = Field::OfLine(FieldId::kOther, text, 1);
      field.is_line = lines;
      head.fields.Add(field);
    }
    head.upgrade = "websocket";
    EXPECT_EQ(Encoded(head, ConnectionOption::kUpgrade),
              expected + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
  }
}

TEST(Heads, DecodeToThemselves) {
  const std::string input =
      "POST /x?y HTTP/1.1\r\nHost: h\r\nA: b\r\nCookie: c=d; e\r\nEmpty: \r\n"
      "Content-Length: 3\r\n\r\nabc";
  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  decoder.BeginRequest(head);
  std::string copy = input;
  auto step = decoder.Decode(copy);
  ASSERT_TRUE(step);
  std::string out = Encoded(head);
  out.append(step->body.begin(), step->body.end());
  EXPECT_EQ(out, input);
}

TEST(Chunks, HaveHexadecimalSizes) {
  struct Case {
    std::uint64_t size;
    const char* line;
  };
  for (const Case& c : std::vector<Case>{{0, "0\r\n"},
                                         {1, "1\r\n"},
                                         {15, "f\r\n"},
                                         {16, "10\r\n"},
                                         {500, "1f4\r\n"},
                                         {18446744073709551615U, "ffffffffffffffff\r\n"}}) {
    std::string out = "x";
    EncodeChunkSize(c.size, out);
    EXPECT_EQ(out, std::string("x") + c.line);
  }
}

TEST(Chunks, EndWithTrailers) {
  std::string out = "x";
  Fields trailers;
  EncodeLastChunk(trailers, out);
  EXPECT_EQ(out, "x0\r\n\r\n");
  out.clear();
  trailers.Add("Checksum", "1");
  for (const char* name : {"Content-Length", "Transfer-Encoding", "Host", "Connection", "Trailer",
                           "TE", "Keep-Alive", "Upgrade", "Proxy-Connection"}) {
    trailers.Add(name, "x");
  }
  trailers.Add("checksum", "2\r\n3");
  EncodeLastChunk(trailers, out);
  EXPECT_EQ(out, "0\r\nChecksum: 1\r\nchecksum: 2  3\r\n\r\n");
}

TEST(Dates, AreOfRfc9110) {
  EXPECT_EQ(FormatHttpDate(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(FormatHttpDate(0), "Thu, 01 Jan 1970 00:00:00 GMT");
  EXPECT_EQ(FormatHttpDate(951827696), "Tue, 29 Feb 2000 12:34:56 GMT");
  for (std::time_t time = 0; time < 3000000000; time += 12345678) {
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    char expected[64];
    std::strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    EXPECT_EQ(FormatHttpDate(time), expected);
  }
}

TEST(Phrases, AreOfRfc9110) {
  EXPECT_EQ(ReasonPhrase(100), "Continue");
  EXPECT_EQ(ReasonPhrase(200), "OK");
  EXPECT_EQ(ReasonPhrase(413), "Content Too Large");
  EXPECT_EQ(ReasonPhrase(511), "Network Authentication Required");
  for (const int status : {0, 99, 299, 306, 418, 512, 600, 1000}) {
    EXPECT_EQ(ReasonPhrase(status), "") << status;
  }
}

TEST(Phrases, ThereIsOneForEachErrorOfOurs) {
  for (std::size_t kind = 0; kind < ErrorCount(); ++kind) {
    const ErrorRow& row = RowOf(static_cast<ErrorKind>(kind));
    if (row.status != 0) {
      EXPECT_FALSE(ReasonPhrase(row.status).empty()) << row.log_name;
    }
  }
}

}  // namespace
}  // namespace tidegate
