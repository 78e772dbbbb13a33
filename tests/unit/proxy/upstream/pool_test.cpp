#include "proxy/upstream/pool.h"

#include "tests/support/proxy_rig.h"

namespace tidegate {
namespace {

class PoolTest : public ProxyRig {
 protected:
  PoolTest() {
    EndpointConfig config;
    config.address = *ParseAddress(origin_address);
    pool = std::make_unique<Pool>(loop, buffers, resolver, counters, config, nullptr);
  }

  Task<void> Open() {
    pool->Reserve();
    auto opened = co_await pool->Open(std::chrono::seconds(3), cancel);
    if (opened) {
      connection = std::move(*opened);
    } else {
      error = opened.error().kind();
    }
  }
  // One exchange on `connection`, so that it can be kept.
  Task<void> Exchange() {
    connection->http.BeginExchange(response);
    RequestHead request;
    request.method = Method::kGet;
    request.method_name = "GET";
    request.target = "/";
    auto writing = connection->http.WriteHead(request, {}, true);
    auto sent = co_await writing;
    EXPECT_TRUE(sent.has_value());
    auto head = co_await connection->http.ReadHead();
    EXPECT_TRUE(head.has_value());
  }
  void OpenAndExchange() {
    scope.Start(Open());
    upstream = AcceptAtOrigin();
    TurnUntil([&] { return connection != nullptr; });
    scope.Start(Exchange());
    ReceiveUntil(upstream, "\r\n\r\n");
    Send(upstream, "HTTP/1.1 204 No Content\r\n\r\n");
  }

  CancelSlot cancel;
  std::unique_ptr<Pool> pool;
  std::unique_ptr<PooledConnection> connection;
  std::optional<ErrorKind> error;
  ResponseHead response;
  UniqueFd upstream;
};

TEST_F(PoolTest, KeepsAConnectionWhoseExchangeIsComplete) {
  OpenAndExchange();
  EXPECT_EQ(pool->in_use(), 1U);
  pool->GiveBack(std::move(connection));
  EXPECT_EQ(pool->in_use(), 0U);
  EXPECT_EQ(pool->idle(), 1U);
  connection = pool->TakeIdle();
  EXPECT_NE(connection, nullptr);
  EXPECT_EQ(pool->idle(), 0U);
  pool->GiveBack(std::move(connection));
}

TEST_F(PoolTest, AnIdleConnectionThatTheOriginClosesIsForgotten) {
  OpenAndExchange();
  pool->GiveBack(std::move(connection));
  upstream.Reset();
  TurnUntil([&] { return pool->idle() == 0; });
}

TEST_F(PoolTest, OctetsThatNobodyAskedForKillAnIdleConnection) {
  OpenAndExchange();
  pool->GiveBack(std::move(connection));
  Send(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
  TurnUntil([&] { return pool->idle() == 0; });
  EXPECT_TRUE(Closed(upstream));
}

TEST_F(PoolTest, AnIdleConnectionGoesWhenItsTimeIsOver) {
  pool->Configure(PoolSettings{.limits = {}, .idle = std::chrono::milliseconds(20)});
  OpenAndExchange();
  pool->GiveBack(std::move(connection));
  EXPECT_EQ(pool->idle(), 1U);
  TurnUntil([&] { return pool->idle() == 0; });
}

// Three connections whose exchanges are complete: the first two are idle and have been polled
// since, the third is given back in this turn.
class PoolOfThreeTest : public PoolTest {
 protected:
  PoolOfThreeTest() {
    for (std::size_t i = 0; i < 3; ++i) {
      OpenAndExchange();
      TurnUntil([&] { return connection->http.reusable(); });
      upstreams[i] = std::move(upstream);
      connections[i] = connection.get();
      opened.push_back(std::move(connection));
    }
    pool->GiveBack(std::move(opened[0]));
    pool->GiveBack(std::move(opened[1]));
    loop.RunNoWait();
  }

  UniqueFd upstreams[3];
  PooledConnection* connections[3];
  std::vector<std::unique_ptr<PooledConnection>> opened;
};

TEST_F(PoolOfThreeTest, AreTakenByTheirLastUseThatWasPolledAndThenTheOthers) {
  pool->GiveBack(std::move(opened[2]));
  auto first = pool->TakeIdle();
  auto second = pool->TakeIdle();
  auto third = pool->TakeIdle();
  EXPECT_EQ(first.get(), connections[1]);
  EXPECT_EQ(second.get(), connections[0]);
  EXPECT_EQ(third.get(), connections[2]);
  EXPECT_EQ(pool->TakeIdle(), nullptr);
  for (auto* each : {&first, &second, &third}) {
    pool->GiveBack(std::move(*each));
  }
}

TEST_F(PoolOfThreeTest, AreNotUsedUnpolledWithOctetsThatNobodyAskedFor) {
  Send(upstreams[2], "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
  pool->GiveBack(std::move(opened[2]));
  auto first = pool->TakeIdle();
  auto second = pool->TakeIdle();
  EXPECT_EQ(first.get(), connections[1]);
  EXPECT_EQ(second.get(), connections[0]);
  EXPECT_EQ(pool->TakeIdle(), nullptr);
  pool->GiveBack(std::move(first));
  pool->GiveBack(std::move(second));
}

TEST_F(PoolOfThreeTest, AreKeptApartWhenOneOfThemIsForgotten) {
  Send(upstreams[2], "evil");
  pool->GiveBack(std::move(opened[2]));
  connections[0]->OnUseless();
  auto first = pool->TakeIdle();
  EXPECT_EQ(first.get(), connections[1]);
  EXPECT_EQ(pool->TakeIdle(), nullptr);
  pool->GiveBack(std::move(first));
}

TEST_F(PoolTest, SaysThatNobodyListens) {
  origin.Reset();
  scope.Start(Open());
  TurnUntil([&] { return error.has_value(); });
  EXPECT_EQ(*error, ErrorKind::kUpstreamRefused);
  pool->GiveBack(nullptr);
  EXPECT_EQ(pool->in_use(), 0U);
}

}  // namespace
}  // namespace tidegate
