#include "supervisor/proxy_config.h"

#include <gtest/gtest.h>

#include "common/config_load.h"

namespace tidegate {
namespace {

TEST(ProxyConfig, IsAValidConfigurationOfOneListenerAndOneUpstream) {
  auto text = ProxyConfigText(":8080", {"127.0.0.1:9000", "http://app.internal:80", "unix:/run/a"});
  ASSERT_TRUE(text);
  auto loaded = LoadConfigText("tidegate proxy", *text, {});
  ASSERT_TRUE(loaded) << FormatDiagnostics(loaded.error());
  EXPECT_TRUE(loaded->warnings.empty());
  const Config& config = loaded->config;
  ASSERT_EQ(config.listeners.size(), 1U);
  EXPECT_EQ(config.listeners[0].bind.ToString(), ":8080");
  ASSERT_EQ(config.upstreams.size(), 1U);
  ASSERT_EQ(config.upstreams[0].endpoints.size(), 3U);
  EXPECT_EQ(config.upstreams[0].endpoints[1].address.ToString(), "app.internal:80");
  EXPECT_EQ(config.upstreams[0].endpoints[2].address.ToString(), "unix:/run/a");
  ASSERT_EQ(config.routes.size(), 1U);
}

TEST(ProxyConfig, AnEndpointWithoutAHostIsOnThisMachine) {
  auto text = ProxyConfigText(":0", {":9000"});
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("127.0.0.1:9000"), std::string::npos);
}

TEST(ProxyConfig, NamesTheFlagOfABadAddress) {
  for (auto [from, to, expected] :
       {std::tuple{"8080", ":1", "--from 8080: "}, std::tuple{":1", "nowhere", "--to nowhere: "},
        std::tuple{":1", "systemd:x", "--to systemd:x: "},
        std::tuple{":1", "127.0.0.1:0", "needs a port"},
        std::tuple{":1", "https://a:443", "--to https://a:443: "}}) {
    auto text = ProxyConfigText(from, {to});
    ASSERT_FALSE(text) << from << " " << to;
    EXPECT_NE(text.error().ToString().find(expected), std::string::npos) << text.error().ToString();
  }
}

}  // namespace
}  // namespace tidegate
