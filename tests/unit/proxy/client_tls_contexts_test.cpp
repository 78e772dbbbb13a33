#include "proxy/client_tls_contexts.h"

#include <ctime>

#include <gtest/gtest.h>

#include "tests/support/test_certificates.h"

namespace tidegate {
namespace {

class ClientTlsContextsTest : public ::testing::Test {
 protected:
  static std::string Pem(const std::string& name) {
    return PemOf(MakeTestCertificate({.hosts = {name}, .is_authority = true}));
  }
  UpstreamConfig& Add(const std::string& name, UpstreamTlsConfig tls) {
    UpstreamConfig& upstream = config.upstreams.emplace_back();
    upstream.name = name;
    upstream.tls = std::move(tls);
    return upstream;
  }
  static CertificateConfig Mine(const TestCertificateWish& wish = {.hosts = {"me"}}) {
    CertificateMaterial material = TestMaterial(wish);
    return {.certificate_file = material.name,
            .chain_pem = material.chain_pem,
            .key_pem = material.key_pem};
  }
  ClientTlsContexts Made(const Config& of) {
    auto made = ClientTlsContexts::Make(of, nullptr);
    EXPECT_TRUE(made.has_value()) << made.error().ToString();
    return made ? *made : ClientTlsContexts();
  }
  static ClientTlsContexts After(const Config& of, const ClientTlsContexts& previous) {
    auto made = ClientTlsContexts::Make(of, &previous);
    EXPECT_TRUE(made.has_value());
    return *made;
  }

  Config config;
};

TEST_F(ClientTlsContextsTest, AreThoseOfUpstreamsWithTls) {
  config.system_roots = {.file = "system.pem", .pem = Pem("system")};
  config.upstreams.emplace_back().name = "plain";
  Add("system", {});
  Add("own", {.ca_file = "ca.pem", .ca_pem = Pem("own")});
  Add("blind", {.verify = false});
  ClientTlsContexts contexts = Made(config);
  EXPECT_EQ(contexts.Of(config.upstreams[0]), nullptr);
  EXPECT_TRUE(contexts.Of(config.upstreams[1])->verifies());
  EXPECT_TRUE(contexts.Of(config.upstreams[2])->verifies());
  EXPECT_FALSE(contexts.Of(config.upstreams[3])->verifies());
}

TEST_F(ClientTlsContextsTest, AreKeptWhileNothingAboutThemHasChanged) {
  config.system_roots = {.file = "system.pem", .pem = Pem("system")};
  Add("system", {});
  Add("own", {.ca_file = "ca.pem", .ca_pem = Pem("own")});
  Add("blind", {.verify = false});
  ClientTlsContexts first = Made(config);
  Config next = config;
  next.upstreams[0].balance = Balance::kLeastConnections;
  next.upstreams[1].tls->ca_pem = Pem("another");
  std::swap(next.upstreams[0], next.upstreams[2]);
  ClientTlsContexts second = After(next, first);
  EXPECT_EQ(second.Of(next.upstreams[2]), first.Of(config.upstreams[0]));
  EXPECT_NE(second.Of(next.upstreams[1]), first.Of(config.upstreams[1]));
  EXPECT_EQ(second.Of(next.upstreams[0]), first.Of(config.upstreams[2]));
  // Of a change of the system only those know that trust it.
  Config last = next;
  last.system_roots.pem = Pem("new system");
  ClientTlsContexts third = After(last, second);
  EXPECT_NE(third.Of(last.upstreams[2]), second.Of(next.upstreams[2]));
  EXPECT_EQ(third.Of(last.upstreams[1]), second.Of(next.upstreams[1]));
  EXPECT_EQ(third.Of(last.upstreams[0]), second.Of(next.upstreams[0]));
}

TEST_F(ClientTlsContextsTest, SayEveryFaultOnce) {
  UpstreamTlsConfig broken{.ca_file = "ca.pem", .client = Mine(), .ca_pem = "nothing"};
  broken.client.key_pem = KeyPemOf(MakeTestCertificate({.key = "P-384"}));
  Add("a", broken);
  Add("b", broken);
  auto contexts = ClientTlsContexts::Make(config, nullptr);
  ASSERT_FALSE(contexts.has_value());
  EXPECT_EQ(contexts.error().kind(), ErrorKind::kConfig);
  EXPECT_EQ(contexts.error().detail(),
            "ca.pem: there is no certificate in it (\"-----BEGIN CERTIFICATE-----\")\n"
            "me.pem: the key belongs to another certificate");
}

TEST_F(ClientTlsContextsTest, WarnOfWhatIsShown) {
  Add("a", {.verify = false, .client = Mine()});
  Add("b", {.verify = false});
  ClientTlsContexts contexts = Made(config);
  EXPECT_TRUE(contexts.Warnings(std::time(nullptr)).empty());
  std::vector<std::string> later = contexts.Warnings(std::time(nullptr) + 365 * 86400);
  ASSERT_EQ(later.size(), 1U);
  EXPECT_TRUE(later[0].starts_with("me.pem: ")) << later[0];
}

}  // namespace
}  // namespace tidegate
