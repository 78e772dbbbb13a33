#include "proxy/moving.h"

#include <utility>

#include <gtest/gtest.h>

#include "tests/support/proxy_rig.h"

namespace tidegate {
namespace {

class MovingTest : public ProxyRig {
 protected:
  void Put(std::string_view upstream, std::string_view endpoint) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    socklen_t length = sizeof(address);
    ASSERT_EQ(::getsockname(origin.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    PutIntoPool(*services.snapshot, {.upstream = std::string(upstream),
                                     .endpoint = std::string(endpoint),
                                     .fd = std::move(fd),
                                     .patience = std::chrono::seconds(10)});
  }
  std::uint64_t Idle() { return services.snapshot->upstreams().at("app")->Status()[0].idle; }
};

TEST_F(MovingTest, APooledConnectionIsUsedByTheNextRequest) {
  Configure(R"({"listen": ":1", "upstreams": {"app": {"endpoints": ["ORIGIN"]}},
                "routes": [{"path": "/", "upstream": "app"}]})");
  Put("app", origin_address);
  EXPECT_EQ(Idle(), 1U);
  UniqueFd at_origin = AcceptAtOrigin();
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(ReceiveUntil(at_origin, "\r\n\r\n").starts_with("GET / "));
  Send(at_origin, "HTTP/1.1 204 No Content\r\n\r\n");
  ReceiveUntil(client, "\r\n\r\n");
  client.Reset();
  Turn();
}

TEST_F(MovingTest, OneWithoutAPoolIsClosed) {
  Configure(R"({"listen": ":1", "upstreams": {"app": {"endpoints": ["ORIGIN"],
                "max_connections_per_endpoint": 1}}, "routes": [{"path": "/", "upstream": "app"}]})");
  Put("gone", origin_address);
  Put("app", "127.0.0.1:1");
  EXPECT_EQ(Idle(), 0U);
  Put("app", origin_address);
  Put("app", origin_address);
  EXPECT_EQ(Idle(), 1U) << "there is no room for two";
}

}  // namespace
}  // namespace tidegate
