#include "proxy/tls_contexts.h"

#include <ctime>

#include <gtest/gtest.h>

#include "tests/support/test_certificates.h"

namespace tidegate {
namespace {

CertificateConfig Certificate(const TestCertificateWish& wish) {
  CertificateMaterial material = TestMaterial(wish);
  return {.certificate_file = material.name,
          .chain_pem = material.chain_pem,
          .key_pem = material.key_pem};
}

ListenerConfig Listener(std::optional<TlsProfile> profile) {
  ListenerConfig listener;
  if (profile) {
    listener.tls = TlsConfig{.profile = *profile};
  }
  return listener;
}

class TlsContextsTest : public ::testing::Test {
 protected:
  TlsContextsTest() {
    config.listeners = {Listener(std::nullopt), Listener(TlsProfile::kIntermediate),
                        Listener(TlsProfile::kIntermediate), Listener(TlsProfile::kModern)};
    config.certificates = {Certificate({})};
  }

  TicketKeys tickets;
  Config config;
};

TEST_F(TlsContextsTest, AreSharedByListenersOfOneProfile) {
  auto contexts = TlsContexts::Make(config, nullptr, tickets);
  ASSERT_TRUE(contexts.has_value()) << contexts.error().ToString();
  EXPECT_EQ(contexts->Of(config.listeners[0]), nullptr);
  EXPECT_NE(contexts->Of(config.listeners[1]), nullptr);
  EXPECT_EQ(contexts->Of(config.listeners[1]), contexts->Of(config.listeners[2]));
  EXPECT_NE(contexts->Of(config.listeners[1]), contexts->Of(config.listeners[3]));
  EXPECT_TRUE(contexts->Warnings(std::time(nullptr)).empty());
  EXPECT_EQ(contexts->Warnings(std::time(nullptr) + 365 * 86400).size(), 1U);
}

TEST_F(TlsContextsTest, AreSharedOnlyByListenersThatSpeakTheSame) {
  config.listeners[2].protocols = {Protocol::kH1};
  auto contexts = TlsContexts::Make(config, nullptr, tickets);
  ASSERT_TRUE(contexts.has_value());
  EXPECT_NE(contexts->Of(config.listeners[1]), contexts->Of(config.listeners[2]));
  // What the default is, in words.
  config.listeners[2].protocols = {Protocol::kH2, Protocol::kH1};
  contexts = TlsContexts::Make(config, nullptr, tickets);
  EXPECT_EQ(contexts->Of(config.listeners[1]), contexts->Of(config.listeners[2]));
}

TEST_F(TlsContextsTest, AreKeptWhileTheCertificatesAreTheSame) {
  auto first = TlsContexts::Make(config, nullptr, tickets);
  ASSERT_TRUE(first.has_value());
  Config next = config;
  next.workers = 7;
  auto same = TlsContexts::Make(next, &*first, tickets);
  ASSERT_TRUE(same.has_value());
  EXPECT_EQ(same->Of(config.listeners[1]), first->Of(config.listeners[1]));
  next.certificates.push_back(Certificate({.hosts = {"other.example"}}));
  auto other = TlsContexts::Make(next, &*first, tickets);
  ASSERT_TRUE(other.has_value());
  EXPECT_NE(other->Of(config.listeners[1]), first->Of(config.listeners[1]));
}

TEST_F(TlsContextsTest, ForAProfileThatAppearsHaveTheCertificatesThatAreThere) {
  config.listeners.resize(2);
  auto first = TlsContexts::Make(config, nullptr, tickets);
  ASSERT_TRUE(first.has_value());
  Config next = config;
  next.listeners.push_back(Listener(TlsProfile::kModern));
  auto more = TlsContexts::Make(next, &*first, tickets);
  ASSERT_TRUE(more.has_value());
  EXPECT_EQ(more->Of(next.listeners[1]), first->Of(config.listeners[1]));
  ASSERT_NE(more->Of(next.listeners[2]), nullptr);
  EXPECT_EQ(&more->Of(next.listeners[2])->certificates(),
            &first->Of(config.listeners[1])->certificates());
}

TEST_F(TlsContextsTest, NeedWhatStoodInTheFilesNoLonger) {
  Config forgetful = config;
  auto contexts = TlsContexts::Make(forgetful, nullptr, tickets);
  ASSERT_TRUE(contexts.has_value());
  ForgetFileContents(forgetful);
  EXPECT_TRUE(forgetful.certificates[0].key_pem.empty());
  EXPECT_TRUE(forgetful.certificates[0].chain_pem.empty());
  auto same = TlsContexts::Make(config, &*contexts, tickets);
  ASSERT_TRUE(same.has_value());
  EXPECT_EQ(same->Of(config.listeners[1]), contexts->Of(config.listeners[1]));
}

TEST_F(TlsContextsTest, AreMadeAnewForAnotherRotationOfTicketKeys) {
  auto first = TlsContexts::Make(config, nullptr, tickets);
  ASSERT_TRUE(first.has_value());
  Config next = config;
  next.tls.ticket_rotation = std::chrono::hours(1);
  auto other = TlsContexts::Make(next, &*first, tickets);
  ASSERT_TRUE(other.has_value());
  EXPECT_NE(other->Of(config.listeners[1]), first->Of(config.listeners[1]));
  EXPECT_EQ(&other->Of(config.listeners[1])->certificates(),
            &first->Of(config.listeners[1])->certificates());
  EXPECT_EQ(SSL_CTX_get_timeout(other->Of(config.listeners[1])->context()), 7200);
}

TEST_F(TlsContextsTest, AreNotThereWithoutCertificates) {
  config.certificates.clear();
  config.listeners.resize(1);
  auto contexts = TlsContexts::Make(config, nullptr, tickets);
  ASSERT_TRUE(contexts.has_value());
  EXPECT_EQ(contexts->Of(config.listeners[0]), nullptr);
  EXPECT_TRUE(contexts->Warnings(std::time(nullptr)).empty());
}

TEST_F(TlsContextsTest, SayWhichCertificateIsAtFault) {
  config.certificates[0].key_pem = KeyPemOf(MakeTestCertificate({.key = "P-384"}));
  auto contexts = TlsContexts::Make(config, nullptr, tickets);
  ASSERT_FALSE(contexts.has_value());
  EXPECT_EQ(contexts.error().kind(), ErrorKind::kConfig);
  EXPECT_NE(contexts.error().detail().find("example.org.pem"), std::string::npos);
}

TEST_F(TlsContextsTest, AreApartWhereClientsAreAskedForOtherCertificates) {
  const std::string ca = PemOf(MakeTestCertificate({.hosts = {"ca"}, .is_authority = true}));
  const std::string other = PemOf(MakeTestCertificate({.hosts = {"other"}, .is_authority = true}));
  for (const auto& [pem, auth] : {std::pair(ca, ClientAuth::kRequired),
                                  {ca, ClientAuth::kRequired},
                                  {ca, ClientAuth::kOptional},
                                  {other, ClientAuth::kRequired}}) {
    ListenerConfig listener = Listener(TlsProfile::kIntermediate);
    listener.tls->client_ca_file = "/ca.pem";
    listener.tls->client_ca_pem = pem;
    listener.tls->client_auth = auth;
    config.listeners.push_back(listener);
  }
  auto first = TlsContexts::Make(config, nullptr, tickets);
  ASSERT_TRUE(first.has_value()) << first.error().ToString();
  auto of = [&](const TlsContexts& contexts, std::size_t i) {
    return contexts.Of(config.listeners[4 + i]);
  };
  EXPECT_EQ(of(*first, 0), of(*first, 1));
  EXPECT_NE(of(*first, 0), of(*first, 2));
  EXPECT_NE(of(*first, 0), of(*first, 3));
  EXPECT_NE(of(*first, 0), first->Of(config.listeners[1]));
  // A reload that changes one leaves the others.
  Config next = config;
  next.listeners[7].tls->client_ca_pem = ca + other;
  auto second = TlsContexts::Make(next, &*first, tickets);
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(of(*second, 0), of(*first, 0));
  EXPECT_NE(second->Of(next.listeners[7]), of(*first, 3));
  // Once for each context.
  EXPECT_GE(second->Warnings(std::time(nullptr) + std::int64_t{200} * 86400).size(), 4U);
  next.listeners[7].tls->client_ca_pem = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
  auto broken = TlsContexts::Make(next, &*first, tickets);
  ASSERT_FALSE(broken.has_value());
  EXPECT_TRUE(broken.error().detail().starts_with("/ca.pem: ")) << broken.error().detail();
}

}  // namespace
}  // namespace tidegate
