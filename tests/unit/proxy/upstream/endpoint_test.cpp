#include "proxy/upstream/endpoint.h"

#include <chrono>
#include <functional>
#include <optional>

#include <gtest/gtest.h>

#include "tests/support/dns_server.h"

namespace tidegate {
namespace {

class EndpointTest : public testing::Test {
 protected:
  EndpointTest() : server_(loop_), resolver_(std::in_place, loop_, server_.address()) {}
  ~EndpointTest() override {
    endpoint_.reset();
    resolver_.reset();
    server_.Close();
    loop_.RunUntilClosed();
  }

  void Make(const char* address) {
    endpoint_.emplace(loop_, *resolver_, EndpointConfig{.address = *ParseAddress(address)});
  }
  void TurnUntil(const std::function<bool()>& done) {
    TimePoint end = loop_.now() + 20000;
    bool is_done = done();
    while (!is_done && loop_.now() < end) {
      loop_.RunNoWait();
      is_done = done();
    }
    EXPECT_TRUE(is_done);
  }
  std::string Addresses() {
    std::string all;
    for (const SocketAddress& address : endpoint_->Addresses()) {
      all += (all.empty() ? "" : " ") + SockaddrToString(address.get(), address.length);
    }
    return all;
  }
  void Resolved() {
    TurnUntil([&] { return !endpoint_->resolving(); });
  }

  Loop loop_;
  DnsServer server_;
  std::optional<Resolver> resolver_;
  std::optional<Endpoint> endpoint_;
};

TEST_F(EndpointTest, HasTheAddressesOfItsNameWithItsPort) {
  server_.names["app.test"] = {{"192.0.2.1"}};
  Make("app.test:9000");
  EXPECT_TRUE(endpoint_->resolving());
  Resolved();
  EXPECT_EQ(Addresses(), "192.0.2.1:9000");
}

TEST_F(EndpointTest, SaysWhyItHasNone) {
  Make("app.test:9000");
  Resolved();
  EXPECT_EQ(Addresses(), "");
  EXPECT_TRUE(endpoint_->failure().ends_with("app.test: Domain name not found"))
      << endpoint_->failure();
}

TEST_F(EndpointTest, KeepsItsLastAddressesWhileItsNameDoesNotResolve) {
  server_.names["app.test"] = {{"192.0.2.1", 0}};
  Make("app.test:9000");
  Resolved();
  server_.names.clear();
  int queries = server_.queries;
  TurnUntil([&] { return Addresses() == "192.0.2.1:9000" && endpoint_->resolving(); });
  Resolved();
  EXPECT_GT(server_.queries, queries);
  EXPECT_EQ(Addresses(), "192.0.2.1:9000");
  EXPECT_NE(endpoint_->failure(), "");
  // It asks again soon, and is back to normal then.
  server_.names["app.test"] = {{"192.0.2.2", 60}};
  TurnUntil([&] { return Addresses() == "192.0.2.2:9000"; });
  EXPECT_EQ(endpoint_->failure(), "");
}

TEST_F(EndpointTest, BeginsWithWhatIsKnownWithoutWaitingForSilentServers) {
  server_.silent = true;
  auto offered = resolver_->memory().Offer({{"app.test", {"192.0.2.9"}}});
  Make("app.test:9000");
  EXPECT_EQ(Addresses(), "192.0.2.9:9000");
  EXPECT_TRUE(endpoint_->resolving()) << "it does not ask by itself";
  offered.clear();
  Resolved();
  EXPECT_EQ(Addresses(), "192.0.2.9:9000");
}

TEST_F(EndpointTest, ReplacesWhatIsKnownByItsOwnAnswer) {
  server_.names["app.test"] = {{"192.0.2.1"}};
  auto offered = resolver_->memory().Offer({{"app.test", {"192.0.2.9"}}});
  Make("app.test:9000");
  Resolved();
  EXPECT_EQ(Addresses(), "192.0.2.1:9000");
}

TEST_F(EndpointTest, LeavesNothingInMemory) {
  server_.names["app.test"] = {{"192.0.2.1"}};
  Make("app.test:9000");
  Resolved();
  EXPECT_EQ(resolver_->memory().All().size(), 1U);
  endpoint_.reset();
  EXPECT_TRUE(resolver_->memory().All().empty());
}

}  // namespace
}  // namespace tidegate
