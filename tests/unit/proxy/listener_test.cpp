#include "proxy/listener.h"

#include <sys/resource.h>

#include <vector>

#include "tests/support/proxy_rig.h"

namespace tidegate {
namespace {

class ListenerTest : public ProxyRig, public SessionStarter {
 protected:
  void StartSession(UniqueFd fd, ClientInfo client,
                    const std::shared_ptr<const ServerTls>& /*tls*/) override {
    accepted.push_back(std::move(fd));
    clients.push_back(client);
    gate.Count(accepted.size(), more_streams);
  }
  void OnGate() {
    if (socket != nullptr) {
      socket->Update(wanted);
    }
  }
  void Listen() {
    UniqueFd copy(::dup(origin.get()));
    socket = std::make_unique<AcceptingSocket>(loop, gate, *this, std::move(copy), 3);
    socket->SetListener(ListenerConfig{.name = "web", .bind = {}, .trusted_proxies = {}}, nullptr);
    socket->Update(wanted);
  }
  UniqueFd Dial() {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    socklen_t length = sizeof(address);
    ::getsockname(origin.get(), reinterpret_cast<sockaddr*>(&address), &length);
    (void)::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), length);
    Turn();
    return fd;
  }

  bool wanted = true;
  std::size_t more_streams = 0;
  AcceptGate gate{loop, Bind<&ListenerTest::OnGate>(this)};
  std::unique_ptr<AcceptingSocket> socket;
  std::vector<UniqueFd> accepted;
  std::vector<ClientInfo> clients;
};

TEST_F(ListenerTest, AcceptsAndSaysWhoCalls) {
  Listen();
  UniqueFd client = Dial();
  ASSERT_EQ(accepted.size(), 1U);
  EXPECT_EQ(clients[0].listener, "web");
  EXPECT_EQ(clients[0].ip.view(), "127.0.0.1");
  EXPECT_EQ("127.0.0.1:" + std::string(clients[0].port), origin_address);
  EXPECT_EQ(socket->slot(), 3U);
  EXPECT_GT(socket->last_accept(), 0U);
}

TEST_F(ListenerTest, WhatComesWhileItIsNotWantedWaits) {
  wanted = false;
  Listen();
  UniqueFd client = Dial();
  EXPECT_TRUE(accepted.empty());
  wanted = true;
  OnGate();
  Turn();
  EXPECT_EQ(accepted.size(), 1U);
}

TEST_F(ListenerTest, AFullGateStopsAcceptingAndAFreePlaceOpensIt) {
  gate.Configure(4, 2);
  Listen();
  std::vector<UniqueFd> dialled;
  for (int i = 0; i < 4; ++i) {
    dialled.push_back(Dial());
  }
  EXPECT_EQ(accepted.size(), 2U);
  EXPECT_FALSE(gate.open());
  gate.Count(1, 0);
  EXPECT_TRUE(gate.open());
  Turn();
  EXPECT_EQ(accepted.size(), 3U);
  EXPECT_FALSE(gate.open());
}

// A process with so many descriptors for clients and upstreams.
struct DescriptorLimit {
  explicit DescriptorLimit(rlim_t for_clients) {
    getrlimit(RLIMIT_NOFILE, &before);
    constexpr rlim_t kOwn = 32;
    const rlimit tight{.rlim_cur = for_clients + kOwn, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &tight);
  }
  ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &before); }
  rlimit before{};
};

TEST_F(ListenerTest, StreamsBesideTheFirstOfTheirConnectionHoldDescriptorsToo) {
  DescriptorLimit limit(400);
  gate.Configure(std::nullopt, 1);
  gate.Count(100, 198);
  EXPECT_TRUE(gate.open());
  gate.Count(100, 199);
  EXPECT_FALSE(gate.open()) << "one more, and its upstream, would be 401";
  gate.Count(100, 190);
  EXPECT_FALSE(gate.open()) << "it does not flutter";
  gate.Count(100, 188);
  EXPECT_TRUE(gate.open()) << "streams have ended";
  gate.Count(199, 0);
  EXPECT_TRUE(gate.open());
  gate.Count(200, 0);
  EXPECT_FALSE(gate.open());
}

TEST_F(ListenerTest, StreamsLeaveRoomForConnectionsAndConnectionsWhatTheyLeave) {
  DescriptorLimit limit(400);
  gate.Configure(std::nullopt, 1);
  gate.Count(1, 0);
  EXPECT_EQ(gate.most_more_streams(), 150U);
  gate.Count(180, 0);
  EXPECT_EQ(gate.most_more_streams(), 40U);
  gate.Count(200, 0);
  EXPECT_EQ(gate.most_more_streams(), 0U);
  gate.Count(220, 0);
  EXPECT_EQ(gate.most_more_streams(), 0U) << "a reload with a lower limit finds more";
}

TEST_F(ListenerTest, WhatTheConfigurationAllowsIsOfConnectionsAlone) {
  gate.Configure(10, 1);
  gate.Count(9, 50);
  EXPECT_TRUE(gate.open());
  gate.Count(10, 0);
  EXPECT_FALSE(gate.open());
}

TEST_F(ListenerTest, WithoutDescriptorsItPausesAndGoesOn) {
  Listen();
  // The sanitizer looks at memory through a pipe when text is formatted; without descriptors it
  // reports what is not there.
  SetErrorLogLevel(LogLevel::kError);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  socklen_t length = sizeof(address);
  ::getsockname(origin.get(), reinterpret_cast<sockaddr*>(&address), &length);
  UniqueFd highest(::dup(0));
  rlimit tight{.rlim_cur = static_cast<rlim_t>(highest.get()), .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &tight);
  (void)::connect(client.get(), reinterpret_cast<sockaddr*>(&address), length);
  Turn();
  EXPECT_TRUE(accepted.empty());
  EXPECT_FALSE(gate.open());
  setrlimit(RLIMIT_NOFILE, &before);
  SetErrorLogLevel(LogLevel::kInfo);
  TurnUntil([&] { return accepted.size() == 1; });
  EXPECT_TRUE(gate.open());
}

}  // namespace
}  // namespace tidegate
