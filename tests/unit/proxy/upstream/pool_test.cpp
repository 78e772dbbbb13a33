#include "proxy/upstream/pool.h"

#include "tests/support/proxy_rig.h"

namespace tidegate {
namespace {

class PoolTest : public ProxyRig {
 protected:
  PoolTest() {
    EndpointConfig config;
    config.address = *ParseAddress(origin_address);
    pool = std::make_unique<Pool>(loop, buffers, resolver, counters, config);
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
