#include "proxy/net/tls_context.h"

#include <string>
#include <vector>

#include "tests/support/tls_rig.h"

namespace tidegate {
namespace {

class TlsContextTest : public TlsRig {
 protected:
  // The host of the certificate that the client got, and its kind of key.
  std::string Got() {
    OwnedX509 certificate(SSL_get1_peer_certificate(client->ssl()));
    char name[64] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name,
                              sizeof(name));
    bool rsa = EVP_PKEY_get_base_id(X509_get0_pubkey(certificate.get())) == EVP_PKEY_RSA;
    return std::string(name) + (rsa ? " RSA" : " ECDSA");
  }
  std::string CertificateFor(const TlsClientWish& wish) {
    Connect(wish);
    return Shake() ? Got() : "refused: " + stream->handshake_error()->detail();
  }
};

TEST_F(TlsContextTest, ServesTheCertificateOfTheNameThatTheClientGives) {
  EXPECT_EQ(CertificateFor({.server_name = "example.org"}), "example.org ECDSA");
  EXPECT_EQ(CertificateFor({.server_name = "a.wild.example"}), "*.wild.example ECDSA");
  EXPECT_EQ(CertificateFor({.server_name = "A.WILD.Example."}), "*.wild.example ECDSA");
  EXPECT_EQ(CertificateFor({.server_name = "a.b.wild.example"}), "example.org ECDSA");
  EXPECT_EQ(CertificateFor({.server_name = "nobody.example"}), "example.org ECDSA");
  EXPECT_EQ(CertificateFor({.server_name = ""}), "example.org ECDSA");
}

TEST_F(TlsContextTest, ServesTheKeyThatTheClientCanVerify) {
  EXPECT_EQ(CertificateFor({.signatures = "RSA-PSS+SHA256"}), "example.org RSA");
  EXPECT_EQ(CertificateFor({.signatures = "ECDSA+SHA256"}), "example.org ECDSA");
  EXPECT_EQ(CertificateFor({.newest = TLS1_2_VERSION, .ciphers = "ECDHE-RSA-AES128-GCM-SHA256"}),
            "example.org RSA");
  EXPECT_EQ(CertificateFor({.server_name = "a.wild.example", .signatures = "RSA-PSS+SHA256"})
                .substr(0, 8),
            "refused:");
}

TEST_F(TlsContextTest, ServesEveryKindOfKeyInBothVersions) {
  for (const char* key : {"RSA-2048", "RSA-3072", "P-256", "P-384", "P-521", "Ed25519"}) {
    std::vector<CertificateMaterial> materials = {TestMaterial({.key = key})};
    auto store = CertificateStore::Make(materials);
    ASSERT_TRUE(store.has_value()) << store.error().ToString();
    tls = *ServerTls::Make(TlsProfile::kIntermediate, *store, {}, keys, rotation);
    for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      Connect({.newest = version});
      EXPECT_TRUE(Shake()) << key << ": " << client->failure;
    }
  }
}

TEST_F(TlsContextTest, SpeaksTheVersionsOfItsProfile) {
  Connect({.newest = TLS1_2_VERSION});
  ASSERT_TRUE(Shake());
  EXPECT_EQ(stream->info().version, "TLSv1.2");
  Connect();
  ASSERT_TRUE(Shake());
  EXPECT_EQ(stream->info().version, "TLSv1.3");
  Connect({.oldest = TLS1_VERSION, .newest = TLS1_1_VERSION});
  EXPECT_FALSE(Shake());
  EXPECT_EQ(stream->handshake_error()->detail(), "unsupported protocol");
  UseProfile(TlsProfile::kModern);
  Connect({.newest = TLS1_2_VERSION});
  EXPECT_FALSE(Shake());
  EXPECT_EQ(stream->handshake_error()->detail(), "unsupported protocol");
  Connect();
  EXPECT_TRUE(Shake());
}

TEST_F(TlsContextTest, RefusesCiphersWithoutAuthenticationOrForwardSecrecy) {
  for (const char* ciphers : {"ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384",
                              "AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256"}) {
    Connect({.newest = TLS1_2_VERSION, .ciphers = ciphers});
    EXPECT_FALSE(Shake()) << ciphers;
    EXPECT_EQ(stream->handshake_error()->detail(), "no shared cipher") << ciphers;
  }
}

TEST_F(TlsContextTest, TakesItsOwnOrderButChaChaForWhoHasItFirst) {
  Connect({.ciphers_of_13 = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"});
  ASSERT_TRUE(Shake());
  EXPECT_EQ(stream->info().cipher, "TLS_AES_128_GCM_SHA256");
  Connect({.ciphers_of_13 = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"});
  ASSERT_TRUE(Shake());
  EXPECT_EQ(stream->info().cipher, "TLS_CHACHA20_POLY1305_SHA256");
}

TEST_F(TlsContextTest, AgreesOnAProtocolOrRefuses) {
  Connect({.alpn = "\x02h2\x08http/1.1"});
  ASSERT_TRUE(Shake());
  EXPECT_EQ(stream->info().alpn, "http/1.1");
  Connect();
  ASSERT_TRUE(Shake());
  EXPECT_EQ(stream->info().alpn, "");
  Connect({.alpn = "\003ftp"});
  EXPECT_FALSE(Shake());
  EXPECT_NE(client->failure.find("no application protocol"), std::string::npos) << client->failure;
  UseProfile(TlsProfile::kIntermediate, {"h2", "http/1.1"});
  Connect({.alpn = "\x08http/1.1\x02h2"});
  ASSERT_TRUE(Shake());
  EXPECT_EQ(stream->info().alpn, "h2") << "the server's order counts";
  UseProfile(TlsProfile::kIntermediate, {});
  Connect({.alpn = "\003ftp"});
  EXPECT_TRUE(Shake());
}

TEST_F(TlsContextTest, ResumesASessionByItsTicket) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsClientWish wish{.newest = version};
    Connect(wish);
    ASSERT_TRUE(Shake());
    EXPECT_FALSE(stream->info().resumed);
    client->Read();
    SSL_SESSION* session = SSL_get1_session(client->ssl());
    ASSERT_TRUE(SSL_SESSION_is_resumable(session));
    // OpenSSL resumes no session whose connection did not end well.
    client->CloseNotify();
    wish.session = session;
    Connect(wish);
    ASSERT_TRUE(Shake());
    EXPECT_TRUE(stream->info().resumed);
    EXPECT_EQ(stream->info().server_name, "example.org");
    SSL_SESSION_free(session);
  }
}

TEST_F(TlsContextTest, SendsOneTicketAndOffersNoEarlyData) {
  Connect();
  ASSERT_TRUE(Shake());
  EXPECT_EQ(SSL_CTX_get_num_tickets(tls->context()), 1U);
  client->Read();
  EXPECT_EQ(SSL_SESSION_get_max_early_data(SSL_get0_session(client->ssl())), 0U);
  EXPECT_EQ(SSL_get_current_compression(client->ssl()), nullptr);
}

}  // namespace
}  // namespace tidegate
