#include "proxy/listener_rules.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/support/test_certificates.h"

namespace tidegate {
namespace {

ListenerConfig Listener(std::string name, std::optional<TlsConfig> tls = std::nullopt) {
  ListenerConfig listener;
  listener.name = std::move(name);
  listener.tls = std::move(tls);
  return listener;
}

class ListenerRulesTest : public ::testing::Test {
 protected:
  ListenerRulesTest() {
    config.listeners = {Listener("web"), Listener("tls", TlsConfig{})};
    config.listeners[0].redirect_to_https = true;
    request.method = Method::kGet;
    request.target = "/a";
    request.authority = "example.org:8080";
  }
  const ListenerRules& Web(const std::set<std::uint16_t>& ports = {443}) {
    all = MakeListenerRules(config, ports);
    const ListenerRules* rules = FindListenerRules(all, "web");
    EXPECT_NE(rules, nullptr);
    return *rules;
  }
  std::string HttpsOf(const std::set<std::uint16_t>& ports) {
    auto redirect = Web(ports).HttpsRedirect(request);
    return redirect ? redirect->to : redirect.error().ToString();
  }

  Config config;
  std::vector<ListenerRules> all;
  RequestHead request;
  ClientInfo client;
};

TEST_F(ListenerRulesTest, AreThereOnlyForThoseThatHaveAny) {
  EXPECT_TRUE(Web().redirect_to_https);
  EXPECT_EQ(FindListenerRules(all, "tls"), nullptr);
  EXPECT_EQ(FindListenerRules(all, "gone"), nullptr);
  config.listeners[0].redirect_to_https = false;
  EXPECT_TRUE(MakeListenerRules(config, {}).empty());
}

TEST_F(ListenerRulesTest, SendToTheOnlyPortThatThereIs) {
  EXPECT_EQ(HttpsOf({443}), "https://example.org");
  EXPECT_EQ(HttpsOf({8443}), "https://example.org:8443");
  EXPECT_EQ(HttpsOf({443, 8443}), "https://example.org");
  EXPECT_EQ(HttpsOf({8443, 9443}), "https://example.org");
  EXPECT_EQ(HttpsOf({}), "https://example.org");
  EXPECT_EQ(HttpsOf({0}), "https://example.org");
  request.authority = "[::1]:80";
  EXPECT_EQ(HttpsOf({8443}), "https://[::1]:8443");
}

TEST_F(ListenerRulesTest, KeepTheMethod) {
  const ListenerRules& rules = Web();
  EXPECT_EQ(rules.HttpsRedirect(request)->status, 301);
  request.method = Method::kHead;
  EXPECT_EQ(rules.HttpsRedirect(request)->status, 301);
  for (Method method : {Method::kPost, Method::kOptions, Method::kDelete, Method::kOther}) {
    request.method = method;
    EXPECT_EQ(rules.HttpsRedirect(request)->status, 308);
  }
  request.authority = "";
  EXPECT_EQ(rules.HttpsRedirect(request).error().kind(), ErrorKind::kBadHost);
}

TEST_F(ListenerRulesTest, LetChallengesOfAcmePass) {
  const ListenerRules& rules = Web();
  RouteConfig route;
  EXPECT_TRUE(rules.SendsToHttps(request, client, nullptr));
  EXPECT_TRUE(rules.SendsToHttps(request, client, &route)) << "a route for everything";
  route.path = "/.well-known/acme-challenge/";
  EXPECT_FALSE(rules.SendsToHttps(request, client, &route));
}

TEST_F(ListenerRulesTest, BelieveATrustedPeerThatHasEndedTls) {
  const ListenerRules& rules = Web();
  request.fields.Add("X-Forwarded-Proto", "HTTPS");
  EXPECT_TRUE(rules.SendsToHttps(request, client, nullptr));
  client.trusted = true;
  EXPECT_FALSE(rules.SendsToHttps(request, client, nullptr));
}

TEST_F(ListenerRulesTest, LeaveAClientWithTlsWhereItIs) {
  client.tls = "TLSv1.3";
  EXPECT_FALSE(Web().SendsToHttps(request, client, nullptr));
}

// Of a connection that is older than the rules.
TEST_F(ListenerRulesTest, ServeWhoWasVerifiedAsTheyDemand) {
  const std::string first = TestMaterial({.hosts = {"first"}}).chain_pem;
  const std::string second = TestMaterial({.hosts = {"second"}}).chain_pem;
  const std::string third = TestMaterial({.hosts = {"third"}}).chain_pem;
  const auto mine = ClientVerifier::AuthoritiesOf(first + second);
  const auto reordered = ClientVerifier::AuthoritiesOf("A comment\n" + second + first + second);
  const auto fewer = ClientVerifier::AuthoritiesOf(second);
  const auto more = ClientVerifier::AuthoritiesOf(first + second + third);
  const auto old = ClientVerifier::AuthoritiesOf(third);
  struct Case {
    const char* what;
    std::optional<PeerCertificate> peer;
    bool if_required;
    bool if_optional;
  };
  const Case cases[] = {
      {"was asked for none", std::nullopt, false, true},
      {"had none", PeerCertificate{.verify = "NONE", .authorities = mine}, false, true},
      {"had none, and others were asked for", PeerCertificate{.verify = "NONE", .authorities = old},
       false, true},
      {"had a good one", PeerCertificate{.verify = "SUCCESS", .authorities = mine}, true, true},
      {"had one that others found good", PeerCertificate{.verify = "SUCCESS", .authorities = old},
       false, false},
      {"had a good one before they were reordered",
       PeerCertificate{.verify = "SUCCESS", .authorities = reordered}, true, true},
      {"had a good one before one was added",
       PeerCertificate{.verify = "SUCCESS", .authorities = fewer}, true, true},
      {"had a good one before one was removed",
       PeerCertificate{.verify = "SUCCESS", .authorities = more}, false, false},
      {"had a bad one before one was added",
       PeerCertificate{.verify = "FAILED:x", .authorities = fewer}, false, false},
      {"had a bad one", PeerCertificate{.verify = "FAILED:x", .authorities = mine}, false, true},
      {"had one that others found bad", PeerCertificate{.verify = "FAILED:x", .authorities = old},
       false, false},
  };
  config.listeners[1].tls->client_ca_file = "ca.pem";
  config.listeners[1].tls->client_ca_pem = first + second;
  for (const Case& each : cases) {
    ServedClient served(client);
    if (each.peer) {
      served.SetCertificate(std::make_unique<const ClientCertificate>(*each.peer));
    }
    for (const bool required : {true, false}) {
      config.listeners[1].tls->client_auth =
          required ? ClientAuth::kRequired : ClientAuth::kOptional;
      Web();
      EXPECT_EQ(FindListenerRules(all, "tls")->IsVerified(served),
                required ? each.if_required : each.if_optional)
          << each.what << (required ? ", required" : ", optional");
    }
    EXPECT_TRUE(Web().IsVerified(served)) << each.what << ", and nobody is asked any more";
  }
}

TEST_F(ListenerRulesTest, OfAListenerThatIsGoneServeNobodyWithTlsWhereAnotherRequiresCertificates) {
  ServedClient plain(client);
  client.tls = "TLSv1.3";
  ServedClient served(client);
  all = MakeListenerRules(config, {443});
  EXPECT_EQ(FindListenerRules(all, "gone"), nullptr);
  config.listeners[1].tls->client_ca_file = "ca.pem";
  config.listeners[1].tls->client_ca_pem = TestMaterial({.hosts = {"first"}}).chain_pem;
  config.listeners[1].tls->client_auth = ClientAuth::kRequired;
  config.listeners.push_back(Listener("third", TlsConfig{}));
  all = MakeListenerRules(config, {443});
  EXPECT_TRUE(FindListenerRules(all, "third")->IsVerified(served));
  ASSERT_NE(FindListenerRules(all, "gone"), nullptr);
  EXPECT_FALSE(FindListenerRules(all, "gone")->IsVerified(served));
  EXPECT_TRUE(FindListenerRules(all, "gone")->IsVerified(plain));
}

TEST_F(ListenerRulesTest, AddStrictTransportOnce) {
  config.listeners[1].tls->hsts = std::chrono::hours(24);
  Web();
  const ListenerRules& rules = *FindListenerRules(all, "tls");
  ResponseHead head;
  rules.AddStrictTransport(head);
  rules.AddStrictTransport(head);
  ASSERT_EQ(head.fields.size(), 1U);
  EXPECT_EQ(head.fields.begin()->line(), "Strict-Transport-Security: max-age=86400\r\n");
  head.Clear();
  head.fields.Add("strict-transport-security", "max-age=1");
  rules.AddStrictTransport(head);
  EXPECT_EQ(head.fields.size(), 1U);
  head.Clear();
  FindListenerRules(all, "web")->AddStrictTransport(head);
  EXPECT_TRUE(head.fields.empty());
}

TEST_F(ListenerRulesTest, DropCertificatesWhereverSomebodyIsTold) {
  config.listeners[1].tls->client_ca_file = "/ca.pem";
  Web();
  EXPECT_TRUE(FindListenerRules(all, "tls")->drops_client_certificates);
  EXPECT_FALSE(FindListenerRules(all, "tls")->client_headers);
  EXPECT_FALSE(FindListenerRules(all, "web")->drops_client_certificates);
  config.listeners[1].tls->client_headers = true;
  Web();
  EXPECT_TRUE(FindListenerRules(all, "tls")->client_headers);
  EXPECT_TRUE(FindListenerRules(all, "web")->drops_client_certificates);
  const ListenerRules* gone = FindListenerRules(all, "gone");
  ASSERT_NE(gone, nullptr);
  EXPECT_TRUE(gone->drops_client_certificates && !gone->redirect_to_https && !gone->client_headers);
}

}  // namespace
}  // namespace tidegate
