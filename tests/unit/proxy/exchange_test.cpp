#include "proxy/exchange.h"

#include <string>

#include "tests/support/proxy_rig.h"

namespace tidegate {
namespace {

class ExchangeTest : public ProxyRig {
 protected:
  ~ExchangeTest() override {
    TurnUntil([&] {
      sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
      return scope.count() == 0;
    });
    services.snapshot.reset();
  }
};

constexpr const char* kForward = R"({"listen": ":0", "upstream": "ORIGIN"})";

TEST_F(ExchangeTest, PassesARequestAndItsAnswerAndKeepsBothConnections) {
  Configure(kForward);
  UniqueFd client = Connect();
  Send(client, "GET /a?b=%2F HTTP/1.1\r\nHost: example.org\r\n\r\n");
  UniqueFd upstream = AcceptAtOrigin();
  std::string request = ReceiveUntil(upstream, "\r\n\r\n");
  EXPECT_TRUE(request.starts_with("GET /a?b=%2F HTTP/1.1\r\nHost: example.org\r\n")) << request;
  Send(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  EXPECT_TRUE(ReceiveUntil(client, "ok").starts_with("HTTP/1.1 200 OK\r\n"));
  Send(client, "GET /2 HTTP/1.1\r\nHost: example.org\r\n\r\n");
  EXPECT_TRUE(ReceiveUntil(upstream, "\r\n\r\n").starts_with("GET /2 "));
  EXPECT_EQ(counters.Get(CounterId::kUpstreamReused), 1U);
}

TEST_F(ExchangeTest, AnAnswerMayBeginAndEndBeforeTheUploadDoes) {
  Configure(kForward);
  UniqueFd client = Connect();
  Send(client, "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\npart");
  UniqueFd upstream = AcceptAtOrigin();
  ReceiveUntil(upstream, "part");
  Send(upstream, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
  std::string answer = ReceiveUntil(client, "no");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 403 ")) << answer;
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos) << answer;
  EXPECT_TRUE(Closed(client));
  EXPECT_TRUE(Closed(upstream));
}

TEST_F(ExchangeTest, AStalePooledConnectionIsRetriedOnceOnAFreshOne) {
  Configure(kForward);
  UniqueFd client = Connect();
  Send(client, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
  UniqueFd first = AcceptAtOrigin();
  ReceiveUntil(first, "\r\n\r\n");
  Send(first, "HTTP/1.1 204 No Content\r\n\r\n");
  ReceiveUntil(client, "\r\n\r\n");
  // The origin closes at the very moment when the next request is written.
  Send(client, "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
  ReceiveUntil(first, "\r\n\r\n");
  first.Reset();
  UniqueFd second = AcceptAtOrigin();
  EXPECT_TRUE(ReceiveUntil(second, "\r\n\r\n").starts_with("GET /2 "));
  Send(second, "HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_TRUE(ReceiveUntil(client, "\r\n\r\n").starts_with("HTTP/1.1 204 "));
  EXPECT_EQ(counters.Get(CounterId::kRetries), 1U);
}

TEST_F(ExchangeTest, ARetryDoesNotReadAnEmptyBodyTwice) {
  Configure(kForward);
  UniqueFd client = Connect();
  Send(client, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
  UniqueFd first = AcceptAtOrigin();
  ReceiveUntil(first, "\r\n\r\n");
  Send(first, "HTTP/1.1 204 No Content\r\n\r\n");
  ReceiveUntil(client, "\r\n\r\n");
  Send(client, "DELETE /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  ReceiveUntil(first, "\r\n\r\n");
  first.Reset();
  UniqueFd second = AcceptAtOrigin();
  EXPECT_TRUE(ReceiveUntil(second, "\r\n\r\n").starts_with("DELETE /2 "));
  Send(second, "HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_TRUE(ReceiveUntil(client, "\r\n\r\n").starts_with("HTTP/1.1 204 "));
}

TEST_F(ExchangeTest, NoDeadlineOutlivesItsExchange) {
  Configure(R"({"listen": ":0", "upstream": "ORIGIN", "timeouts": {"upstream_response": "40ms"}})");
  UniqueFd client = Connect();
  Send(client, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
  UniqueFd upstream = AcceptAtOrigin();
  ReceiveUntil(upstream, "ab");
  // The end of the upload and the answer come in the same turn.
  EXPECT_EQ(::write(client.get(), "cd", 2), 2);
  EXPECT_EQ(::write(upstream.get(), "HTTP/1.1 204 No Content\r\n\r\n", 27), 27);
  EXPECT_TRUE(ReceiveUntil(client, "\r\n\r\n").starts_with("HTTP/1.1 204 "));
  TimePoint end = loop.now() + 100;
  TurnUntil([&] { return loop.now() >= end; });
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kUpstreamResponseTimeout)), 0U);
}

TEST_F(ExchangeTest, AnUploadAfterExpectHasTheClientsTimeNotTheOrigins) {
  Configure(R"({"listen": ":0", "upstream": "ORIGIN", "timeouts": {"upstream_response": "40ms"}})");
  UniqueFd client = Connect();
  Send(client, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  UniqueFd upstream = AcceptAtOrigin();
  ReceiveUntil(upstream, "\r\n\r\n");
  // A client that does not wait for 100, and takes longer than the origin may.
  Send(client, "ab");
  TimePoint end = loop.now() + 100;
  TurnUntil([&] { return loop.now() >= end; });
  Send(client, "cd");
  ReceiveUntil(upstream, "abcd");
  Send(upstream, "HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_TRUE(ReceiveUntil(client, "\r\n\r\n").starts_with("HTTP/1.1 204 "));
}

TEST_F(ExchangeTest, ABodyThatWasReadWholeIsSaidToEndTheConnectionOrDoesNot) {
  Configure(R"({"listen": ":0", "upstream": "ORIGIN", "limits": {"max_body": "4B"}})");
  UniqueFd client = Connect();
  Send(client,
       "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n");
  std::string answer = ReceiveUntil(client, "\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 413 ")) << answer;
  if (answer.find("Connection: close") == std::string::npos) {
    Send(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n");
    EXPECT_TRUE(ReceiveUntil(client, "\n").starts_with("HTTP/1.1 413 "));
  }
}

TEST_F(ExchangeTest, APostIsNotSentTwice) {
  Configure(kForward);
  UniqueFd client = Connect();
  Send(client, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
  UniqueFd first = AcceptAtOrigin();
  ReceiveUntil(first, "\r\n\r\n");
  Send(first, "HTTP/1.1 204 No Content\r\n\r\n");
  ReceiveUntil(client, "\r\n\r\n");
  Send(client, "POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  ReceiveUntil(first, "\r\n\r\n");
  first.Reset();
  EXPECT_TRUE(ReceiveUntil(client, "\n").starts_with("HTTP/1.1 502 "));
  EXPECT_TRUE(NobodyAtOrigin());
}

TEST_F(ExchangeTest, ATruncatedAnswerBreaksVisibly) {
  Configure(kForward);
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  UniqueFd upstream = AcceptAtOrigin();
  ReceiveUntil(upstream, "\r\n\r\n");
  Send(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart");
  ReceiveUntil(client, "part");
  upstream.Reset();
  EXPECT_TRUE(Closed(client));
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kUpstreamTruncated)), 1U);
}

TEST_F(ExchangeTest, ARefusedConnectionIs502WithItsReason) {
  Configure(kForward);
  origin.Reset();
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(ReceiveUntil(client, "\n").starts_with("HTTP/1.1 502 "));
  TurnUntil([&] { return counters.Get(CounterId::kRequests) == 1; });
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kUpstreamRefused)), 1U);
}

TEST_F(ExchangeTest, AnEndpointThatDoesNotAnswerIs504) {
  Configure(R"({"listen": ":0", "upstream": "ORIGIN", "timeouts": {"upstream_response": "50ms"}})");
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  UniqueFd upstream = AcceptAtOrigin();
  std::string answer = ReceiveUntil(client, "\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 504 ")) << answer;
  EXPECT_TRUE(Closed(upstream));
}

TEST_F(ExchangeTest, ATunnelPassesOctetsBothWaysAndEndsBySides) {
  Configure(kForward);
  UniqueFd client = Connect();
  Send(client, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  UniqueFd upstream = AcceptAtOrigin();
  std::string request = ReceiveUntil(upstream, "\r\n\r\n");
  EXPECT_NE(request.find("Upgrade: websocket\r\n"), std::string::npos) << request;
  Send(
      upstream,
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst");
  std::string answer = ReceiveUntil(client, "first");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 101 ")) << answer;
  EXPECT_EQ(counters.Get(CounterId::kTunnelsActive), 1U);
  Send(client, "up");
  EXPECT_EQ(ReceiveUntil(upstream, "up"), "up");
  ::shutdown(client.get(), SHUT_WR);
  EXPECT_TRUE(Closed(upstream));
  Send(upstream, "still");
  EXPECT_EQ(ReceiveUntil(client, "still"), "still");
  upstream.Reset();
  EXPECT_TRUE(Closed(client));
  TurnUntil([&] { return counters.Get(CounterId::kTunnelsActive) == 0; });
}

TEST_F(ExchangeTest, ABodyOverTheLimitIs413AlsoWhenItsLengthWasNotSaid) {
  Configure(R"({"listen": ":0", "upstream": "ORIGIN", "limits": {"max_body": "4B"}})");
  UniqueFd client = Connect();
  Send(client, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  UniqueFd upstream = AcceptAtOrigin();
  Send(client, "3\r\ndef\r\n");
  std::string answer = ReceiveUntil(client, "\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 413 ")) << answer;
  EXPECT_TRUE(Closed(upstream));
}

TEST_F(ExchangeTest, AClientThatResetsEndsTheAttempt) {
  Configure(kForward);
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  UniqueFd upstream = AcceptAtOrigin();
  ReceiveUntil(upstream, "\r\n\r\n");
  Send(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart");
  // Closing a unix socket with octets unread resets it.
  client.Reset();
  EXPECT_TRUE(Closed(upstream));
  TurnUntil([&] { return counters.Get(CounterOf(ErrorKind::kClientClosed)) == 1; });
}

}  // namespace
}  // namespace tidegate
