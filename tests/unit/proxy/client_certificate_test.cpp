#include "proxy/client_certificate.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

std::vector<std::string> LinesOf(const ClientCertificate& certificate) {
  std::vector<std::string> lines;
  for (const Field& field : certificate.fields()) {
    EXPECT_TRUE(field.is_line);
    lines.emplace_back(field.line());
  }
  return lines;
}

TEST(ClientCertificate, IsToldInThreeFields) {
  ClientCertificate certificate({.verify = "SUCCESS",
                                 .subject = "CN=Ann,O=Example",
                                 .der = std::string("\x00\xff\x10z", 4),
                                 .authorities = std::make_shared<Authorities>(3)});
  EXPECT_TRUE(certificate.shown() && certificate.verified());
  EXPECT_EQ(certificate.authorities().size(), 3U);
  EXPECT_EQ(LinesOf(certificate),
            (std::vector<std::string>{"X-Client-Cert-Verify: SUCCESS\r\n",
                                      "X-Client-Cert-Subject: CN=Ann,O=Example\r\n",
                                      "Client-Cert: :AP8Qeg==:\r\n"}));
}

TEST(ClientCertificate, ThatNobodyHasVouchedForHasNoName) {
  ClientCertificate failed({.verify = "FAILED:expired", .subject = "CN=root", .der = "x"});
  EXPECT_EQ(LinesOf(failed), std::vector<std::string>{"X-Client-Cert-Verify: FAILED:expired\r\n"});
  EXPECT_TRUE(failed.shown() && !failed.verified());
  ClientCertificate none(PeerCertificate{.verify = "NONE"});
  EXPECT_EQ(LinesOf(none), std::vector<std::string>{"X-Client-Cert-Verify: NONE\r\n"});
  EXPECT_FALSE(none.shown() || none.verified());
}

TEST(ClientCertificate, CannotEndALine) {
  EXPECT_EQ(
      LinesOf(ClientCertificate({.verify = "SUCCESS", .subject = "CN=a\r\nX-Evil: \xc3\xa4\t"}))[1],
      "X-Client-Cert-Subject: CN=a??X-Evil: ???\r\n");
}

TEST(ClientCertificate, HasNamesThatNothingElsePassesFor) {
  for (const char* name :
       {"Client-Cert", "client_cert", "CLIENT-CERT-CHAIN", "X-Client-Cert-Verify",
        "x_client_cert.subject", "X-Client-Cert-Fingerprint", "X-Client-Cert"}) {
    EXPECT_TRUE(PassesForClientCertificate(name)) << name;
  }
  for (const char* name : {"", "Client-Certainly", "X-Client-Certificate", "Client-Cer",
                           "Clientxcert", "Y-Client-Cert", "X-Client-Cart"}) {
    EXPECT_FALSE(PassesForClientCertificate(name)) << name;
  }
}

}  // namespace
}  // namespace tidegate
