#include "common/config_words.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using namespace std::string_literals;
using Check = Result<std::string> (*)(std::string_view);

void ExpectTaken(Check check, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    EXPECT_TRUE(check(text)) << text << ": " << check(text).error().detail();
  }
}

void ExpectRefused(Check check, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    EXPECT_FALSE(check(text)) << text;
  }
}

TEST(ConfigWords, NamesAreVisibleAscii) {
  ExpectTaken(&CheckName, {"a", "api.v1", "*/x?y", std::string(255, 'x')});
  ExpectRefused(&CheckName, {"", "a b", "a\"b", "a\\b", "\xc3\xa4", "a\n", std::string(256, 'x')});
}

TEST(ConfigWords, EveryTextBecomesAName) {
  for (const std::string& text : {"unix:/run/a b.sock"s, "/a\"b\\c"s, std::string(1000, 'x')}) {
    EXPECT_TRUE(CheckName(NameFrom(text))) << text;
  }
}

TEST(ConfigWords, HostsHaveNeitherPortNorPath) {
  ExpectTaken(&CheckHostPattern, {"example.org", "*.example.org", "localhost", "192.0.2.1", "[::1]",
                                  "a_b.c", "systemd"});
  ExpectRefused(&CheckHostPattern,
                {"",         "*",   "*.",          "a.*.b",    "*a.b",  "**.a",     "a:80",
                 "[::1]:80", "::1", "a/b",         "http://a", ".a",    "a.",       "a..b",
                 "a b",      "-a",  "\xc3\xa4.de", "*.[::1]",  "1.2.3", "256.1.1.1"});
  EXPECT_EQ(CheckHostPattern("*.Example.ORG"), "*.example.org");
}

TEST(ConfigWords, AServerHasOneName) {
  ExpectTaken(&CheckServerName, {"example.org", "localhost", "192.0.2.1", "[2001:db8::1]"});
  ExpectRefused(&CheckServerName, {"", "*", "*.example.org", "a:80", "https://a", "a."});
  EXPECT_EQ(CheckServerName("App.Internal"), "app.internal");
}

TEST(ConfigWords, PathsAreWhatARequestCanSend) {
  ExpectTaken(&CheckPathPrefix, {"/", "/v1/", "//", "/a%20b", "/*/x", "/a;b=c"});
  ExpectRefused(&CheckPathPrefix,
                {"", "a", "*", "/a?b", "/a#b", "/a b", "/\xc3\xa4", "/a\n", "/api/*"});
}

TEST(ConfigWords, MethodsAreUpperCaseTokens) {
  ExpectTaken(&CheckMethod, {"GET", "PROPFIND", "M-SEARCH"});
  ExpectRefused(&CheckMethod, {"", "get", "Post", "GTE", "A B", "G\n"});
}

TEST(ConfigWords, RulesCannotTouchFraming) {
  for (const char* name : {"Connection", "content-length", "KEEP-ALIVE", "Transfer-Encoding", "TE",
                           "Upgrade", "Trailer", "Proxy-Connection", "", "a b", "a:"}) {
    EXPECT_FALSE(CheckHeaderRule(name, true)) << name;
  }
  EXPECT_TRUE(CheckHeaderRule("host", true));
  EXPECT_FALSE(CheckHeaderRule("host", false));
  EXPECT_EQ(CheckHeaderRule("X-Own", false), "X-Own");
}

TEST(ConfigWords, CredentialsAreNeverLogged) {
  ExpectTaken(&CheckLoggedHeader, {"User-Agent", "X-Cookie"});
  ExpectRefused(&CheckLoggedHeader,
                {"authorization", "Cookie", "SET-COOKIE", "Proxy-Authorization", "a b"});
}

TEST(ConfigWords, HeaderValuesCannotEndTheirLine) {
  ExpectTaken(&CheckHeaderValue, {"", "a b", "\xc3\xa4"});
  ExpectRefused(&CheckHeaderValue, {"a\r\nb", "a\n", " a", "a ", "a\0b"s});
}

TEST(ConfigWords, LocationsAreUrlsOrPaths) {
  ExpectTaken(&CheckLocation,
              {"/", "//other.example/x", "https://example.org", "http://example.org:8080/a?b#c",
               "https://[::1]/", "https://[::1]:8080"});
  ExpectRefused(&CheckLocation,
                {"", "example.org", "ftp://a", "https://", "https:///x", "https://a b",
                 "/a\r\nX: y", "https://:80/", "https://user@a/", "/\xc3\xa4"});
}

TEST(ConfigWords, AMisspeltStreamIsNotAFile) {
  ExpectTaken(&CheckErrorLog, {"stderr", "/var/log/x", "./x"});
  ExpectRefused(&CheckErrorLog, {"", "stdout", "stder", "x", "/var/log/", "/a\0b"s});
  ExpectTaken(&CheckAccessLog, {"stderr", "stdout", "logs/access.log"});
  ExpectRefused(&CheckAccessLog, {"std", "access.log"});
}

TEST(ConfigWords, UsersAndParametersAreSingleWords) {
  ExpectTaken(&CheckUser, {"tidegate", "www-data", "1000"});
  ExpectRefused(&CheckUser, {"", "a b", "-a", "a:b", std::string(65, 'x')});
  ExpectTaken(&CheckParameterName, {"token", "a[]", "%20"});
  ExpectRefused(&CheckParameterName, {"", "a=b", "a&b", "a b", "\xc3\xa4"});
}

}  // namespace
}  // namespace tidegate
