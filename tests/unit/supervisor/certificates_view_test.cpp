#include "supervisor/certificates_view.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace tidegate {
namespace {

using Json = nlohmann::json;

std::string Shown(const char* data, bool detailed = false) {
  return CertificatesText(Json::parse(data), Output(1, ColorMode::kNever), detailed);
}

constexpr const char* kData = R"({"watched":true,"certificates":[
  {"file":"/a.pem","hosts":["a.example","b.example","c.example"],"kind":"RSA 2048","days_left":12,
   "issuer":"CN=An authority whose name is long,O=Example","not_after":"2027-01-02T03:04:05Z",
   "ocsp":{"sent":true}},
  {"file":"/b.pem","hosts":[],"kind":"Ed25519","days_left":-1,"issuer":"CN=x",
   "not_after":"2026-01-02T03:04:05Z","ocsp":{"sent":false}}]})";

TEST(CertificatesView, IsALineForEach) {
  EXPECT_EQ(Shown(kData),
            "HOSTS         KIND      NOT AFTER   DAYS     OCSP      ISSUER                         "
            "   FILE\n"
            "a.example +2  RSA 2048  2027-01-02  12       stapled   CN=An authority whose name "
            "is...  /a.pem\n"
            "(no name)     Ed25519   2026-01-02  expired  not sent  CN=x                           "
            "   /b.pem\n"
            "\n"
            "2 certificates, loaded when their files change\n");
  const std::string detailed = Shown(kData, true);
  EXPECT_NE(detailed.find("a.example,b.example,c.example"), std::string::npos);
  EXPECT_NE(detailed.find("CN=An authority whose name is long,O=Example"), std::string::npos);
}

TEST(CertificatesView, DoesWithoutWhatIsMissingOrMakesNoSense) {
  EXPECT_EQ(Shown("{}"), "0 certificates\n");
  EXPECT_EQ(Shown(R"({"certificates":7,"watched":"x"})"), "0 certificates\n");
  const std::string text = Shown(
      R"({"certificates":[{"hosts":[1,"a\u001b"],"days_left":"x","ocsp":1,"file":"/a\nb"},{}]})",
      true);
  EXPECT_NE(text.find("?,a?"), std::string::npos) << text;
  EXPECT_NE(text.find("/a?b"), std::string::npos) << text;
}

TEST(CertificatesView, InStatusWhatEndsFirstIsFirst) {
  const Output output(1, ColorMode::kNever);
  EXPECT_EQ(CertificatesInStatus(Json::parse(kData), output, false),
            "\n"
            "CERTIFICATE   NOT AFTER   DAYS\n"
            "(no name)     2026-01-02  expired\n"
            "a.example +2  2027-01-02  12\n");
  EXPECT_EQ(CertificatesInStatus(Json::parse("{}"), output, true), "");
  Json many = {{"certificates", Json::array({7})}};
  for (int i = 0; i < 30; ++i) {
    many["certificates"].push_back({{"hosts", {"x"}}, {"days_left", 100 - i}, {"file", "/x.pem"}});
  }
  const std::string text = CertificatesInStatus(many, output, false);
  EXPECT_NE(text.find("\nx            71\n"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\nand 21 certificates that are good for longer\n")) << text;
  const std::string all = CertificatesInStatus(many, output, true);
  EXPECT_NE(all.find("/x.pem"), std::string::npos);
  EXPECT_EQ(all.find("for longer"), std::string::npos);
}

}  // namespace
}  // namespace tidegate
