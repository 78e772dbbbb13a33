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

TEST_F(EndpointTest, GoesByAChangedHostsFileAtOnceHoweverLongItsAnswerIsGood) {
  server_.names["app.test"] = {{"192.0.2.1", 300}};
  Make("app.test:9000");
  Resolved();
  EXPECT_EQ(Addresses(), "192.0.2.1:9000");
  resolver_->SetFiles({.resolv_conf = "", .hosts = "192.0.2.7 app.test\n"});
  EXPECT_EQ(Addresses(), "192.0.2.7:9000");
  // And back; while the servers are asked, what was known is in use.
  resolver_->SetFiles({.resolv_conf = "", .hosts = "192.0.2.7 other.test\n"});
  EXPECT_EQ(Addresses(), "192.0.2.7:9000");
  TurnUntil([&] { return Addresses() == "192.0.2.1:9000"; });
  // A text that is the same changes nothing.
  int queries = server_.queries;
  resolver_->SetFiles({.resolv_conf = "", .hosts = "192.0.2.7 other.test\n"});
  EXPECT_EQ(Addresses(), "192.0.2.1:9000");
  EXPECT_FALSE(endpoint_->resolving());
  EXPECT_EQ(server_.queries, queries);
}

TEST_F(EndpointTest, GoesByAChangedHostsFileAlsoWhileItAsks) {
  server_.names["app.test"] = {{"192.0.2.1", 300}};
  Make("app.test:9000");
  EXPECT_TRUE(endpoint_->resolving());
  resolver_->SetFiles({.resolv_conf = "", .hosts = "192.0.2.7 app.test\n"});
  EXPECT_FALSE(endpoint_->resolving());
  EXPECT_EQ(Addresses(), "192.0.2.7:9000");
  // The answer that comes after all is no news.
  TurnUntil([&] { return server_.queries == 2; });
  AddressMemory& memory = resolver_->memory();
  for (int turn = 0; turn < 50; ++turn) {
    loop_.RunNoWait();
  }
  EXPECT_EQ(Addresses(), "192.0.2.7:9000");
  ASSERT_EQ(memory.Find("app.test").size(), 1U);
  EXPECT_EQ(SockaddrToString(memory.Find("app.test").front().get(),
                             memory.Find("app.test").front().length),
            "192.0.2.7:0");
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
