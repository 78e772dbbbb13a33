#include "proxy/net/ocsp_response.h"

#include <ctime>
#include <limits>
#include <string>

#include <openssl/ocsp.h>

#include "common/text.h"
#include "tests/support/tls_rig.h"

namespace tidegate {
namespace {

constexpr std::int64_t kDay = 86400;

struct Wish {
  int status = V_OCSP_CERTSTATUS_GOOD;
  std::int64_t from = -60;
  // Nothing: the responder does not say.
  std::optional<std::int64_t> until = 7 * kDay;
  const EVP_MD* digest = EVP_sha1();
};

// What a responder of `issuer` says about `about`, in DER.
std::string Response(const TestCertificate& issuer, const TestCertificate& about, Wish wish = {}) {
  OCSP_BASICRESP* basic = OCSP_BASICRESP_new();
  OCSP_CERTID* id = OCSP_cert_to_id(wish.digest, about.certificate.get(), issuer.certificate.get());
  ASN1_TIME* from = X509_gmtime_adj(nullptr, wish.from);
  ASN1_TIME* until = wish.until ? X509_gmtime_adj(nullptr, *wish.until) : nullptr;
  ASN1_TIME* revoked = X509_gmtime_adj(nullptr, -kDay);
  OCSP_basic_add1_status(basic, id, wish.status, 0,
                         wish.status == V_OCSP_CERTSTATUS_REVOKED ? revoked : nullptr, from, until);
  OCSP_basic_sign(basic, issuer.certificate.get(), issuer.key.get(), EVP_sha256(), nullptr, 0);
  OCSP_RESPONSE* whole = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
  unsigned char* der = nullptr;
  int size = i2d_OCSP_RESPONSE(whole, &der);
  TG_CHECK(size > 0);
  std::string octets(reinterpret_cast<char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  OCSP_RESPONSE_free(whole);
  OCSP_BASICRESP_free(basic);
  OCSP_CERTID_free(id);
  ASN1_TIME_free(from);
  ASN1_TIME_free(until);
  ASN1_TIME_free(revoked);
  return octets;
}

class OcspResponseTest : public TlsRig {
 protected:
  OcspResponseTest()
      : issuer(MakeTestCertificate({.hosts = {"ca"}, .is_authority = true}, true)),
        leaf(MakeTestCertificate({.hosts = {"example.org"}, .issuer = &issuer})) {}

  OcspResponse Read(const std::string& der, bool with_issuer = true) {
    auto read = ReadOcspResponse("site.ocsp", ToBase64(der), leaf.certificate.get(),
                                 with_issuer ? issuer.certificate.get() : nullptr);
    TG_CHECK(read.has_value());
    return std::move(*read);
  }

  std::int64_t now = std::time(nullptr);
  TestCertificate issuer;
  TestCertificate leaf;
};

TEST_F(OcspResponseTest, MayBeSentBetweenItsDates) {
  OcspResponse response = Read(Response(issuer, leaf));
  EXPECT_EQ(response.fault, "");
  EXPECT_TRUE(response.MayBeSent(now));
  EXPECT_FALSE(response.MayBeSent(now - kDay));
  EXPECT_FALSE(response.MayBeSent(now + 8 * kDay));
  EXPECT_TRUE(Read(Response(issuer, leaf), false).MayBeSent(now));
  EXPECT_TRUE(Read(Response(issuer, leaf, {.digest = EVP_sha256()})).MayBeSent(now));
  EXPECT_EQ(Read(Response(issuer, leaf, {.until = std::nullopt})).until,
            std::numeric_limits<std::int64_t>::max());
}

TEST_F(OcspResponseTest, AboutAnotherCertificateIsNotSent) {
  TestCertificate other = MakeTestCertificate({.hosts = {"example.org"}, .issuer = &issuer});
  TestCertificate namesake = MakeTestCertificate({.hosts = {"ca"}, .is_authority = true}, true);
  for (const std::string& der : {Response(issuer, other), Response(namesake, leaf)}) {
    OcspResponse response = Read(der);
    EXPECT_EQ(response.fault, "the OCSP response is about another certificate");
    EXPECT_FALSE(response.MayBeSent(now));
  }
}

TEST_F(OcspResponseTest, ThatIsNotGoodIsNotSent) {
  EXPECT_EQ(Read(Response(issuer, leaf, {.status = V_OCSP_CERTSTATUS_REVOKED})).fault,
            "the OCSP response says that the certificate is revoked");
  EXPECT_EQ(Read(Response(issuer, leaf, {.status = V_OCSP_CERTSTATUS_UNKNOWN})).fault,
            "the OCSP response says that the certificate is unknown");
  // An answer without a response: OCSPResponse { tryLater }.
  EXPECT_EQ(Read(std::string("\x30\x03\x0a\x01\x03", 5)).fault,
            "the OCSP responder answered \"trylater\"");
}

TEST_F(OcspResponseTest, ThatIsNoneIsAFault) {
  const std::string good = Response(issuer, leaf);
  for (const std::string& der : {std::string("0"), good.substr(0, good.size() / 2), good + "x"}) {
    auto read = ReadOcspResponse("site.ocsp", ToBase64(der), leaf.certificate.get(), nullptr);
    ASSERT_FALSE(read.has_value());
    EXPECT_EQ(read.error().detail(), "site.ocsp: is no OCSP response in DER");
  }
  EXPECT_FALSE(ReadOcspResponse("x", "no base64!", leaf.certificate.get(), nullptr).has_value());
}

TEST_F(OcspResponseTest, IsStapledForWhoAsks) {
  const std::string der = Response(issuer, leaf);
  auto use = [&](const std::string& response) {
    std::vector<CertificateMaterial> materials = {{.name = "site.pem",
                                                   .chain_pem = PemOf(leaf) + PemOf(issuer),
                                                   .key_pem = KeyPemOf(leaf),
                                                   .ocsp_name = "site.ocsp",
                                                   .ocsp_base64 = ToBase64(response)}};
    auto store = CertificateStore::Make(materials);
    TG_CHECK(store.has_value());
    tls = *ServerTls::Make(TlsProfile::kIntermediate, *store, {}, keys, rotation);
    return (*store)->Warnings(now);
  };
  auto stapled = [&] {
    const unsigned char* got = nullptr;
    long size = SSL_get_tlsext_status_ocsp_resp(client->ssl(), &got);
    return size > 0
               ? std::string(reinterpret_cast<const char*>(got), static_cast<std::size_t>(size))
               : std::string();
  };
  EXPECT_TRUE(use(der).empty());
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Connect({.newest = version, .status_request = true});
    ASSERT_TRUE(Shake());
    EXPECT_EQ(stapled(), der);
    Connect({.newest = version});
    ASSERT_TRUE(Shake());
    EXPECT_EQ(stapled(), "");
  }
  const std::vector<std::string> warnings =
      use(Response(issuer, leaf, {.from = -2 * kDay, .until = -kDay}));
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_TRUE(warnings[0].starts_with("site.ocsp: the OCSP response expired on ")) << warnings[0];
  EXPECT_TRUE(warnings[0].ends_with(", and is not sent")) << warnings[0];
  Connect({.status_request = true});
  ASSERT_TRUE(Shake());
  EXPECT_EQ(stapled(), "");
}

}  // namespace
}  // namespace tidegate
