// Bodies, limits, pipelining and reuse. Start lines and fields: h1_decoder_requests_test.cpp,
// h1_decoder_responses_test.cpp.

#include "proxy/http/h1_decoder.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/units.h"
#include "tests/support/h1_every_way.h"

namespace tidegate {
namespace {

using h1_transcript::Options;
using h1_transcript::ReadRequests;
using h1_transcript::ReadResponses;
using h1_transcript::Requests;
using h1_transcript::Responses;
using h1_transcript::Transcript;

const std::string kGet = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
const std::string kGetSeen = "GET /next host=h 1.1 keep body=none\n  Host: h\n[]\n";
const std::string kChunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
const std::string kChunkedSeen =
    "POST / host=h 1.1 keep body=chunked\n  Host: h\n  Transfer-Encoding: chunked\n";

std::string Repeat(const std::string& text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) {
    all += text;
  }
  return all;
}

TEST(Framing, OfRequestsIsRefused) {
  constexpr const char* kLength = "Content-Length is not a number of octets";
  constexpr const char* kBoth = "Content-Length with Transfer-Encoding";
  constexpr const char* kCoding = "Transfer-Encoding other than chunked";
  struct Case {
    const char* fields;
    const char* error;
    const char* detail;
  };
  for (const Case& c : std::vector<Case>{
           {"Content-Length: +5\r\n", "bad_request", kLength},
           {"Content-Length: -5\r\n", "bad_request", kLength},
           {"Content-Length: 0x5\r\n", "bad_request", kLength},
           {"Content-Length: 5 5\r\n", "bad_request", kLength},
           {"Content-Length: 5, 5\r\n", "bad_request", kLength},
           {"Content-Length: 5,\r\n", "bad_request", kLength},
           {"Content-Length: 5;a\r\n", "bad_request", kLength},
           {"Content-Length: 1e1\r\n", "bad_request", kLength},
           {"Content-Length:\r\n", "bad_request", kLength},
           {"Content-Length: \t\r\n", "bad_request", kLength},
           {"Content-Length: 18446744073709551616\r\n", "bad_request", kLength},
           {"Content-Length: 99999999999999999999999999\r\n", "bad_request", kLength},
           {"Content-Length: 5\r\nContent-Length: 5\r\n", "bad_request",
            "Content-Length more than once"},
           {"Content-Length: 5\r\nA: b\r\ncontent-length: 6\r\n", "bad_request",
            "Content-Length more than once"},
           {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "bad_request", kBoth},
           {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "bad_request", kBoth},
           {"Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", "bad_request", kBoth},
           {"Transfer-Encoding: gzip, chunked\r\n", "bad_transfer_coding", kCoding},
           {"Transfer-Encoding: gzip\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: identity\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: chunked, gzip\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: chunked, chunked\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: chunked, identity\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: chunked;a=b\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: xchunked\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: chunkedx\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: \"chunked\"\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: 'chunked'\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: chunk\r\n", "bad_request", kCoding},
           {"Transfer-Encoding:\r\n", "bad_request", kCoding},
           {"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "bad_request",
            kCoding},
           {"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "bad_request",
            "Transfer-Encoding more than once"},
       }) {
    const Transcript transcript =
        Requests(std::string("POST / HTTP/1.1\r\nHost: h\r\n") + c.fields + "\r\n" + kGet);
    EXPECT_EQ(transcript.error, c.error) << c.fields;
    EXPECT_EQ(transcript.error_detail, c.detail) << c.fields;
    EXPECT_EQ(transcript.complete, "") << c.fields;
  }
  const Transcript http10 =
      Requests("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
  EXPECT_EQ(http10.error, "bad_request");
  EXPECT_EQ(http10.error_detail, "Transfer-Encoding in HTTP/1.0");
}

TEST(Framing, ByLengthIsExact) {
  for (const std::string body : {"", "a", "abc\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"}) {
    const std::string size = std::to_string(body.size());
    const Transcript transcript = Requests(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length:  " + size + " \r\n\r\n" + body + kGet);
    EXPECT_EQ(transcript.complete, "POST / host=h 1.1 keep body=length:" + size +
                                       "\n  Host: h\n  Content-Length: " + size + "\n[" + body +
                                       "]\n" + kGetSeen);
  }
  EXPECT_EQ(Requests("POST / HTTP/1.0\r\nContent-Length: 0003\r\n\r\nabc").complete,
            "POST / host= 1.0 close body=length:3\n  Content-Length: 0003\n[abc]\n");
  // The largest one is only too long to wait for.
  const Transcript largest =
      Requests("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551615\r\n\r\nabc");
  EXPECT_EQ(largest.error, "");
  EXPECT_TRUE(largest.partial.ends_with("[abc]\n"));
  EXPECT_EQ(largest.finish, "client_closed (started)");
}

// Without Host one is added, which may move all fields.
TEST(Framing, OfHttp10DoesNotDependOnTheNumberOfFields) {
  std::string fields;
  for (int count = 0; count < 70; ++count) {
    const Transcript transcript =
        Requests("POST http://h/ HTTP/1.0\r\n" + fields + "Content-Length: 3\r\n\r\nabc");
    EXPECT_EQ(transcript.error, "");
    EXPECT_TRUE(transcript.complete.starts_with("POST / host=h 1.0 close body=length:3\n"));
    EXPECT_TRUE(transcript.complete.ends_with("  Host: h\n[abc]\n")) << transcript.complete;
    fields += "a" + std::to_string(count) + ": b\r\n";
  }
}

TEST(Versions, AreJudgedAndKnownBeforeTheFields) {
  EXPECT_EQ(Requests("GET / HTTP/2.0\r\n").error, "version_not_supported");
  EXPECT_EQ(Requests("GET / HTTP/2.0\r\nHost : a\r\n\r\n").error, "version_not_supported");
  for (const auto& [version, minor] : {std::pair("1.0", 0), std::pair("1.1", 1)}) {
    RequestHead head;
    H1Decoder decoder = H1Decoder::ForRequests({});
    decoder.BeginRequest(head);
    std::string octets = "GET / HTTP/" + std::string(version) + "\r\nHost : a\r\n\r\n";
    EXPECT_FALSE(decoder.Decode(octets).has_value());
    EXPECT_EQ(head.minor_version, minor);
  }
}

TEST(Framing, ByChunksIsRemoved) {
  struct Case {
    const char* chunks;
    const char* body;
  };
  for (const Case& c : std::vector<Case>{
           {"0\r\n\r\n", "[]\n"},
           {"5\r\nhello\r\n0\r\n\r\n", "[hello]\n"},
           {"5\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n0\r\n\r\n", "[hello, world]\n"},
           {"a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n", "[01234567890123456789]\n"},
           {"0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n", "[abc]\n"},
           {"2\r\n\r\n\r\n0\r\n\r\n", "[\r\n]\n"},
           {"5;a\r\nhello\r\n0;b=c;d=\"e;\\\"f\"\r\n\r\n", "[hello]\n"},
           {"1\r\na\r\n0\r\nT: v\r\nt:  w \r\n\r\n", "[a]\n  +T: v\n  +t: w\n"},
       }) {
    EXPECT_EQ(Requests(kChunked + c.chunks + kGet).complete, kChunkedSeen + c.body + kGetSeen)
        << c.chunks;
  }
}

TEST(Framing, ByChunksIsRefused) {
  constexpr const char* kSize = "chunk size is not a hexadecimal number";
  constexpr const char* kNoReturn = "line feed without carriage return";
  constexpr const char* kLine = "line does not end as it must";
  constexpr const char* kDigits = "chunk size has more than 16 digits";
  struct Case {
    const char* chunks;
    const char* detail;
  };
  for (const Case& c : std::vector<Case>{
           {"\r\n", kSize},
           {"x\r\n", kSize},
           {"-5\r\nhello\r\n", kSize},
           {"+5\r\nhello\r\n", kSize},
           {"0x5\r\nhello\r\n", kSize},
           {" 5\r\nhello\r\n", kSize},
           {"5 \r\nhello\r\n", kSize},
           {"5 ;a\r\nhello\r\n", kSize},
           {"5\t\r\nhello\r\n", kSize},
           {"5,\r\nhello\r\n", kSize},
           {"10000000000000000\r\n", kSize},
           {"ffffffffffffffff0\r\n", kSize},
           {"00000000000000005\r\nhello\r\n", kDigits},
           {"00000000000000005;a\r\nhello\r\n", kDigits},
           {"1\r\na\r\n00000000000000005;a\r\nhello\r\n", kDigits},
           {"1\r\na\r\n00000000000000000\r\n\r\n", kDigits},
           {"5\nhello\r\n", kNoReturn},
           {"5\r\nhello\n0\r\n\r\n", kNoReturn},
           {"5\rhello\r\n", kLine},
           {"5\r\nhello\r0\r\n\r\n", kLine},
           {"5\r\nhello0\r\n\r\n", kLine},
           {"5\r\nhello!\r\n0\r\n\r\n", kLine},
           {"5;\r\nhello\r\n", kLine},
           {"5;a\nhello\r\n", kNoReturn},
           {"5;a=\"b\nhello\r\n", kLine},
           {"0\r\n\n", "field name has an octet that is not allowed"},
           {"0\r\na : b\r\n\r\n", "field name has a space before the colon"},
           {"0\r\n a: b\r\n\r\n", "field name has a space before the colon"},
           {"0\r\na: b\r\n c\r\n\r\n", "field value is folded over several lines"},
           {"0\r\nGET / HTTP/1.1\r\n\r\n", "field name has a space before the colon"},
       }) {
    const Transcript transcript = Requests(kChunked + c.chunks);
    EXPECT_EQ(transcript.error, "bad_request") << c.chunks;
    EXPECT_EQ(transcript.error_detail, c.detail) << c.chunks;
    EXPECT_EQ(transcript.complete, "") << c.chunks;
  }
}

TEST(Framing, MayHaveWhiteSpaceAroundIt) {
  for (const char* space : {"", " ", "\t", " \t "}) {
    const std::string fields = std::string("Transfer-Encoding:") + space + "Chunked\r\n";
    EXPECT_EQ(Requests("POST / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n0\r\n\r\n").error, "");
    EXPECT_EQ(Responses("HTTP/1.1 200 OK\r\n" + fields + "\r\n1\r\na\r\n0\r\n\r\n").complete,
              "200 [OK] 1.1 keep body=chunked\n  Transfer-Encoding: Chunked\n[a]\n");
  }
  const Transcript tab =
      Requests("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n");
  EXPECT_EQ(tab.error_detail, "length of the body is ambiguous");
}

TEST(Framing, OfAMessageIsForgottenInTheNext) {
  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  // Refused within a chunk line with an extension.
  std::string bad = kChunked + "12;a\n";
  decoder.BeginRequest(head);
  EXPECT_FALSE(decoder.Decode(bad));
  std::string good = kChunked + "00000000000000001\r\na\r\n";
  decoder.BeginRequest(head);
  const auto digits = decoder.Decode(good);
  ASSERT_FALSE(digits);
  EXPECT_EQ(digits.error().detail(), "chunk size has more than 16 digits");
}

TEST(Trailers, AboutFramingAndRoutingAreDroppedOrRefused) {
  for (const char* name :
       {"Host", "Connection", "Upgrade", "TE", "Trailer", "Keep-Alive", "Expect", "Via",
        "X-Forwarded-For", "Forwarded", "Proxy-Connection", "X_Forwarded_For", "Max-Forwards"}) {
    EXPECT_EQ(Requests(kChunked + "0\r\nA: b\r\n" + name + ": x\r\n\r\n" + kGet).complete,
              kChunkedSeen + "[]\n  +A: b\n" + kGetSeen)
        << name;
  }
  // llhttp sees a second framing in these.
  EXPECT_EQ(Requests(kChunked + "0\r\nContent-Length: 5\r\n\r\n").error, "bad_request");
  EXPECT_EQ(Requests(kChunked + "0\r\nTransfer-Encoding: gzip\r\n\r\n").error, "bad_request");
}

TEST(ChunkOverhead, SmallChunksAreNone) {
  const std::string chunks = Repeat("1\r\nx\r\n", 20000);
  EXPECT_EQ(ReadRequests(kChunked + chunks + "0\r\n\r\n").complete,
            kChunkedSeen + "[" + std::string(20000, 'x') + "]\n");
}

TEST(ChunkOverhead, ExtensionsAddUpToALimit) {
  const auto body = [](std::size_t chunks) {
    return kChunked + Repeat("1;" + std::string(1000, 'a') + "\r\nx\r\n", chunks) + "0\r\n\r\n";
  };
  // 1004 octets each, of which 18 are free.
  for (const auto& cut : {h1_transcript::Cut(h1_transcript::Whole),
                          h1_transcript::Cut(h1_transcript::OctetByOctet)}) {
    EXPECT_EQ(ReadRequests(body(16), {}, cut).error, "");
    const Transcript refused = ReadRequests(body(17), {}, cut);
    EXPECT_EQ(refused.error, "bad_request");
    EXPECT_EQ(refused.error_detail, "chunk extensions are too long");
  }
}

TEST(ChunkOverhead, OfOneLineIsBounded) {
  for (const auto& cut : {h1_transcript::Cut(h1_transcript::Whole),
                          h1_transcript::Cut(h1_transcript::OctetByOctet)}) {
    for (const std::string extension : {"a", "a=", "a=\""}) {
      const Transcript endless =
          ReadRequests(kChunked + "1;" + extension + std::string(20000, 'a'), {}, cut);
      EXPECT_EQ(endless.error, "bad_request");
      EXPECT_EQ(endless.error_detail, "chunk extensions are too long");
      const Transcript second =
          ReadRequests(kChunked + "1\r\nx\r\n1;" + extension + std::string(20000, 'a'), {}, cut);
      EXPECT_EQ(second.error_detail, "chunk extensions are too long");
    }
  }
}

// Every line end of a message with every part is spoiled in every way.
TEST(LineEnds, AreExactlyCarriageReturnAndLineFeed) {
  const std::string rest =
      "Connection: close\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\nA: b\r\nC:\r\n\r\n"
      "5\r\nhello\r\n3;a=b\r\nabc\r\n4;c=\"d\"\r\nabcd\r\n5;e\r\nefghi\r\n0\r\nT: v\r\nU:\r\n\r\n";
  const std::string request = "POST / HTTP/1.1\r\nHost: h\r\n" + rest;
  const std::string response = "HTTP/1.1 200 OK\r\n" + rest;
  ASSERT_EQ(Requests(request).finish, "client_closed (not started)");
  ASSERT_EQ(Responses(response).finish, "upstream_closed (not started)");
  const auto spoil = [](std::string message, std::size_t at, std::string_view end) {
    return message.replace(at, 2, end);
  };
  for (const std::string_view end :
       {std::string_view("\rx"), std::string_view("\n"), std::string_view("\r\r"),
        std::string_view("\n\n"), std::string_view("\n\r"), std::string_view("\r\r\n"),
        std::string_view("\n\r\n"), std::string_view("\r \n"), std::string_view("\r\rx"),
        std::string_view("\r\0\n", 3), std::string_view("\0\r\n", 3), std::string_view("\v\r\n")}) {
    // The last one is found out by what follows.
    for (std::size_t at = 0; (at = request.find("\r\n", at)) != std::string::npos; ++at) {
      EXPECT_NE(ReadRequests(spoil(request, at, end) + "xx").error, "") << at << " " << end;
    }
    for (std::size_t at = 0; (at = response.find("\r\n", at)) != std::string::npos; ++at) {
      EXPECT_NE(ReadResponses(spoil(response, at, end) + "xx").error, "") << at << " " << end;
    }
  }
}

struct Small : Options {
  Small() { limits = {.max_head_bytes = 100, .max_fields = 3, .max_url_bytes = 20}; }
};

TEST(Limits, OfTheTarget) {
  const auto read = [](std::size_t size, const std::string& rest) {
    return Requests("GET /" + std::string(size - 1, 'a') + rest, Small());
  };
  EXPECT_EQ(read(20, " HTTP/1.1\r\nHost: h\r\n\r\n").error, "");
  EXPECT_EQ(read(21, " HTTP/1.1\r\nHost: h\r\n\r\n").error, "url_too_long");
  EXPECT_EQ(read(21, "").error, "url_too_long");
  EXPECT_EQ(read(20, "").error, "");
  EXPECT_EQ(read(5000, "").error, "url_too_long");
  // What is wrong first counts.
  EXPECT_EQ(read(20, "\x01").error, "bad_target");
  EXPECT_EQ(read(21, "\x01").error, "url_too_long");
  Options options;
  options.limits.max_head_bytes = 20;
  EXPECT_EQ(Requests("GET /" + std::string(100, 'a'), options).error, "head_too_large");
}

TEST(Limits, OfTheHead) {
  for (const std::string before : {"", "\r\n", "\r\n\r\n\r\n\r\n"}) {
    const auto read = [&](std::size_t size) {
      const std::string start = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
      return Requests(
          before + start + std::string(size - start.size() - 4, 'x') + "\r\n\r\n" + kGet, Small());
    };
    EXPECT_EQ(read(100).error, "");
    EXPECT_EQ(read(101).error, "head_too_large");
    EXPECT_EQ(read(102).error, "head_too_large");
    EXPECT_EQ(read(500).error, "head_too_large");
  }
  const std::string response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: ";
  const auto read = [&](std::size_t size) {
    return Responses(response + std::string(size - response.size() - 4, 'x') + "\r\n\r\n", Small());
  };
  EXPECT_EQ(read(100).error, "");
  EXPECT_EQ(read(101).error, "upstream_head_too_large");
  EXPECT_EQ(Responses("HTTP/1.1 200 " + std::string(500, 'x'), Small()).error,
            "upstream_head_too_large");
}

TEST(Limits, OfTheNumberOfFields) {
  const std::string line = "GET / HTTP/1.1\r\nHost: h\r\n";
  EXPECT_EQ(Requests(line + "a:\r\nb:\r\n\r\n", Small()).error, "");
  EXPECT_EQ(Requests(line + "a:\r\nb:\r\nc:\r\n\r\n", Small()).error, "too_many_fields");
  EXPECT_EQ(Responses("HTTP/1.1 200 OK\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n", Small()).error,
            "upstream_head_too_large");
}

TEST(Limits, OfTrailers) {
  const auto read = [&](std::size_t size) {
    return Requests(kChunked + "0\r\nA: " + std::string(size - 7, 'x') + "\r\n\r\n" + kGet,
                    Small());
  };
  EXPECT_EQ(read(100).error, "");
  EXPECT_EQ(read(101).error, "head_too_large");
  EXPECT_EQ(read(101).error_detail, "trailers are too large");
  EXPECT_EQ(read(500).error, "head_too_large");
  EXPECT_EQ(Requests(kChunked + "0\r\na:\r\nb:\r\nc:\r\n\r\n", Small()).error, "");
  EXPECT_EQ(Requests(kChunked + "0\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n", Small()).error,
            "too_many_fields");
}

TEST(Limits, BoundALongHeadThatIsReadOctetByOctet) {
  std::string input = "GET /" + std::string(16000, 'u') + " HTTP/1.1\r\nHost: h\r\n";
  for (int i = 0; i < 90; ++i) {
    input += "field-" + std::to_string(i) + ": " + std::string(150, 'v') + "\r\n";
  }
  input += "\r\n";
  ASSERT_LT(input.size(), 32U * 1024);
  const Transcript whole = ReadRequests(input);
  EXPECT_EQ(whole.error, "");
  EXPECT_EQ(ReadRequests(input, {}, h1_transcript::OctetByOctet).Text(), whole.Text());
}

TEST(Limits, MayBeOff) {
  Options options;
  options.limits = {
      .max_head_bytes = kUnlimited, .max_fields = kUnlimited, .max_url_bytes = kUnlimited};
  const std::string target = "/" + std::string(100000, 'u');
  const std::string field = "A: " + std::string(100000, 'v') + "\r\n";
  const std::string input = "POST " + target +
                            " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" +
                            Repeat(field, 3) + "\r\n0\r\n" + Repeat(field, 3) + "\r\n";
  const Transcript whole = ReadRequests(input, options);
  EXPECT_EQ(whole.error, "");
  EXPECT_EQ(whole.finish, "client_closed (not started)");
  EXPECT_EQ(ReadRequests(input, options, h1_transcript::OctetByOctet).Text(), whole.Text());
}

TEST(Limits, ChangeBetweenMessages) {
  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  for (const std::size_t limit : {1000U, 1U, 1000U}) {
    DecoderLimits limits;
    limits.max_fields = limit;
    decoder.SetLimits(limits);
    decoder.BeginRequest(head);
    std::string input = "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
    EXPECT_EQ(decoder.Decode(input).has_value(), limit > 1);
  }
}

TEST(Pipelining, KeepsRequestsApart) {
  std::string input;
  std::string seen;
  for (int i = 0; i < 40; ++i) {
    switch (i % 4) {
      case 0:
        input += kGet;
        seen += kGetSeen;
        break;
      case 1:
        input += kChunked + "3\r\nabc\r\n0\r\nT: v\r\n\r\n";
        seen += kChunkedSeen + "[abc]\n  +T: v\n";
        break;
      case 2:
        input += "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nGET \r\n";
        seen += "PUT / host=h 1.1 keep body=length:4\n  Host: h\n  Content-Length: 4\n[GET ]\n";
        break;
      default:
        input += "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        seen +=
            "GET / host=h 1.1 keep body=none upgrade=x\n  Host: h\n  Connection: upgrade\n"
            "  Upgrade: x\n[]\n";
        break;
    }
  }
  EXPECT_EQ(Requests(input).complete, seen);
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    const auto cut = [&](std::size_t left) {
      return 1 + random() % std::min<std::size_t>(left, 97);
    };
    ASSERT_EQ(ReadRequests(input, {}, cut).complete, seen);
  }
}

TEST(Pipelining, GoesOnAfterARequestForAnotherProtocol) {
  // What follows is read as a request once the answer was no 101; until then it is left alone.
  const std::string upgrade = "POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n";
  EXPECT_TRUE(Requests(upgrade + "\r\n" + kGet).complete.ends_with("[]\n" + kGetSeen));
  EXPECT_TRUE(Requests(upgrade + "Content-Length: 3\r\n\r\nabc" + kGet)
                  .complete.ends_with("[abc]\n" + kGetSeen));
  EXPECT_TRUE(Requests(upgrade + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + kGet)
                  .complete.ends_with("[a]\n" + kGetSeen));

  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  decoder.BeginRequest(head);
  std::string input = upgrade + "\r\n\x81\x05hello";
  auto step = decoder.Decode(input);
  ASSERT_TRUE(step);
  EXPECT_TRUE(step->head && step->end);
  EXPECT_EQ(step->consumed, upgrade.size() + 2);
}

TEST(Decoding, DeliversHeadBodyAndEndInOneStep) {
  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  decoder.BeginRequest(head);
  EXPECT_FALSE(decoder.started());
  std::string input = kChunked + "3\r\nabc\r\n3;x\r\ndef\r\n0\r\n\r\nrest";
  auto step = decoder.Decode(input);
  ASSERT_TRUE(step);
  EXPECT_TRUE(step->head);
  EXPECT_EQ(std::string_view(step->body.data(), step->body.size()), "abcdef");
  EXPECT_TRUE(step->end);
  EXPECT_EQ(input.substr(step->consumed), "rest");
}

TEST(Decoding, SaysWhatIsMissingAtTheEnd) {
  struct Case {
    std::string input;
    const char* finish;
  };
  for (const Case& c : std::vector<Case>{{"", "client_closed (not started)"},
                                         {"\r\n", "client_closed (not started)"},
                                         {"G", "client_closed (started)"},
                                         {"GET / HTTP/1.1\r\n", "client_closed (started)"},
                                         {kGet, "client_closed (not started)"},
                                         {kChunked + "3\r\nabc", "client_closed (started)"}}) {
    EXPECT_EQ(Requests(c.input).finish, c.finish) << c.input;
  }
}

TEST(Decoding, StaysFailed) {
  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  decoder.BeginRequest(head);
  std::string bad = "GET / HTTP/1.1\r\na : b\r\n\r\n";
  EXPECT_FALSE(decoder.Decode(bad));
  EXPECT_TRUE(decoder.started());
  std::string good = kGet;
  const auto again = decoder.Decode(good);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind(), ErrorKind::kBadRequest);
  EXPECT_FALSE(decoder.Finish());
}

TEST(Decoding, ServesOneHeadForThousandsOfMessages) {
  H1Decoder decoder = H1Decoder::ForResponses({});
  ResponseHead head;
  const std::string body(100000, 'b');
  const std::string input = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" +
                            body + "\r\n0\r\nT: v\r\n\r\n";
  for (int i = 0; i < 2000; ++i) {
    decoder.BeginResponse(head, Method::kGet);
    std::string copy = input;
    std::size_t seen = 0;
    std::size_t at = 0;
    bool ended = false;
    while (at < copy.size()) {
      const std::size_t size = std::min<std::size_t>(copy.size() - at, 16384);
      auto step = decoder.Decode({copy.data() + at, size});
      ASSERT_TRUE(step);
      seen += step->body.size();
      at += step->consumed;
      ended = step->end;
    }
    ASSERT_TRUE(ended);
    ASSERT_EQ(seen, body.size());
    ASSERT_EQ(head.trailers.size(), 1U);
  }
}

TEST(Decoding, MovesWithItsState) {
  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  decoder.BeginRequest(head);
  std::string first = "GET / HTT";
  ASSERT_TRUE(decoder.Decode(first));
  H1Decoder moved = std::move(decoder);
  std::string second = "P/1.1\r\nHost: h\r\n\r\n";
  auto step = moved.Decode(second);
  ASSERT_TRUE(step);
  EXPECT_TRUE(step->end);
  EXPECT_EQ(head.authority, "h");
}

// What follows each other in the input follows each other in the head, to be written in one copy.
TEST(H1Decoder, FieldsThatCameAsLinesAreLines) {
  std::string input =
      "GET / HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nEmpty: \r\nLoose:  a\r\nBlank: a \r\nLast: "
      "b\r\n\r\n";
  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  decoder.BeginRequest(head);
  ASSERT_TRUE(decoder.Decode(input));
  std::string lines;
  for (const Field& field : head.fields) {
    lines += field.is_line ? std::string(field.line()) : "-";
  }
  EXPECT_EQ(lines, "Host: h\r\nAccept: */*\r\n---Last: b\r\n");
  const Field* host = head.fields.Find(FieldId::kHost);
  EXPECT_EQ(host->line().data() + host->line().size(), head.fields.Find("Accept")->name.data());
}

}  // namespace
}  // namespace tidegate
