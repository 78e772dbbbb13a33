#include "common/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

struct Peer {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Peer PeerAt(const char* text) {
  Peer peer;
  auto address = ParseAddress(text);
  EXPECT_TRUE(address && address->ToSockaddr(peer.storage, peer.length)) << text;
  return peer;
}

TEST(Address, ReadsEveryForm) {
  struct Row {
    const char* text;
    Address::Kind kind;
    const char* what;  // host, path or name
    int port;
  };
  for (const Row& row : {Row{":80", Address::Kind::kTcp, "", 80},
                         Row{"127.0.0.1:0", Address::Kind::kTcp, "127.0.0.1", 0},
                         Row{"[::1]:65535", Address::Kind::kTcp, "::1", 65535},
                         Row{"app.internal:9000", Address::Kind::kTcp, "app.internal", 9000},
                         Row{"my_service-1:1", Address::Kind::kTcp, "my_service-1", 1},
                         Row{"unix:/run/a b.sock", Address::Kind::kUnix, "/run/a b.sock", 0},
                         Row{"systemd:web", Address::Kind::kSystemd, "web", 0}}) {
    auto address = ParseAddress(row.text);
    ASSERT_TRUE(address) << row.text << ": " << address.error().detail();
    EXPECT_EQ(address->kind, row.kind);
    EXPECT_EQ(address->host + address->path + address->name, row.what);
    EXPECT_EQ(address->port, row.port);
    EXPECT_EQ(address->ToString(), row.text);
  }
}

TEST(Address, OneTextForOneAddress) {
  EXPECT_EQ(ParseAddress("[0:0::1]:80")->ToString(), "[::1]:80");
  EXPECT_EQ(ParseAddress("EXAMPLE.org:80")->ToString(), "example.org:80");
}

TEST(Address, RefusesWithAReason) {
  for (const char* text :
       {"",           "8080",           "localhost", "::1",    "::1:80", "[::1]",        "[::1",
        "[::g]:80",   "[127.0.0.1]:80", "a:b",       "a:",     ":65536", ":99999999999", ":-1",
        ": 80",       "010.0.0.1:80",   "1.2.3:80",  "a b:80", "-a:80",  "a..b:80",      ".a:80",
        "a.:80",      "http://a:80",    "http://a",  "/run/x", "unix:",  "unix:x",       "systemd:",
        "systemd:a:b"}) {
    auto address = ParseAddress(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().kind(), ErrorKind::kConfig);
    EXPECT_FALSE(address.error().detail().empty());
  }
  EXPECT_TRUE(ParseAddress("unix:/" + std::string(106, 'x')));
  EXPECT_FALSE(ParseAddress("unix:/" + std::string(107, 'x')));
}

TEST(Address, BecomesASocketAddressAndBack) {
  for (const char* text : {"127.0.0.1:80", "[::1]:443", "unix:/run/app.sock"}) {
    Peer peer = PeerAt(text);
    EXPECT_EQ(SockaddrToString(peer.get(), peer.length), text);
  }
  EXPECT_EQ(SockaddrToString(PeerAt(":8080").get(), sizeof(sockaddr_in6)), "[::]:8080");
  EXPECT_EQ(SockaddrToString(PeerAt("[::ffff:192.0.2.1]:8080").get(), sizeof(sockaddr_in6)),
            "192.0.2.1:8080");
  sockaddr_un unnamed{};
  unnamed.sun_family = AF_UNIX;
  EXPECT_EQ(SockaddrToString(reinterpret_cast<sockaddr*>(&unnamed), sizeof(sa_family_t)), "unix");
}

TEST(Address, AHostIsWhatStandsBeforeThePort) {
  for (const char* text : {"a", "example.org", "systemd", "unix", "192.0.2.1", "[::1]", "a_b"}) {
    EXPECT_TRUE(IsHost(text)) << text;
  }
  for (const char* text :
       {"", "a:80", "::1", "[", "[]", "[::1", "[::1]:80", "1.2.3", "a b", "a.", "-a"}) {
    EXPECT_FALSE(IsHost(text)) << text;
  }
}

TEST(Address, NamesAndSystemdAreNotLiteral) {
  sockaddr_storage storage{};
  socklen_t length = 0;
  for (const char* text : {"localhost:80", "systemd:web"}) {
    auto address = ParseAddress(text);
    ASSERT_TRUE(address);
    EXPECT_FALSE(address->is_literal());
    EXPECT_FALSE(address->ToSockaddr(storage, length));
  }
  EXPECT_TRUE(ParseAddress(":80")->is_literal());
  EXPECT_TRUE(ParseAddress("unix:/x")->is_literal());
}

TEST(Network, ContainsItsPeers) {
  struct Row {
    const char* network;
    const char* peer;
    bool inside;
  };
  for (const Row& row :
       {Row{"10.0.0.0/8", "10.255.0.1:1", true}, Row{"10.0.0.0/8", "11.0.0.1:1", false},
        Row{"10.0.0.0/8", "[::ffff:10.1.2.3]:1", true}, Row{"192.0.2.1", "192.0.2.1:1", true},
        Row{"192.0.2.1", "192.0.2.2:1", false}, Row{"0.0.0.0/0", "1.2.3.4:1", true},
        Row{"0.0.0.0/0", "[::1]:1", false}, Row{"::/0", "1.2.3.4:1", false},
        Row{"::/0", "[::1]:1", true}, Row{"fd00::/9", "[fd7f::1]:1", true},
        Row{"fd00::/9", "[fd80::1]:1", false}, Row{"10.0.0.0/8", "unix:/x", false},
        Row{"unix", "unix:/x", true}, Row{"unix", "[::1]:1", false}}) {
    auto network = ParseNetwork(row.network);
    ASSERT_TRUE(network) << row.network;
    EXPECT_EQ(network->Contains(PeerAt(row.peer).get()), row.inside)
        << row.network << " " << row.peer;
  }
}

TEST(Network, IsWrittenAsItIsRead) {
  for (const char* text : {"10.0.0.0/8", "fd00::/8", "192.0.2.1/32", "unix", "0.0.0.0/0"}) {
    EXPECT_EQ(ParseNetwork(text)->ToString(), text);
  }
}

TEST(Network, RefusesWithAReason) {
  for (const char* text : {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8",
                           "fd00::/129", "example.org", "10.0.0", "Unix", "::ffff:10.0.0.0/104"}) {
    EXPECT_FALSE(ParseNetwork(text)) << text;
  }
  EXPECT_EQ(ParseNetwork("10.1.2.3/8").error().detail(),
            "\"10.1.2.3/8\" has bits set beyond its prefix; did you mean \"10.0.0.0/8\"?");
}

}  // namespace
}  // namespace tidegate
