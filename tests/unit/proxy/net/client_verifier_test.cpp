#include "proxy/net/client_verifier.h"

#include <ctime>
#include <string>

#include "tests/support/tls_rig.h"

namespace tidegate {
namespace {

constexpr std::int64_t kDay = 86400;

class ClientVerifierTest : public TlsRig {
 protected:
  ClientVerifierTest()
      : authority(MakeTestCertificate({.hosts = {"ca"}, .is_authority = true}, true)),
        stranger(MakeTestCertificate({.hosts = {"stranger"}, .is_authority = true}, true)) {}

  std::shared_ptr<const ServerTls> Asking(const TestCertificate& by, bool required) {
    auto verifier = ClientVerifier::Make("ca.pem", PemOf(by), required);
    TG_CHECK(verifier.has_value());
    auto made =
        ServerTls::Make(TlsProfile::kIntermediate, Certificates(), {}, keys, rotation, *verifier);
    TG_CHECK(made.has_value());
    return *made;
  }
  TestCertificate Signed(const TestCertificate& by, std::string name = "ann",
                         std::int64_t ends_in = 30 * kDay) {
    return MakeTestCertificate({.hosts = {std::move(name)}, .ends_in = ends_in, .issuer = &by});
  }
  bool ShakeWith(const TestCertificate* own, int version, SSL_SESSION* session = nullptr) {
    TlsClientWish wish{.newest = version, .session = session};
    if (own != nullptr) {
      wish.certificate = own->certificate.get();
      wish.key = own->key.get();
    }
    Connect(wish);
    return Shake();
  }
  std::string Verify() { return stream->peer_certificate()->verify; }

  TestCertificate authority;
  TestCertificate stranger;
};

TEST_F(ClientVerifierTest, LetsInWhomTheAuthorityVouchesFor) {
  tls = Asking(authority, true);
  TestCertificate ann = Signed(authority);
  TestCertificate eve = Signed(stranger);
  TestCertificate late = Signed(authority, "late", -60);
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    ASSERT_TRUE(ShakeWith(&ann, version));
    PeerCertificate peer = *stream->peer_certificate();
    EXPECT_EQ(peer.verify, "SUCCESS");
    EXPECT_EQ(peer.subject, "CN=ann");
    EXPECT_EQ(peer.der.size(), static_cast<std::size_t>(i2d_X509(ann.certificate.get(), nullptr)));
    EXPECT_FALSE(ShakeWith(&eve, version));
    EXPECT_EQ(stream->handshake_error()->detail(),
              "certificate verify failed: unable to get local issuer certificate");
    EXPECT_FALSE(ShakeWith(&late, version));
    EXPECT_EQ(stream->handshake_error()->detail(),
              "certificate verify failed: certificate has expired");
    EXPECT_FALSE(ShakeWith(nullptr, version));
    EXPECT_EQ(stream->handshake_error()->detail(), "peer did not return a certificate");
  }
}

TEST_F(ClientVerifierTest, TellsOfOthersWhereACertificateIsOptional) {
  tls = Asking(authority, false);
  TestCertificate ann = Signed(authority);
  TestCertificate eve = Signed(stranger);
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    ASSERT_TRUE(ShakeWith(&ann, version));
    EXPECT_EQ(Verify(), "SUCCESS");
    ASSERT_TRUE(ShakeWith(nullptr, version));
    EXPECT_EQ(Verify(), "NONE");
    ASSERT_TRUE(ShakeWith(&eve, version));
    EXPECT_EQ(Verify(), "FAILED:unable to get local issuer certificate");
    EXPECT_EQ(stream->peer_certificate()->subject + stream->peer_certificate()->der, "");
  }
}

TEST_F(ClientVerifierTest, SaysNothingWhereNobodyWasAsked) {
  ConnectAndShake();
  EXPECT_FALSE(stream->peer_certificate().has_value());
}

// Invariant 1.
TEST_F(ClientVerifierTest, TrustsAnIntermediateByItself) {
  TestCertificate middle =
      MakeTestCertificate({.hosts = {"middle"}, .issuer = &authority, .is_authority = true}, true);
  tls = Asking(middle, true);
  TestCertificate ann = Signed(middle);
  EXPECT_TRUE(ShakeWith(&ann, TLS1_3_VERSION));
  TestCertificate above = Signed(authority);
  EXPECT_FALSE(ShakeWith(&above, TLS1_3_VERSION));
}

// Invariant 2.
TEST_F(ClientVerifierTest, ResumesASessionOnlyWhereItWasAskedForTheSame) {
  TestCertificate ann = Signed(authority);
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    tls = Asking(authority, true);
    ASSERT_TRUE(ShakeWith(&ann, version));
    client->Read();
    SSL_SESSION* session = SSL_get1_session(client->ssl());
    client->CloseNotify();
    tls = Asking(authority, true);
    ASSERT_TRUE(ShakeWith(nullptr, version, session));
    EXPECT_TRUE(stream->info().resumed);
    EXPECT_EQ(stream->peer_certificate()->subject, "CN=ann");
    for (const auto& other : {Asking(authority, false), Asking(stranger, true)}) {
      tls = other;
      if (ShakeWith(nullptr, version, session)) {
        EXPECT_FALSE(stream->info().resumed);
      }
    }
    SSL_SESSION_free(session);
  }
}

// Invariant 3: two seconds are what the test's certificate has left to live.
TEST_F(ClientVerifierTest, DoesNotLetAnExpiredCertificateLiveOnInASession) {
  tls = Asking(authority, true);
  TestCertificate ann = Signed(authority, "ann", 2);
  ASSERT_TRUE(ShakeWith(&ann, TLS1_3_VERSION));
  client->Read();
  SSL_SESSION* session = SSL_get1_session(client->ssl());
  client->CloseNotify();
  const std::time_t end = std::time(nullptr) + 5;
  while (X509_cmp_current_time(X509_get0_notAfter(ann.certificate.get())) > 0 &&
         std::time(nullptr) < end) {
  }
  EXPECT_FALSE(ShakeWith(nullptr, TLS1_3_VERSION, session));
  EXPECT_EQ(stream->handshake_error()->detail(),
            "the client's certificate: certificate has expired");
  SSL_SESSION_free(session);
}

TEST_F(ClientVerifierTest, NamesWhatItCannotRead) {
  auto made = ClientVerifier::Make("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n", true);
  ASSERT_FALSE(made.has_value());
  EXPECT_TRUE(made.error().detail().starts_with("ca.pem: ")) << made.error().detail();
  auto verifier = ClientVerifier::Make("ca.pem", PemOf(authority), true);
  std::vector<std::string> warnings;
  (*verifier)->WarnOfDates(std::time(nullptr), warnings);
  EXPECT_TRUE(warnings.empty());
  (*verifier)->WarnOfDates(std::time(nullptr) + 100 * kDay, warnings);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_TRUE(warnings[0].starts_with("ca.pem: the certificate ca expired on")) << warnings[0];
}

}  // namespace
}  // namespace tidegate
