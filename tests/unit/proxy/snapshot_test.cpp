#include "proxy/snapshot.h"

#include "tests/support/proxy_rig.h"

namespace tidegate {
namespace {

class SnapshotTest : public ProxyRig {
 protected:
  ~SnapshotTest() override { services.snapshot.reset(); }
};

TEST_F(SnapshotTest, CarriesTheLimitsOfItsConfiguration) {
  Configure(R"({"listen": ":0", "upstream": "ORIGIN",
                "limits": {"max_header_bytes": "4KiB", "max_headers": 7, "max_url_bytes": "1KiB"}})");
  const DecoderLimits& limits = services.snapshot->limits();
  EXPECT_EQ(limits.max_head_bytes, 4096U);
  EXPECT_EQ(limits.max_fields, 7U);
  EXPECT_EQ(limits.max_url_bytes, 1024U);
  EXPECT_EQ(services.snapshot->access_formatter(), nullptr);
}

TEST_F(SnapshotTest, TakesOverWhatIsTheSameAndBuildsWhatIsNot) {
  Configure(
      R"({"listen": ":0", "upstreams": {"a": {"endpoints": ["ORIGIN"]}, "b": {"endpoints": ["ORIGIN"]}},
                "routes": [{"path": "/a", "upstream": "a"}, {"path": "/b", "upstream": "b"}]})");
  std::shared_ptr<const Snapshot> before = services.snapshot;
  Configure(R"({"listen": ":0", "upstreams": {"a": {"endpoints": ["ORIGIN"]},
                "b": {"endpoints": ["ORIGIN"], "balance": "least_connections"}},
                "routes": [{"path": "/b", "upstream": "b"}, {"path": "/a", "upstream": "a"}]})");
  const auto& old_routes = before->config().routes;
  const auto& new_routes = services.snapshot->config().routes;
  EXPECT_EQ(&before->UpstreamOf(old_routes[0]), &services.snapshot->UpstreamOf(new_routes[1]));
  EXPECT_NE(&before->UpstreamOf(old_routes[1]), &services.snapshot->UpstreamOf(new_routes[0]));
}

TEST_F(SnapshotTest, AnUpstreamWithOtherTlsIsAnother) {
  auto configure = [&](const std::string& tls) {
    Configure(
        R"({"listen": ":0", "routes": [{"upstream": "a"}], "upstreams": {"a": {"endpoints": ["ORIGIN"])" +
        tls + "}}}");
    const Snapshot& now = *services.snapshot;
    return std::pair(&now.UpstreamOf(now.config().routes[0]), services.snapshot);
  };
  auto [plain, first] = configure("");
  auto [secure, second] = configure(R"(, "tls": {"verify": false})");
  auto [same, third] = configure(R"(, "tls": {"verify": false})");
  auto [named, fourth] = configure(R"(, "tls": {"verify": false, "server_name": "a.example"})");
  auto [other, fifth] = configure(
      R"(, "balance": "least_connections", "tls": {"verify": false, "server_name": "a.example"})");
  EXPECT_EQ(plain->tls(), nullptr);
  EXPECT_NE(secure, plain);
  EXPECT_EQ(secure, same);
  EXPECT_NE(named, same);
  EXPECT_NE(named->tls(), same->tls());
  EXPECT_NE(other, named);
  EXPECT_EQ(other->tls(), named->tls()) << "its sessions are good for other connections";
}

}  // namespace
}  // namespace tidegate
