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
    gate.Count(accepted.size());
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
  gate.Count(1);
  EXPECT_TRUE(gate.open());
  Turn();
  EXPECT_EQ(accepted.size(), 3U);
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
