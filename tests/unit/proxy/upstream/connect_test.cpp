#include "proxy/upstream/connect.h"

#include "tests/support/proxy_rig.h"
#include "tests/support/tls_server.h"

namespace tidegate {
namespace {

class ConnectTest : public ProxyRig {
 protected:
  ConnectTest() : leaf(MakeTestCertificate({.hosts = {"a.example"}})) {
    server_context = MakeTestServer({.certificate = &leaf});
    ParseAddress(origin_address)->ToSockaddr(address.storage, address.length);
    std::vector<std::string> faults;
    auto tls = ClientTls::Make(
        {.roots = ReadRoots(PemOf(leaf), "ca.pem", faults), .server_name = "a.example"});
    peer = (*tls)->PeerOf(*ParseAddress(origin_address));
  }
  ~ConnectTest() override {
    connected.reset();
    Turn();
  }

  Task<void> Connect(std::shared_ptr<TlsPeer> to, Duration timeout = std::chrono::seconds(3)) {
    auto result =
        co_await ConnectTo(loop, buffers, counters, address, std::move(to), timeout, cancel);
    if (result) {
      connected = std::move(*result);
    } else {
      error = result.error().kind();
    }
    ended = true;
  }
  std::uint64_t Count(CounterId id) const { return counters.Get(id); }

  TestCertificate leaf;
  OwnedSslContext server_context;
  SocketAddress address;
  std::shared_ptr<TlsPeer> peer;
  CancelSlot cancel;
  std::unique_ptr<Stream> connected;
  std::optional<ErrorKind> error;
  bool ended = false;
};

TEST_F(ConnectTest, WithoutTlsTheSocketIsTheStream) {
  scope.Start(Connect(nullptr));
  AcceptAtOrigin();
  TurnUntil([&] { return ended; });
  EXPECT_NE(connected, nullptr);
  EXPECT_EQ(Count(CounterId::kUpstreamTlsHandshakes), 0U);
}

TEST_F(ConnectTest, WithTlsItIsThereAfterTheHandshake) {
  scope.Start(Connect(peer));
  TlsServer server(server_context.get(), AcceptAtOrigin());
  EXPECT_FALSE(ended);
  TurnUntil([&] {
    server.Carry();
    server.Handshake();
    return ended;
  });
  ASSERT_NE(connected, nullptr);
  EXPECT_EQ(Count(CounterId::kUpstreamTlsHandshakes), 1U);
  EXPECT_EQ(Count(CounterId::kUpstreamTlsResumed), 0U);
}

TEST_F(ConnectTest, ASilentServerHasWhatIsLeftOfTheTimeout) {
  scope.Start(Connect(peer, std::chrono::milliseconds(50)));
  UniqueFd silent = AcceptAtOrigin();
  TurnUntil([&] { return ended; });
  EXPECT_EQ(error, ErrorKind::kUpstreamConnectTimeout);
  EXPECT_EQ(Count(CounterId::kUpstreamTlsHandshakesFailed), 1U);
  EXPECT_TRUE(Closed(silent));
}

TEST_F(ConnectTest, AServerThatLeavesIsAFailedHandshake) {
  scope.Start(Connect(peer));
  AcceptAtOrigin();
  TurnUntil([&] { return ended; });
  EXPECT_EQ(error, ErrorKind::kUpstreamTlsHandshake);
}

TEST_F(ConnectTest, NobodyThereIsNoMatterOfTls) {
  origin.Reset();
  scope.Start(Connect(peer));
  TurnUntil([&] { return ended; });
  EXPECT_EQ(error, ErrorKind::kUpstreamRefused);
  EXPECT_EQ(Count(CounterId::kUpstreamTlsHandshakesFailed), 0U);
}

TEST_F(ConnectTest, IsGivenUpInTheMiddleOfTheHandshake) {
  scope.Start(Connect(peer));
  UniqueFd silent = AcceptAtOrigin();
  Turn();
  EXPECT_FALSE(ended);
  cancel.Cancel();
  TurnUntil([&] { return ended; });
  EXPECT_EQ(connected, nullptr);
  EXPECT_EQ(Count(CounterId::kUpstreamTlsHandshakesFailed), 0U);
  EXPECT_TRUE(Closed(silent));
}

}  // namespace
}  // namespace tidegate
