// What is verified, shown and remembered; the stream itself is in tls_stream_client_test.cpp.

#include "proxy/net/client_tls.h"

#include "tests/support/client_tls_rig.h"

namespace tidegate {
namespace {

class ClientTlsTest : public ClientTlsRig {};

TEST_F(ClientTlsTest, VerifiesByTheTable) {
  const TestCertificate stranger =
      MakeTestCertificate({.hosts = {"stranger"}, .is_authority = true}, true);
  struct Row {
    std::string what;
    TestCertificateWish wish;
    std::string name;
    // Empty: it is good.
    std::string fault;
  };
  const std::string mismatch = "hostname mismatch: the certificate is for ";
  const std::vector<Row> table = {
      {"the name", {.hosts = {"a.example"}}, "a.example", ""},
      {"in another case", {.hosts = {"A.Example"}}, "a.eXample", ""},
      {"one of several", {.hosts = {"a.example", "b.example"}}, "b.example", ""},
      {"by wildcard", {.hosts = {"*.a.example"}}, "b.a.example", ""},
      {"by another name",
       {.hosts = {"a.example"}},
       "b.example",
       mismatch + "a.example, not for b.example"},
      {"a wildcard is one label",
       {.hosts = {"*.a.example"}},
       "c.b.a.example",
       mismatch + "*.a.example, not for c.b.a.example"},
      {"a wildcard is at least one label",
       {.hosts = {"*.a.example"}},
       "a.example",
       mismatch + "*.a.example, not for a.example"},
      {"a wildcard is a whole label",
       {.hosts = {"w*.a.example"}},
       "ww.a.example",
       mismatch + "nobody by name, not for ww.a.example"},
      {"the common name is nothing",
       {.hosts = {"a.example"}, .with_alternative_names = false},
       "a.example",
       mismatch + "nobody by name, not for a.example"},
      {"many names are not all told",
       {.hosts = {"a.x", "b.x", "c.x", "d.x", "e.x", "f.x"}},
       "z.x",
       mismatch + "a.x, b.x, c.x, d.x, e.x, ..., not for z.x"},
      {"the address", {.hosts = {"IP:192.0.2.1"}}, "192.0.2.1", ""},
      {"the address of the endpoint", {.hosts = {"IP:192.0.2.1"}}, "", ""},
      {"an IPv6 address", {.hosts = {"IP:2001:db8::1"}}, "[2001:db8::1]", ""},
      {"another address",
       {.hosts = {"a.example", "IP:192.0.2.2"}},
       "192.0.2.1",
       "IP address mismatch: the certificate is for a.example, 192.0.2.2, not for 192.0.2.1"},
      {"an address is no name",
       {.hosts = {"192.0.2.1"}},
       "192.0.2.1",
       "IP address mismatch: the certificate is for 192.0.2.1, not for 192.0.2.1"},
      {"expired", {.hosts = {"a.example"}, .ends_in = -60}, "a.example", "certificate has expired"},
      {"not yet valid",
       {.hosts = {"a.example"}, .begins_in = 3600},
       "a.example",
       "certificate is not yet valid"},
      {"of an unknown authority",
       {.hosts = {"a.example"}, .issuer = &stranger},
       "a.example",
       "unable to get local issuer certificate"},
      {"weak",
       {.hosts = {"a.example"}, .key = "RSA-1024"},
       "a.example",
       "EE certificate key too weak"},
  };
  for (const Row& row : table) {
    TestCertificateWish wish = row.wish;
    wish.issuer = wish.issuer != nullptr ? wish.issuer : &Authority();
    TestCertificate certificate = MakeTestCertificate(wish);
    Serve({.certificate = &certificate});
    bool done = ConnectAndShake(Tls(row.name));
    EXPECT_EQ(done, row.fault.empty()) << row.what << ": " << Fault();
    EXPECT_EQ(Fault(), row.fault) << row.what;
    if (!row.fault.empty() && stream->handshake_error()) {
      EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kUpstreamTlsVerify) << row.what;
      EXPECT_EQ(readable, 1) << row.what;
      EXPECT_FALSE(server->failure.empty()) << "the server is told, " << row.what;
    }
    EXPECT_TRUE(ConnectAndShake(Tls(row.name, nullptr)))
        << "whoever verifies nothing takes them all: " << row.what << ": " << Fault();
  }
}

TEST_F(ClientTlsTest, ACertificateThatSignedItselfIsTrustedByNameOnly) {
  TestCertificate own = MakeTestCertificate({.hosts = {"a.example"}}, true);
  Serve({.certificate = &own});
  EXPECT_FALSE(ConnectAndShake(Tls("a.example")));
  EXPECT_EQ(Fault(), "self-signed certificate");
  EXPECT_TRUE(ConnectAndShake(Tls("a.example", Roots(PemOf(own)))));
  EXPECT_FALSE(ConnectAndShake(Tls("b.example", Roots(PemOf(own)))));
}

TEST_F(ClientTlsTest, AChainIsFollowedAndAnIntermediateMayBeTrusted) {
  TestCertificate between = MakeTestCertificate(
      {.hosts = {"between"}, .issuer = &Authority(), .is_authority = true}, true);
  TestCertificate leaf = MakeTestCertificate({.hosts = {"a.example"}, .issuer = &between});
  Serve({.certificate = &leaf});
  EXPECT_FALSE(ConnectAndShake(Tls("a.example")));
  EXPECT_EQ(Fault(), "unable to get local issuer certificate");
  EXPECT_TRUE(ConnectAndShake(Tls("a.example", Roots(PemOf(between)))));
  Serve({.certificate = &leaf, .chain = {&between}});
  EXPECT_TRUE(ConnectAndShake(Tls("a.example")));
}

TEST_F(ClientTlsTest, AsksForNamesAndNotForAddresses) {
  TestCertificate leaf = Signed({.hosts = {"a.example", "IP:192.0.2.1", "IP:2001:db8::1"}});
  Serve({.certificate = &leaf});
  EXPECT_TRUE(ConnectAndShake(Tls(""), "a.example:443"));
  EXPECT_EQ(server->server_name(), "a.example");
  EXPECT_TRUE(ConnectAndShake(Tls("A.Example"), "unix:/run/app.sock"));
  EXPECT_EQ(server->server_name(), "a.example");
  EXPECT_TRUE(ConnectAndShake(Tls(""), "192.0.2.1:443"));
  EXPECT_EQ(server->server_name(), "");
  EXPECT_TRUE(ConnectAndShake(Tls(""), "[2001:db8::1]:443"));
  EXPECT_EQ(server->server_name(), "");
  EXPECT_TRUE(ConnectAndShake(Tls("", nullptr), "unix:/run/app.sock"));
  EXPECT_EQ(server->server_name(), "");
}

TEST_F(ClientTlsTest, RefusesAProtocolThatWasNotOffered) {
  TestCertificate leaf = Signed({.hosts = {"a.example"}});
  Serve({.certificate = &leaf, .alpn = "http/1.1"});
  EXPECT_TRUE(ConnectAndShake(Tls("a.example")));
  EXPECT_EQ(stream->info().alpn, "http/1.1");
  Serve({.certificate = &leaf, .alpn = "h2"});
  EXPECT_FALSE(ConnectAndShake(Tls("a.example")));
  EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kUpstreamTlsHandshake);
}

TEST_F(ClientTlsTest, ShowsItsCertificateWhenAsked) {
  TestCertificate leaf = Signed({.hosts = {"a.example"}});
  CertificateMaterial material = TestMaterial({.hosts = {"me"}, .issuer = &Authority()});
  std::vector<std::string> faults;
  auto mine = ReadCertificate(material, faults);
  ASSERT_TRUE(mine.has_value());
  auto tls = ClientTls::Make({.roots = Roots(PemOf(Authority())),
                              .server_name = "a.example",
                              .certificate = std::make_shared<Certificate>(std::move(*mine))});
  ASSERT_TRUE(tls.has_value());
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Serve({.certificate = &leaf, .newest = version, .clients = &Authority()});
    ASSERT_TRUE(ConnectAndShake(*tls)) << Fault();
    X509* shown = SSL_get0_peer_certificate(server->ssl());
    ASSERT_NE(shown, nullptr);
    EXPECT_EQ(NamesOf(shown), std::vector<std::string>{"me"});
  }
}

TEST_F(ClientTlsTest, IsToldWhereItsCertificateIsMissing) {
  TestCertificate leaf = Signed({.hosts = {"a.example"}});
  Serve({.certificate = &leaf, .newest = TLS1_2_VERSION, .clients = &Authority()});
  EXPECT_FALSE(ConnectAndShake(Tls("a.example")));
  EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kUpstreamTlsAlert);
  EXPECT_NE(Fault().find("alert"), std::string::npos) << Fault();
  // In TLS 1.3 the handshake is over for us before the server has looked.
  Serve({.certificate = &leaf, .clients = &Authority()});
  EXPECT_TRUE(ConnectAndShake(Tls("a.example")));
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed);
  ASSERT_NE(stream->protocol_error(), nullptr);
  EXPECT_EQ(stream->protocol_error()->kind(), ErrorKind::kUpstreamTlsAlert);
  EXPECT_EQ(stream->protocol_error()->detail(), "tlsv13 alert certificate required");
}

TEST_F(ClientTlsTest, SpeaksNothingOlderThan12) {
  TestCertificate leaf = Signed({.hosts = {"a.example"}});
  Serve({.certificate = &leaf, .oldest = TLS1_VERSION, .newest = TLS1_1_VERSION});
  EXPECT_FALSE(ConnectAndShake(Tls("a.example")));
  EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kUpstreamTlsAlert);
}

TEST_F(ClientTlsTest, ASessionOf13IsUsedOnceAndOneOf12AgainAndAgain) {
  TestCertificate leaf = Signed({.hosts = {"a.example"}});
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    bool is_13 = version == TLS1_3_VERSION;
    Serve({.certificate = &leaf, .newest = version});
    auto tls = Tls("a.example");
    ASSERT_TRUE(ConnectAndShake(tls));
    EXPECT_FALSE(stream->info().resumed);
    EXPECT_EQ(peer->session_count(), is_13 ? 2U : 1U);
    ASSERT_TRUE(ConnectAndShake(tls));
    EXPECT_TRUE(stream->info().resumed);
    // One is gone, and a resumed connection of 1.3 gets one.
    EXPECT_EQ(peer->session_count(), is_13 ? 2U : 1U);
    // Nothing is given any more: what is there is used up, or not.
    SSL_CTX_set_num_tickets(server_context.get(), 0);
    SSL_CTX_set_options(server_context.get(), SSL_OP_NO_TICKET);
    std::size_t left = peer->session_count();
    auto endpoint = peer;
    stream.reset();
    OwnedSsl first = endpoint->Open();
    EXPECT_EQ(endpoint->session_count(), is_13 ? left - 1 : left);
  }
}

TEST_F(ClientTlsTest, KeepsABoundedNumberOfSessionsAndForgetsWithAFailure) {
  TestCertificate leaf = Signed({.hosts = {"a.example"}});
  Serve({.certificate = &leaf});
  SSL_CTX_set_num_tickets(server_context.get(), 10);
  auto tls = Tls("a.example");
  ASSERT_TRUE(ConnectAndShake(tls));
  EXPECT_EQ(peer->session_count(), TlsPeer::kMostSessions);
  TestCertificate other = Signed({.hosts = {"b.example"}});
  Serve({.certificate = &other});
  EXPECT_FALSE(ConnectAndShake(tls));
  EXPECT_EQ(peer->session_count(), 0U);
}

TEST_F(ClientTlsTest, ASessionEndsWithItsTimeAndWithTheCertificate) {
  TestCertificate leaf = Signed({.hosts = {"a.example"}, .ends_in = 600});
  Serve({.certificate = &leaf, .newest = TLS1_2_VERSION});
  TlsServer there(server_context.get());
  TlsClient here({.server_name = "a.example"});
  for (int i = 0; i < 5; ++i) {
    here.Handshake();
    there.GiveOctets(here.TakeOctets());
    there.Handshake();
    here.GiveOctets(there.TakeOctets());
  }
  OwnedSslSession session(SSL_get1_session(here.ssl()));
  const std::time_t now = std::time(nullptr);
  SSL_SESSION_set_timeout(session.get(), 3600);
  EXPECT_TRUE(MayResume(session.get(), now));
  EXPECT_TRUE(MayResume(session.get(), now + 500));
  EXPECT_FALSE(MayResume(session.get(), now + 700)) << "the certificate has expired";
  SSL_SESSION_set_timeout(session.get(), 100);
  EXPECT_FALSE(MayResume(session.get(), now + 200)) << "its own time is over";
}

TEST_F(ClientTlsTest, AnEndpointIsTheSameWhileSomebodyHoldsIt) {
  auto tls = Tls("a.example");
  auto one = tls->PeerOf(*ParseAddress("192.0.2.1:443"));
  EXPECT_EQ(tls->PeerOf(*ParseAddress("192.0.2.1:443")), one);
  EXPECT_NE(tls->PeerOf(*ParseAddress("192.0.2.1:444")), one);
  EXPECT_NE(Tls("a.example")->PeerOf(*ParseAddress("192.0.2.1:443")), one);
  std::weak_ptr<TlsPeer> gone = one;
  one.reset();
  EXPECT_TRUE(gone.expired());
}

TEST_F(ClientTlsTest, SaysWhatIsWrongWithWhomToTrust) {
  for (const auto& [pem, fault] : std::vector<std::pair<std::string, std::string>>{
           {"", "ca.pem: there is no certificate in it (\"-----BEGIN CERTIFICATE-----\")"},
           {PemOf(Authority()) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "ca.pem: certificate 2 of the file cannot be read: "}}) {
    std::vector<std::string> faults;
    EXPECT_EQ(ReadRoots(pem, "ca.pem", faults), nullptr);
    ASSERT_EQ(faults.size(), 1U);
    EXPECT_TRUE(faults[0].starts_with(fault)) << faults[0];
  }
  // One that is there twice is no fault.
  EXPECT_NE(Roots(PemOf(Authority()) + PemOf(Authority())), nullptr);
}

}  // namespace
}  // namespace tidegate
