#include "proxy/error_page.h"

#include <cctype>
#include <initializer_list>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "proxy/http/h1_encoder.h"

namespace tidegate {
namespace {

constexpr AnswerContext kContext = {.request_id = "id0", .date = "now"};

std::string ValueOf(const ResponseHead& head, std::string_view name) {
  const Field* field = head.fields.Find(name);
  return field == nullptr ? "none" : std::string(field->value);
}

TEST(ErrorPageTest, MakesASmallPage) {
  ResponseHead head;
  head.fields.Add("Old", "gone");
  std::string body = MakeErrorAnswer(ErrorKind::kUpstreamRefused, "", kContext, head);
  EXPECT_EQ(body, "502 Bad Gateway\nRequest id0\n");
  EXPECT_EQ(head.status, 502);
  EXPECT_EQ(head.reason, "Bad Gateway");
  EXPECT_EQ(head.body, BodyKind::kLength);
  EXPECT_EQ(head.content_length, body.size());
  EXPECT_EQ(ValueOf(head, "Proxy-Status"), "tidegate; error=connection_refused");
  EXPECT_EQ(ValueOf(head, "Content-Type"), "text/plain; charset=utf-8");
  EXPECT_EQ(ValueOf(head, "X-Request-Id"), "id0");
  EXPECT_EQ(ValueOf(head, "Date"), "now");
  EXPECT_EQ(ValueOf(head, "Old"), "none");
  EXPECT_EQ(ValueOf(head, "Allow"), "none");
  EXPECT_EQ(ValueOf(head, "Retry-After"), "none");
  EXPECT_EQ(head.fields.size(), 4u);
}

TEST(ErrorPageTest, SaysWhatIsAllowed) {
  ResponseHead head;
  MakeErrorAnswer(ErrorKind::kMethodNotAllowed, "GET, HEAD", kContext, head);
  EXPECT_EQ(head.status, 405);
  EXPECT_EQ(ValueOf(head, "Allow"), "GET, HEAD");
}

TEST(ErrorPageTest, SaysWhenToComeBack) {
  ResponseHead head;
  MakeErrorAnswer(ErrorKind::kQueueFull, "", kContext, head);
  EXPECT_EQ(head.status, 503);
  EXPECT_EQ(ValueOf(head, "Retry-After"), "1");
  MakeErrorAnswer(ErrorKind::kUpstreamUnresolved, "", kContext, head);
  EXPECT_EQ(ValueOf(head, "Retry-After"), "5");
}

TEST(ErrorPageTest, DoesWithoutARequestId) {
  ResponseHead head;
  std::string body =
      MakeErrorAnswer(ErrorKind::kRequestHeadTimeout, "", {.request_id = "", .date = "now"}, head);
  EXPECT_EQ(body, "408 Request Timeout\n");
  EXPECT_EQ(ValueOf(head, "X-Request-Id"), "none");
}

TEST(ErrorPageTest, HasAWellFormedPageForEveryRow) {
  for (std::size_t kind = 0; kind < ErrorCount(); ++kind) {
    const ErrorRow& row = RowOf(static_cast<ErrorKind>(kind));
    ResponseHead head;
    std::string body = MakeErrorAnswer(row.kind, "GET", kContext, head);
    EXPECT_EQ(head.status, row.status == 0 ? 500 : row.status) << row.log_name;
    EXPECT_EQ(head.content_length, body.size()) << row.log_name;
    // RFC 9209 section 2.1.1: error is a token (RFC 8941 section 3.3.4).
    std::string status = ValueOf(head, "Proxy-Status");
    EXPECT_TRUE(status.starts_with("tidegate; error=")) << status;
    for (char c : status.substr(16)) {
      EXPECT_TRUE(std::islower(c) != 0 || c == '_') << status;
    }
    EXPECT_EQ(ValueOf(head, "Retry-After") != "none", head.status == 503) << row.log_name;
  }
}

TEST(ErrorPageTest, RespondsAsConfigured) {
  ResponseHead head;
  RespondAction action = {.status = 200, .body = "pong\n", .headers = {}};
  EXPECT_EQ(MakeRespondAnswer(action, kContext, head), "pong\n");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.content_length, 5u);
  EXPECT_EQ(ValueOf(head, "Content-Type"), "text/plain; charset=utf-8");
  EXPECT_EQ(ValueOf(head, "X-Request-Id"), "id0");
  EXPECT_EQ(ValueOf(head, "Date"), "now");
  EXPECT_EQ(ValueOf(head, "Proxy-Status"), "none");
}

TEST(ErrorPageTest, LetsTheConfigurationReplaceOurFields) {
  ResponseHead head;
  RespondAction action = {.status = 418,
                          .body = "{}",
                          .headers = {{"content-type", "application/json"},
                                      {"date", "theirs"},
                                      {"Set-Cookie", "a"},
                                      {"Set-Cookie", "b"}}};
  EXPECT_EQ(MakeRespondAnswer(action, kContext, head), "{}");
  EXPECT_EQ(ValueOf(head, "Content-Type"), "application/json");
  EXPECT_EQ(ValueOf(head, "Date"), "theirs");
  EXPECT_EQ(head.fields.size(), 5u);
}

TEST(ErrorPageTest, RespondsWithoutABodyWhereThereIsNone) {
  ResponseHead head;
  for (int status : {204, 304}) {
    RespondAction action = {.status = status, .body = "ignored", .headers = {}};
    EXPECT_EQ(MakeRespondAnswer(action, kContext, head), "");
    EXPECT_EQ(head.body, BodyKind::kNone);
    EXPECT_EQ(ValueOf(head, "Content-Type"), "none");
  }
  EXPECT_EQ(MakeRespondAnswer({.status = 205, .body = "x", .headers = {}}, kContext, head), "");
  EXPECT_EQ(head.body, BodyKind::kLength);
  EXPECT_EQ(head.content_length, 0u);
  EXPECT_EQ(MakeRespondAnswer({.status = 200, .body = "", .headers = {}}, kContext, head), "");
  EXPECT_EQ(head.body, BodyKind::kLength);
}

TEST(ErrorPageTest, RedirectsToWhereTheFileSays) {
  struct Case {
    std::string_view to;
    std::string_view target;
    std::string_view location;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"https://example.org", "/a/b?c=%20d", "https://example.org/a/b?c=%20d"},
           {"https://example.org:8443", "/", "https://example.org:8443/"},
           {"https://[::1]", "/a", "https://[::1]/a"},
           {"//example.org", "/a", "//example.org/a"},
           {"https://example.org", "//evil.org", "https://example.org//evil.org"},
           {"https://example.org", "*", "https://example.org/"},
           {"https://example.org/", "/a/b", "https://example.org/"},
           {"https://example.org/new", "/a/b?c", "https://example.org/new"},
           {"https://example.org?x", "/a", "https://example.org?x"},
           {"https://example.org#x", "/a", "https://example.org#x"},
           {"/new", "/a", "/new"},
           {"/new//x", "/a", "/new//x"},
           {"new", "/a", "new"},
           {"https://example.org", "/\xc3\xa4\"<\r\n x",
            "https://example.org/%C3%A4%22%3C%0D%0A%20x"},
       }) {
    EXPECT_EQ(RedirectLocation(c.to, c.target), c.location) << c.to << " with " << c.target;
  }
}

TEST(ErrorPageTest, RedirectsWithAShortNote) {
  ResponseHead head;
  RedirectAction action = {.to = "https://example.org", .status = 308};
  std::string body = MakeRedirectAnswer(action, "/x", kContext, head);
  EXPECT_EQ(head.status, 308);
  EXPECT_EQ(ValueOf(head, "Location"), "https://example.org/x");
  EXPECT_EQ(body, "308 Permanent Redirect\nhttps://example.org/x\n");
  EXPECT_EQ(head.content_length, body.size());
  EXPECT_EQ(ValueOf(head, "X-Request-Id"), "id0");
}

TEST(ErrorPageTest, AnswersOptionsAtTheLastHop) {
  ResponseHead head;
  EXPECT_EQ(MakeOptionsAnswer("GET, HEAD", kContext, head), "");
  EXPECT_EQ(head.status, 204);
  EXPECT_EQ(head.body, BodyKind::kNone);
  EXPECT_EQ(ValueOf(head, "Allow"), "GET, HEAD");
  MakeOptionsAnswer("", kContext, head);
  EXPECT_EQ(ValueOf(head, "Allow"), "none");
}

}  // namespace
}  // namespace tidegate
