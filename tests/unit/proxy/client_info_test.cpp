#include "proxy/client_info.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstring>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

sockaddr_storage Ip(const char* text, std::uint16_t port) {
  sockaddr_storage storage{};
  auto* ipv4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* ipv6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (inet_pton(AF_INET, text, &ipv4->sin_addr) == 1) {
    ipv4->sin_family = AF_INET;
    ipv4->sin_port = htons(port);
  } else {
    EXPECT_EQ(inet_pton(AF_INET6, text, &ipv6->sin6_addr), 1) << text;
    ipv6->sin6_family = AF_INET6;
    ipv6->sin6_port = htons(port);
  }
  return storage;
}

sockaddr_storage Unix() {
  sockaddr_storage storage{};
  storage.ss_family = AF_UNIX;
  return storage;
}

std::vector<Network> Networks(std::initializer_list<std::string_view> texts) {
  std::vector<Network> networks;
  for (std::string_view text : texts) {
    auto network = ParseNetwork(text);
    EXPECT_TRUE(network) << text;
    networks.push_back(*network);
  }
  return networks;
}

ClientInfo Info(const sockaddr_storage& peer, const sockaddr_storage& local,
                std::vector<Network> trusted) {
  ListenerConfig listener;
  listener.name = "web";
  listener.trusted_proxies = std::move(trusted);
  return MakeClientInfo(reinterpret_cast<const sockaddr*>(&peer), sizeof(peer),
                        PortOf(reinterpret_cast<const sockaddr*>(&local), sizeof(local)), listener);
}

TEST(ClientInfoTest, CountsAnIpv4AddressOrAnIpv6Network) {
  auto network = [](const char* text, std::vector<Network> trusted = {}) {
    return Info(Ip(text, 5123), Ip("192.0.2.9", 8080), std::move(trusted)).network;
  };
  EXPECT_NE(network("192.0.2.1"), 0U);
  EXPECT_NE(network("192.0.2.1"), network("192.0.2.2"));
  EXPECT_EQ(network("192.0.2.1"), network("::ffff:192.0.2.1"));
  EXPECT_EQ(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
  EXPECT_NE(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
  EXPECT_NE(network("::1"), 0U);
  EXPECT_EQ(network("192.0.2.1", Networks({"192.0.2.0/24"})), 0U) << "a proxy has many clients";
  EXPECT_EQ(Info(Unix(), Unix(), {}).network, 0U);
}

TEST(ClientInfoTest, DescribesAnIpv4Peer) {
  ClientInfo client = Info(Ip("192.0.2.1", 5123), Ip("192.0.2.9", 8080), {});
  EXPECT_EQ(client.peer.view(), "192.0.2.1:5123");
  EXPECT_EQ(client.ip.view(), "192.0.2.1");
  EXPECT_TRUE(client.has_ip);
  EXPECT_EQ(client.port.view(), "8080");
  EXPECT_EQ(client.listener, "web");
  EXPECT_EQ(client.proto, "http");
  EXPECT_FALSE(client.trusted);
}

TEST(ClientInfoTest, DescribesAnIpv6Peer) {
  ClientInfo client = Info(Ip("2001:db8::1", 5123), Ip("::1", 80), {});
  EXPECT_EQ(client.peer.view(), "[2001:db8::1]:5123");
  EXPECT_EQ(client.ip.view(), "2001:db8::1");
  EXPECT_EQ(client.port.view(), "80");
}

TEST(ClientInfoTest, HasRoomForTheLongestAddress) {
  ClientInfo client = Info(Ip("2001:db81:1111:2222:3333:4444:5555:6666", 65535),
                           Ip("2001:db81:1111:2222:3333:4444:5555:6667", 65535), {});
  EXPECT_EQ(client.peer.view(), "[2001:db81:1111:2222:3333:4444:5555:6666]:65535");
  EXPECT_EQ(client.ip.view(), "2001:db81:1111:2222:3333:4444:5555:6666");
  EXPECT_EQ(client.port.view(), "65535");
}

TEST(ClientInfoTest, TheNameOfTheListenerOutlivesTheListener) {
  ClientInfo client;
  {
    ListenerConfig listener;
    listener.name = "a name that is too long to be kept in place";
    sockaddr_storage peer = Ip("192.0.2.1", 5123);
    client = MakeClientInfo(reinterpret_cast<const sockaddr*>(&peer), sizeof(peer), "80", listener);
  }
  EXPECT_EQ(client.listener, "a name that is too long to be kept in place");
}

TEST(ClientInfoTest, ShowsAMappedPeerAsIpv4) {
  ClientInfo client =
      Info(Ip("::ffff:192.0.2.1", 5123), Ip("::ffff:127.0.0.1", 80), Networks({"192.0.2.0/24"}));
  EXPECT_EQ(client.peer.view(), "192.0.2.1:5123");
  EXPECT_EQ(client.ip.view(), "192.0.2.1");
  EXPECT_TRUE(client.trusted);
}

TEST(ClientInfoTest, DescribesAUnixPeer) {
  ClientInfo client = Info(Unix(), Unix(), Networks({"unix"}));
  EXPECT_EQ(client.peer.view(), "unix");
  EXPECT_EQ(client.ip.view(), "unix");
  EXPECT_FALSE(client.has_ip);
  EXPECT_EQ(client.port.view(), "");
  EXPECT_TRUE(client.trusted);
  EXPECT_FALSE(Info(Unix(), Unix(), Networks({"10.0.0.0/8"})).trusted);
}

std::string ClientIp(std::initializer_list<std::string_view> x_forwarded_for, const char* peer,
                     std::initializer_list<std::string_view> trusted) {
  std::vector<Network> networks = Networks(trusted);
  ClientInfo client = Info(Ip(peer, 1), Ip("127.0.0.1", 80), networks);
  RequestHead head;
  head.fields.Add("Accept", "*/*");
  for (std::string_view value : x_forwarded_for) {
    head.fields.Add("x-forwarded-for", value);
  }
  return std::string(ClientIpOf(head, client, networks));
}

TEST(ClientInfoTest, FindsTheClientBehindTrustedProxies) {
  struct Case {
    std::initializer_list<std::string_view> values;
    std::string_view client;
  };
  for (const Case& c : std::initializer_list<Case>{
           {{}, "10.0.0.1"},
           {{""}, "10.0.0.1"},
           {{"192.0.2.7"}, "192.0.2.7"},
           {{"192.0.2.7:1234"}, "192.0.2.7"},
           {{"2001:db8::7"}, "2001:db8::7"},
           {{"[2001:db8::7]"}, "2001:db8::7"},
           {{"[2001:db8::7]:99"}, "2001:db8::7"},
           {{"6.6.6.6, 192.0.2.7"}, "192.0.2.7"},
           {{"6.6.6.6 ,\t192.0.2.7 , 10.9.9.9"}, "192.0.2.7"},
           {{"6.6.6.6", "192.0.2.7", "10.9.9.9"}, "192.0.2.7"},
           {{"10.1.1.1, 10.2.2.2"}, "10.1.1.1"},
           {{"192.0.2.7,, ,10.2.2.2,"}, "192.0.2.7"},
           {{"192.0.2.7, unknown, 10.2.2.2"}, "10.2.2.2"},
           {{"192.0.2.7, <script>"}, "10.0.0.1"},
           {{"192.0.2.7, 1.2.3"}, "10.0.0.1"},
           {{"[::1"}, "10.0.0.1"},
           {{"1111111111111111111111111111111111111111111111111111111111"}, "10.0.0.1"},
       }) {
    EXPECT_EQ(ClientIp(c.values, "10.0.0.1", {"10.0.0.0/8"}), c.client)
        << (c.values.size() == 0 ? "" : *c.values.begin());
  }
}

TEST(ClientInfoTest, IgnoresWhatAnUntrustedPeerSays) {
  EXPECT_EQ(ClientIp({"192.0.2.7"}, "203.0.113.1", {"10.0.0.0/8"}), "203.0.113.1");
  EXPECT_EQ(ClientIp({"192.0.2.7"}, "203.0.113.1", {}), "203.0.113.1");
}

TEST(ClientInfoTest, TrustsWhatTheListenerOfTheConnectionTrusts) {
  Config config;
  config.trusted_proxies = Networks({"198.51.100.0/24"});
  config.listeners.resize(2);
  config.listeners[0].name = "other";
  config.listeners[1].name = "web";
  config.listeners[1].trusted_proxies = Networks({"10.0.0.0/8"});
  ClientInfo client = Info(Ip("10.0.0.1", 1), Ip("127.0.0.1", 80), Networks({"10.0.0.0/8"}));
  RequestHead head;
  head.fields.Add("X-Forwarded-For", "192.0.2.7, 198.51.100.1, 10.9.9.9");
  EXPECT_EQ(ClientIpOf(head, client, config), "198.51.100.1");
  config.listeners.pop_back();
  EXPECT_EQ(ClientIpOf(head, client, config), "10.9.9.9");
  client.trusted = false;
  EXPECT_EQ(ClientIpOf(head, client, config), "10.0.0.1");
}

TEST(ClientInfoTest, MakesRequestIdsOf128RandomBits) {
  RequestIds ids;
  Arena arena;
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    Field field = ids.Next(arena);
    EXPECT_EQ(field.line(), "X-Request-Id: " + std::string(field.value) + "\r\n");
    std::string id(field.value);
    EXPECT_EQ(id.size(), 32u);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
    seen.insert(id);
  }
  EXPECT_EQ(seen.size(), 1000u);
}

std::string ChosenId(std::initializer_list<std::string_view> sent, bool trusted) {
  RequestHead head;
  for (std::string_view value : sent) {
    head.fields.Add("X-Request-ID", value);
  }
  ClientInfo client;
  client.trusted = trusted;
  RequestIds ids;
  return std::string(ChooseRequestId(head, client, ids).value);
}

TEST(ClientInfoTest, TakesTheRequestIdOfATrustedPeerOnly) {
  EXPECT_EQ(ChosenId({"abc-123_Z.:/+=@~"}, true), "abc-123_Z.:/+=@~");
  EXPECT_EQ(ChosenId({std::string(128, 'a')}, true), std::string(128, 'a'));
  EXPECT_EQ(ChosenId({"abc"}, false).size(), 32u);
  EXPECT_EQ(ChosenId({}, true).size(), 32u);
}

TEST(ClientInfoTest, ReplacesARequestIdThatIsNotSane) {
  EXPECT_EQ(ChosenId({""}, true).size(), 32u);
  EXPECT_EQ(ChosenId({"a b"}, true).size(), 32u);
  EXPECT_EQ(ChosenId({"a\"b"}, true).size(), 32u);
  EXPECT_EQ(ChosenId({"a\x1b[31m"}, true).size(), 32u);
  EXPECT_EQ(ChosenId({std::string(129, 'a')}, true).size(), 32u);
  EXPECT_EQ(ChosenId({"a", "b"}, true).size(), 32u);
}

}  // namespace
}  // namespace tidegate
