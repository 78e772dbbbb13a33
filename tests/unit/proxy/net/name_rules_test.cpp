#include "proxy/net/name_rules.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/address.h"

namespace tidegate {
namespace {

using Words = std::vector<std::string>;

Words Found(std::string_view hosts, std::string_view name) {
  Words texts;
  HostsTable table{std::string(hosts)};
  for (const SocketAddress& address : table.Find(name)) {
    texts.push_back(SockaddrToString(address.get(), address.length));
  }
  return texts;
}

TEST(ParseResolvConf, TakesServersDomainsAndOptions) {
  ResolvConf conf = ParseResolvConf(
      "# by hand\n"
      "nameserver 192.0.2.1\r\n"
      "\tnameserver\t2001:db8::1 ; the other\n"
      "nameserver fe80::1%eth0\n"
      "search a.test b.test.  # both\n"
      "options timeout:1 ndots:2 rotate use-vc edns0\n");
  EXPECT_EQ(conf.servers, (Words{"192.0.2.1", "2001:db8::1", "fe80::1%eth0"}));
  EXPECT_EQ(conf.domains, (Words{"a.test", "b.test"}));
  EXPECT_EQ(conf.ndots, 2);
  EXPECT_TRUE(conf.rotate);
  EXPECT_TRUE(conf.use_tcp);
}

TEST(ParseResolvConf, LeavesOutWhatSaysNothing) {
  ResolvConf conf = ParseResolvConf(
      "nameserver\nnameserver dns.test\nnameservers 192.0.2.1\nNAMESERVER 192.0.2.1\n;nameserver "
      "192.0.2.1\n"
      "search\noptions ndots: ndots:x ndots:1x ndots:-1\nsortlist 192.0.2.0\nnameserver 192.0.2.9");
  EXPECT_EQ(conf.servers, Words{"192.0.2.9"});
  EXPECT_EQ(conf.domains, std::nullopt);
  EXPECT_EQ(conf.ndots, std::nullopt);
  EXPECT_FALSE(conf.rotate);
  EXPECT_FALSE(conf.use_tcp);
  EXPECT_EQ(ParseResolvConf("").servers, Words{});
}

TEST(ParseResolvConf, GoesByTheLastOfSearchAndDomain) {
  EXPECT_EQ(ParseResolvConf("domain a.test b.test\n").domains, Words{"a.test"});
  EXPECT_EQ(ParseResolvConf("domain a.test\nsearch b.test c.test\n").domains,
            (Words{"b.test", "c.test"}));
  EXPECT_EQ(ParseResolvConf("search b.test\ndomain a.test\n").domains, Words{"a.test"});
  // As systemd-resolved says that there is none.
  EXPECT_EQ(ParseResolvConf("search .\n").domains, Words{});
}

TEST(ParseResolvConf, BoundsNdots) {
  EXPECT_EQ(ParseResolvConf("options ndots:0").ndots, 0);
  EXPECT_EQ(ParseResolvConf("options ndots:99").ndots, 15);
  EXPECT_EQ(ParseResolvConf("options ndots:99999999999").ndots, std::nullopt);
}

TEST(HostsTable, FindsNamesAndAliasesWhateverTheirCase) {
  constexpr std::string_view kHosts =
      "127.0.0.1 localhost\n"
      "192.0.2.7\tapp.test  app # app.old\r\n"
      "#192.0.2.8 app.test\n"
      "192.0.2.9 App.Test other";
  EXPECT_EQ(Found(kHosts, "APP"), Words{"192.0.2.7:0"});
  EXPECT_EQ(Found(kHosts, "app.test."), (Words{"192.0.2.7:0", "192.0.2.9:0"}));
  EXPECT_EQ(Found(kHosts, "other"), Words{"192.0.2.9:0"});
  for (const char* absent : {"app.old", "192.0.2.7", "app.tes", "", "."}) {
    EXPECT_EQ(Found(kHosts, absent), Words{}) << absent;
  }
  EXPECT_EQ(Found("", "app"), Words{});
}

TEST(HostsTable, LeavesOutWhatIsNoAddressAndWhatItHasSaid) {
  EXPECT_EQ(Found("app app\n192.0.2 app\n192.0.2.7 app\nfe80::1%eth0 app\n192.0.2.7 app\n", "app"),
            Words{"192.0.2.7:0"});
}

TEST(HostsTable, FindsEveryNameOfALongText) {
  std::string text = "192.0.2.1 app . other. app\n";
  for (int i = 0; i < 20000; ++i) {
    text += fmt::format("0.0.0.0 ad{0}.test AD{0}.example.\n", i);
  }
  text += "192.0.2.2 app";
  HostsTable table{std::move(text)};
  for (int i = 0; i < 20000; i += 7) {
    EXPECT_EQ(table.Find(fmt::format("Ad{}.test", i)).size(), 1U) << i;
    EXPECT_EQ(table.Find(fmt::format("ad{}.example", i)).size(), 1U) << i;
  }
  EXPECT_EQ(table.Find("ad20000.test").size(), 0U);
  EXPECT_EQ(table.Find("app").size(), 2U);
  EXPECT_EQ(table.Find("other").size(), 1U);
}

TEST(HostsTable, PutsFirstWhatItShouldTryFirst) {
  // Loopback is there always, in both families unless there is no IPv6.
  Words found = Found("127.0.0.1 app\n127.0.0.2 app\n::1 app\n", "app");
  ASSERT_EQ(found.size(), 3U);
  if (found.front() == "[::1]:0") {
    found.erase(found.begin());
  } else {
    found.pop_back();
  }
  EXPECT_EQ(found, (Words{"127.0.0.1:0", "127.0.0.2:0"}));
  // A connect to a broadcast address is refused: nothing that can be reached.
  EXPECT_EQ(Found("255.255.255.255 app\n127.0.0.1 app\n", "app"),
            (Words{"127.0.0.1:0", "255.255.255.255:0"}));
}

}  // namespace
}  // namespace tidegate
