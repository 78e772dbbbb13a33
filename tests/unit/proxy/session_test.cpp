#include "proxy/session.h"

#include <string>

#include "tests/support/proxy_rig.h"

namespace tidegate {
namespace {

class SessionTest : public ProxyRig {
 protected:
  ~SessionTest() override {
    sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
    TurnUntil([&] {
      sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
      return scope.count() == 0;
    });
    services.snapshot.reset();
  }
};

constexpr const char* kPing =
    R"({"listen": ":0", "routes": [{"path": "/", "respond": {"status": 200, "body": "pong"}}],
        "timeouts": {"request_head": "50ms", "keepalive": "50ms"}})";

TEST_F(SessionTest, ServesOneRequestAfterTheOther) {
  Configure(kPing);
  UniqueFd client = Connect();
  for (int i = 0; i < 3; ++i) {
    Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(ReceiveUntil(client, "pong").starts_with("HTTP/1.1 200 OK\r\n"));
  }
  EXPECT_EQ(counters.Get(CounterId::kRequests), 3U);
  EXPECT_EQ(counters.Get(CounterId::kConnectionsActive), 1U);
}

TEST_F(SessionTest, AHeadThatIsNotFinishedInTimeIsAnswered408) {
  Configure(kPing);
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost:");
  EXPECT_TRUE(ReceiveUntil(client, "\n").starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(Closed(client));
}

TEST_F(SessionTest, AnIdleConnectionIsClosedWithoutAWord) {
  Configure(kPing);
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ReceiveUntil(client, "pong");
  char octet = 0;
  TurnUntil([&] { return ::read(client.get(), &octet, 1) == 0; });
}

TEST_F(SessionTest, AfterAFramingErrorNothingIsReadAsARequest) {
  Configure(kPing);
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost : x\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n");
  std::string answer = ReceiveUntil(client, "\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << answer;
  EXPECT_NE(answer.find("Connection: close"), std::string::npos);
  EXPECT_TRUE(Closed(client));
  EXPECT_EQ(counters.Get(CounterId::kRequests), 1U);
}

TEST_F(SessionTest, ADrainClosesAfterTheNextAnswerAndLeavesTheIdleAlone) {
  Configure(
      R"({"listen": ":0", "routes": [{"path": "/", "respond": {"status": 200, "body": "pong"}}]})");
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ReceiveUntil(client, "pong");
  sessions.CloseAfterExchange();
  Turn();
  EXPECT_EQ(sessions.size(), 1U);
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(ReceiveUntil(client, "pong").find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(Closed(client));
  client.Reset();
  TurnUntil([&] { return sessions.size() == 0; });
}

}  // namespace
}  // namespace tidegate
