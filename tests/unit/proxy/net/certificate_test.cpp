#include "proxy/net/certificate.h"

#include <ctime>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/test_certificates.h"

namespace tidegate {
namespace {

constexpr std::int64_t kDay = 86400;

// The faults of what is read, one a line.
std::string FaultsOf(const CertificateMaterial& material) {
  std::vector<std::string> faults;
  bool read = ReadCertificate(material, faults).has_value();
  EXPECT_EQ(read, faults.empty());
  std::string text;
  for (const std::string& fault : faults) {
    text += (text.empty() ? "" : "\n") + fault;
  }
  EXPECT_EQ(ERR_peek_error(), 0UL) << "nothing stays in OpenSSL's queue";
  return text;
}

// As a leaf.pem, from a certificate and a key.
CertificateMaterial Leaf(std::string chain, std::string key) {
  return {
      .hosts = {}, .name = "leaf.pem", .chain_pem = std::move(chain), .key_pem = std::move(key)};
}

TEST(Certificate, IsReadWithItsChainItsKeyAndItsNames) {
  TestCertificate root = MakeTestCertificate({.hosts = {"root"}, .is_authority = true}, true);
  TestCertificate middle =
      MakeTestCertificate({.hosts = {"middle"}, .issuer = &root, .is_authority = true}, true);
  TestCertificate leaf = MakeTestCertificate(
      {.hosts = {"Example.ORG", "*.example.org", "example.org"}, .issuer = &middle}, true);
  std::vector<std::string> faults;
  auto read =
      ReadCertificate(Leaf(PemOf(leaf) + PemOf(middle) + PemOf(root), KeyPemOf(leaf)), faults);
  ASSERT_TRUE(read.has_value()) << faults.front();
  EXPECT_EQ(read->hosts, (std::vector<std::string>{"example.org", "*.example.org"}));
  EXPECT_EQ(sk_X509_num(read->chain.get()), 2);
  EXPECT_EQ(read->key_type, EVP_PKEY_EC);
}

TEST(Certificate, OfEveryServedKindOfKeyIsRead) {
  for (const char* key : {"RSA-2048", "P-256", "P-384", "P-521", "Ed25519"}) {
    EXPECT_EQ(FaultsOf(TestMaterial({.key = key})), "") << key;
  }
}

TEST(Certificate, WithABundleOfRootsBehindItIsRefused) {
  TestCertificate leaf = MakeTestCertificate({});
  std::string issuers;
  for (int i = 0; i < 10; ++i) {
    issuers += PemOf(leaf);
  }
  EXPECT_NE(FaultsOf(Leaf(PemOf(leaf) + issuers, KeyPemOf(leaf)))
                .find("it has 11 certificates, 10 are the most"),
            std::string::npos);
  std::string much(64 * 1024 + 1, '\n');
  EXPECT_EQ(FaultsOf(Leaf(much, KeyPemOf(leaf))),
            "leaf.pem: its chain has 65537 bytes, 65536 are the most: is it a bundle of roots?");
}

TEST(Certificate, ThatIsNoneIsRefused) {
  TestCertificate leaf = MakeTestCertificate({});
  EXPECT_EQ(FaultsOf(Leaf("", KeyPemOf(leaf))),
            "leaf.pem: there is no certificate in it (\"-----BEGIN CERTIFICATE-----\")");
  std::string broken = PemOf(leaf);
  broken[60] = '*';
  EXPECT_TRUE(FaultsOf(Leaf(broken, KeyPemOf(leaf)))
                  .starts_with("leaf.pem: certificate 1 of the file cannot be read: "));
  EXPECT_TRUE(FaultsOf(Leaf(PemOf(leaf) + broken, KeyPemOf(leaf)))
                  .starts_with("leaf.pem: certificate 2 of the file cannot be read: "));
}

TEST(Certificate, InAChainOfTheWrongOrderIsRefused) {
  TestCertificate root = MakeTestCertificate({.hosts = {"root"}, .is_authority = true}, true);
  TestCertificate middle =
      MakeTestCertificate({.hosts = {"middle"}, .issuer = &root, .is_authority = true}, true);
  TestCertificate leaf = MakeTestCertificate({.hosts = {"leaf"}, .issuer = &middle}, true);
  std::string faults = FaultsOf(Leaf(PemOf(leaf) + PemOf(root) + PemOf(middle), KeyPemOf(leaf)));
  EXPECT_EQ(faults,
            "leaf.pem: certificate 2 of the file (root) has not issued the one before it (leaf); "
            "put the server's first, then who issued it\n"
            "leaf.pem: certificate 3 of the file (middle) has not issued the one before it (root); "
            "put the server's first, then who issued it");
}

TEST(Certificate, WithoutItsKeyIsRefused) {
  TestCertificate leaf = MakeTestCertificate({});
  TestCertificate other = MakeTestCertificate({.key = "P-384"});
  EXPECT_TRUE(
      FaultsOf(Leaf(PemOf(leaf), "no key")).starts_with("leaf.pem: its key cannot be read: "));
  EXPECT_EQ(FaultsOf(Leaf(PemOf(leaf), KeyPemOf(leaf, "secret"))),
            "leaf.pem: its key is encrypted; give it without a pass phrase");
  EXPECT_EQ(FaultsOf(Leaf(PemOf(leaf), KeyPemOf(other))),
            "leaf.pem: the key belongs to another certificate");
}

TEST(Certificate, ThatNoClientTakesIsRefused) {
  EXPECT_EQ(FaultsOf(TestMaterial({.key = "RSA-1024"}, {}, "weak.pem")),
            "weak.pem: its RSA key has 1024 bits; 2048 are the least");
  EXPECT_EQ(FaultsOf(TestMaterial({.key = "secp256k1"}, {}, "curve.pem")),
            "curve.pem: its key is on the curve secp256k1; use P-256, P-384 or P-521");
  for (const EVP_MD* digest : {EVP_sha1(), EVP_md5()}) {
    EXPECT_EQ(FaultsOf(TestMaterial({.key = "RSA-2048", .digest = digest}, {}, "old.pem")),
              "old.pem: it is signed with SHA-1 or MD5, which no client takes");
  }
}

TEST(Certificate, WithAnIssuerThatNoClientTakesIsRefused) {
  const std::string where = "leaf.pem: certificate 2 of the file (middle): ";
  TestCertificate root =
      MakeTestCertificate({.hosts = {"root"}, .digest = EVP_sha1(), .is_authority = true}, true);
  auto faults = [&](const TestCertificateWish& wish) {
    TestCertificate middle = MakeTestCertificate(wish, true);
    TestCertificate leaf = MakeTestCertificate({.issuer = &middle}, true);
    return FaultsOf(Leaf(PemOf(leaf) + PemOf(middle) + PemOf(root), KeyPemOf(leaf)));
  };
  TestCertificateWish wish{.hosts = {"middle"}, .issuer = &root, .is_authority = true};
  EXPECT_EQ(faults(wish), "") << "who signed itself is not judged by how";
  wish.digest = EVP_sha1();
  EXPECT_EQ(faults(wish), where + "it is signed with SHA-1 or MD5, which no client takes");
  wish.digest = EVP_sha256();
  wish.key = "RSA-1024";
  EXPECT_EQ(faults(wish), where + "its RSA key has 1024 bits; 2048 are the least");
}

TEST(Certificate, MustNameTheHostsThatItIsGivenFor) {
  TestCertificateWish wish{.hosts = {"example.org", "*.wild.example"}};
  EXPECT_EQ(FaultsOf(TestMaterial(wish, {"example.org", "a.wild.example", "*.wild.example"})), "");
  EXPECT_EQ(FaultsOf(TestMaterial(wish, {"a.b.wild.example", "*.example.org"}, "c.pem")),
            "c.pem: it is not for a.b.wild.example; it names example.org, *.wild.example\n"
            "c.pem: it is not for *.example.org; it names example.org, *.wild.example");
  EXPECT_EQ(FaultsOf(TestMaterial({.with_alternative_names = false}, {"example.org"}, "cn.pem")),
            "cn.pem: it is not for example.org; it names no host")
      << "the common name is none (RFC 9525)";
}

TEST(Certificate, WarnsOfItsDates) {
  std::int64_t now = std::time(nullptr);
  auto warnings = [&](std::int64_t begins_in, std::int64_t ends_in) {
    std::vector<std::string> found;
    std::vector<std::string> faults;
    TestCertificateWish wish{.begins_in = begins_in, .ends_in = ends_in};
    WarnOfDates(*ReadCertificate(TestMaterial(wish, {}, "c.pem"), faults), now, found);
    return found.empty() ? "" : found.front();
  };
  auto date = [&](std::int64_t offset) {
    std::time_t time = now + offset;
    char text[32];
    std::tm parts{};
    gmtime_r(&time, &parts);
    std::strftime(text, sizeof(text), "%Y-%m-%d", &parts);
    return std::string(text);
  };
  EXPECT_EQ(warnings(-kDay, 15 * kDay), "");
  EXPECT_EQ(warnings(-9 * kDay, -2 * kDay),
            "c.pem: the certificate example.org expired on " + date(-2 * kDay));
  EXPECT_EQ(warnings(3 * kDay, 90 * kDay),
            "c.pem: the certificate example.org is not valid before " + date(3 * kDay));
  EXPECT_EQ(warnings(-kDay, 13 * kDay),
            "c.pem: the certificate example.org expires on " + date(13 * kDay));
}

}  // namespace
}  // namespace tidegate
