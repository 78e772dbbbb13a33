#include "proxy/upstream/upstream.h"

#include <string>
#include <vector>

#include "tests/support/proxy_rig.h"

namespace tidegate {
namespace {

class UpstreamTest : public ProxyRig {
 protected:
  void Make(std::string_view more = "") {
    Configure(R"({"listen": ":0", "upstreams": {"app": {"endpoints": ["ORIGIN"])" +
              std::string(more) + R"(}}, "routes": [{"path": "/", "upstream": "app"}]})");
    upstream = &services.snapshot->UpstreamOf(services.snapshot->config().routes[0]);
  }
  ~UpstreamTest() override {
    leases.clear();
    Turn();
    services.snapshot.reset();
  }

  Task<void> Acquire(LeaseRequest& request) {
    auto lease = co_await upstream->Acquire(request);
    if (lease) {
      leases.push_back(std::move(*lease));
      outcomes.push_back("lease");
    } else {
      outcomes.emplace_back(RowOf(lease.error().kind()).log_name);
    }
  }

  Upstream* upstream = nullptr;
  std::vector<Lease> leases;
  std::vector<std::string> outcomes;
};

TEST_F(UpstreamTest, OpensAConnectionWhereNoneIsIdle) {
  Make();
  LeaseRequest request;
  EXPECT_FALSE(upstream->TryAcquire(request));
  scope.Start(Acquire(request));
  AcceptAtOrigin();
  EXPECT_EQ(outcomes, std::vector<std::string>{"lease"});
  EXPECT_FALSE(leases[0].reused());
  EXPECT_EQ(counters.Get(CounterId::kUpstreamConnects), 1U);
}

TEST_F(UpstreamTest, AFullUpstreamQueuesInOrderAndABoundedNumber) {
  Make(R"(, "max_connections_per_endpoint": 1, "queue": {"size": 1, "timeout": "1h"})");
  std::vector<LeaseRequest> requests(3);
  scope.Start(Acquire(requests[0]));
  AcceptAtOrigin();
  scope.Start(Acquire(requests[1]));
  scope.Start(Acquire(requests[2]));
  Turn();
  EXPECT_EQ(outcomes, (std::vector<std::string>{"lease", "queue_full"}));
  leases.clear();
  AcceptAtOrigin();
  EXPECT_EQ(outcomes.back(), "lease");
}

TEST_F(UpstreamTest, TheLimitHoldsAlsoForThoseThatAskInTheSameTurn) {
  Make(R"(, "max_connections_per_endpoint": 2, "queue": {"size": 10, "timeout": "1h"})");
  std::vector<LeaseRequest> requests(6);
  for (LeaseRequest& request : requests) {
    scope.Start(Acquire(request));
  }
  AcceptAtOrigin();
  AcceptAtOrigin();
  EXPECT_TRUE(NobodyAtOrigin());
  EXPECT_EQ(outcomes, (std::vector<std::string>{"lease", "lease"}));
  for (LeaseRequest& request : requests) {
    request.cancel.Cancel();
  }
  TurnUntil([&] { return scope.count() == 0; });
}

TEST_F(UpstreamTest, WhoWaitsTooLongOrLeavesGetsNothing) {
  Make(R"(, "max_connections_per_endpoint": 1, "queue": {"size": 2, "timeout": "30ms"})");
  std::vector<LeaseRequest> requests(3);
  scope.Start(Acquire(requests[0]));
  AcceptAtOrigin();
  scope.Start(Acquire(requests[1]));
  Turn();
  requests[1].cancel.Cancel();
  scope.Start(Acquire(requests[2]));
  TurnUntil([&] { return outcomes.size() == 3; });
  EXPECT_EQ(outcomes, (std::vector<std::string>{"lease", "cancelled", "queue_timeout"}));
}

TEST_F(UpstreamTest, AReloadWithTheSameUpstreamKeepsIt) {
  Make();
  Upstream* before = upstream;
  Make();
  EXPECT_EQ(upstream, before);
  Make(R"(, "balance": "least_connections")");
  EXPECT_NE(upstream, before);
}

TEST_F(UpstreamTest, ANameWithoutAddressSaysSo) {
  Configure(R"({"listen": ":0", "upstream": "does-not-exist.invalid:80"})");
  upstream = &services.snapshot->UpstreamOf(services.snapshot->config().routes[0]);
  LeaseRequest request;
  request.connect_timeout = std::chrono::seconds(10);
  scope.Start(Acquire(request));
  TimePoint end = loop.now() + 12000;
  while (outcomes.empty() && loop.now() < end) {
    loop.RunNoWait();
  }
  EXPECT_EQ(outcomes, std::vector<std::string>{"upstream_unresolved"});
}

}  // namespace
}  // namespace tidegate
