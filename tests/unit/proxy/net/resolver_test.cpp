#include "proxy/net/resolver.h"

#include <dlfcn.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <uv.h>

#include "common/address.h"
#include "tests/support/dns_server.h"

// In the place of libc's: the machine of these tests has a domain. Under another name here, because
// the headers define that one where the build is fortified.
extern "C" [[gnu::visibility("default"), gnu::used]] int HostNameOfTests(char* name,
                                                                         std::size_t size) noexcept
    asm("gethostname");
int HostNameOfTests(char* name, std::size_t size) noexcept {
  constexpr std::string_view kName = "tests.machine.test";
  if (size <= kName.size()) {
    errno = ENAMETOOLONG;
    return -1;
  }
  name[kName.copy(name, size - 1)] = '\0';
  return 0;
}

namespace tidegate {
namespace {

class ResolverTest : public testing::Test {
 public:
  ~ResolverTest() override {
    resolver_.reset();
    server_.Close();
    loop_.RunUntilClosed();
  }

 protected:
  ResolverTest() : server_(loop_), resolver_(std::in_place, loop_, server_.address()) {}

  // Turns the loop until `done`, at most 20 s. False: it never was.
  bool TurnUntil(const std::function<bool()>& done) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    // Keeps the loop turning while nothing but deadlines is there.
    uv_timer_t tick;
    uv_timer_init(loop_.uv(), &tick);
    uv_timer_start(&tick, [](uv_timer_t*) {}, 5, 5);
    bool is_done = done();
    while (!is_done && std::chrono::steady_clock::now() < deadline) {
      uv_run(loop_.uv(), UV_RUN_ONCE);
      is_done = done();
    }
    uv_close(reinterpret_cast<uv_handle_t*>(&tick), nullptr);
    uv_run(loop_.uv(), UV_RUN_NOWAIT);
    return is_done;
  }

  // Starts a lookup whose answer `answers_` takes as text.
  Resolver::Request Ask(const std::string& name) {
    return resolver_->Resolve(name, [this, name](Result<ResolvedAddresses> result) {
      answers_.push_back(TextOf(result));
      last_ = std::move(result);
    });
  }

  static std::string TextOf(const Result<ResolvedAddresses>& result) {
    if (!result) {
      EXPECT_EQ(result.error().kind(), ErrorKind::kUpstreamUnresolved);
      return "error " + result.error().detail();
    }
    std::vector<std::string> texts;
    for (const SocketAddress& address : result->addresses) {
      texts.push_back(SockaddrToString(address.get(), address.length));
    }
    std::ranges::sort(texts);
    std::string all;
    for (const std::string& text : texts) {
      all += (all.empty() ? "" : " ") + text;
    }
    return all;
  }

  std::string AskAndWait(const std::string& name) {
    answers_.clear();
    Resolver::Request request = Ask(name);
    EXPECT_TRUE(TurnUntil([&] { return !answers_.empty(); }));
    return answers_.empty() ? "nothing" : answers_.front();
  }

  Loop loop_;
  DnsServer server_;
  std::optional<Resolver> resolver_;
  std::vector<std::string> answers_;
  std::optional<Result<ResolvedAddresses>> last_;
};

TEST_F(ResolverTest, FindsBothFamilies) {
  server_.names["app.test"] = {{"192.0.2.1"}, {"192.0.2.2"}, {"2001:db8::1"}};
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.1:0 192.0.2.2:0 [2001:db8::1]:0");
  EXPECT_EQ((*last_)->ttl, std::chrono::seconds(60));
}

TEST_F(ResolverTest, FindsNamesOfOneFamily) {
  server_.names["four.test"] = {{"192.0.2.1"}};
  server_.names["six.test"] = {{"2001:db8::1"}};
  EXPECT_EQ(AskAndWait("four.test"), "192.0.2.1:0");
  EXPECT_EQ(AskAndWait("six.test"), "[2001:db8::1]:0");
}

TEST_F(ResolverTest, BoundsTheTimeToLive) {
  server_.names["short.test"] = {{"192.0.2.1", 0}};
  server_.names["long.test"] = {{"192.0.2.1", 86400}};
  server_.names["mixed.test"] = {{"192.0.2.1", 200}, {"192.0.2.2", 30}, {"2001:db8::1", 90}};
  AskAndWait("short.test");
  EXPECT_EQ((*last_)->ttl, Resolver::kMinTtl);
  AskAndWait("long.test");
  EXPECT_EQ((*last_)->ttl, Resolver::kMaxTtl);
  AskAndWait("mixed.test");
  EXPECT_EQ((*last_)->ttl, std::chrono::seconds(30));
}

TEST_F(ResolverTest, SaysWhyThereIsNoAddress) {
  EXPECT_EQ(AskAndWait("absent.test"), "error absent.test: Domain name not found");
  server_.names["empty.test"] = {};
  EXPECT_TRUE(AskAndWait("empty.test").starts_with("error empty.test: ")) << answers_.front();
  EXPECT_TRUE(AskAndWait("..bad..").starts_with("error ..bad..: ")) << answers_.front();
  EXPECT_TRUE(AskAndWait("").starts_with("error ")) << answers_.front();
}

TEST_F(ResolverTest, AnswersAddressesAtOnce) {
  Resolver::Request ipv4 = Ask("192.0.2.7");
  Resolver::Request ipv6 = Ask("2001:db8::7");
  EXPECT_EQ(answers_, (std::vector<std::string>{"192.0.2.7:0", "[2001:db8::7]:0"}));
  EXPECT_EQ(server_.queries, 0);
}

TEST_F(ResolverTest, Rule4AsksNobodyForLocalhost) {
  for (const char* name : {"localhost", "LocalHost.", "app.localhost"}) {
    EXPECT_EQ(AskAndWait(name), "127.0.0.1:0 [::1]:0") << name;
  }
  EXPECT_EQ(server_.queries, 0);
  server_.names["notlocalhost"] = {{"192.0.2.1"}};
  EXPECT_EQ(AskAndWait("notlocalhost"), "192.0.2.1:0");
}

TEST_F(ResolverTest, AsksAgainEachTime) {
  server_.names["app.test"] = {{"192.0.2.1"}};
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.1:0");
  server_.names["app.test"] = {{"192.0.2.2"}};
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.2:0");
}

TEST_F(ResolverTest, Rule1EndsWhenTheServersAreSilent) {
  server_.silent = true;
  TimePoint start = uv_hrtime() / 1000000;
  std::string answer = AskAndWait("app.test");
  TimePoint took = uv_hrtime() / 1000000 - start;
  EXPECT_TRUE(answer.starts_with("error app.test: ")) << answer;
  EXPECT_LT(took, static_cast<TimePoint>(Resolver::kResolveLimit.count()) + 500);
  EXPECT_GT(server_.queries, 2) << "no second try";

  server_.silent = false;
  server_.names["app.test"] = {{"192.0.2.1"}};
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.1:0");
}

TEST_F(ResolverTest, Rule2AsksOnceForManyWhoWait) {
  server_.names["app.test"] = {{"192.0.2.1"}};
  std::vector<Resolver::Request> requests;
  for (int i = 0; i < 5; ++i) {
    requests.push_back(Ask("app.test"));
  }
  EXPECT_TRUE(TurnUntil([&] { return answers_.size() == 5; }));
  EXPECT_EQ(answers_, std::vector<std::string>(5, "192.0.2.1:0"));
  EXPECT_EQ(server_.queries, 2);  // A and AAAA
}

TEST_F(ResolverTest, Rule3CallsNobodyWhoHasLeft) {
  server_.names["app.test"] = {{"192.0.2.1"}};
  Resolver::Request first = Ask("app.test");
  {
    Resolver::Request cancelled = Ask("app.test");
    Resolver::Request moved = std::move(cancelled);
  }
  Resolver::Request last = Ask("app.test");
  first = Resolver::Request();
  EXPECT_TRUE(TurnUntil([&] { return !answers_.empty(); }));
  EXPECT_EQ(answers_.size(), 1u);
}

TEST_F(ResolverTest, Rule3LetsACallbackCancelThoseBehindItAndAskAgain) {
  server_.names["app.test"] = {{"192.0.2.1"}};
  Resolver::Request second;
  Resolver::Request again;
  Resolver::Request first = resolver_->Resolve("app.test", [&](Result<ResolvedAddresses> result) {
    EXPECT_TRUE(result);
    second = Resolver::Request();
    first = Resolver::Request();
    again = Ask("app.test");
  });
  second = resolver_->Resolve("app.test", [](Result<ResolvedAddresses>) { ADD_FAILURE(); });
  EXPECT_TRUE(TurnUntil([&] { return !answers_.empty(); }));
  EXPECT_EQ(answers_, std::vector<std::string>{"192.0.2.1:0"});
  EXPECT_EQ(server_.queries, 4);
}

TEST_F(ResolverTest, EndsInTheMiddleOfLookups) {
  server_.silent = true;
  Resolver::Request request = Ask("app.test");
  Resolver::Request forgotten = Ask("other.test");
  EXPECT_TRUE(TurnUntil([&] { return server_.queries > 0; }));
  request = Resolver::Request();
  forgotten = Resolver::Request();
  resolver_.reset();
  EXPECT_EQ(answers_.size(), 0u);
}

TEST_F(ResolverTest, Rule5AsksHostsBeforeServers) {
  server_.names["app.test"] = {{"192.0.2.1"}};
  resolver_->SetFiles({.resolv_conf = "", .hosts = "192.0.2.7 app.test\n"});
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.7:0");
  EXPECT_EQ((*last_)->ttl, Resolver::kMinTtl);
  EXPECT_EQ(server_.queries, 0);
  resolver_->SetFiles({.resolv_conf = "", .hosts = ""});
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.1:0");
}

TEST_F(ResolverTest, Rule5GoesByTheResolvConfOfNow) {
  server_.names["app.one.test"] = {{"192.0.2.1"}};
  server_.names["app.two.test"] = {{"192.0.2.2"}};
  resolver_->SetFiles({.resolv_conf = "search one.test\n", .hosts = ""});
  EXPECT_EQ(AskAndWait("app"), "192.0.2.1:0");
  resolver_->SetFiles({.resolv_conf = "search two.test\n", .hosts = ""});
  EXPECT_EQ(AskAndWait("app"), "192.0.2.2:0");
  resolver_->SetFiles({.resolv_conf = "search .\n", .hosts = ""});
  EXPECT_EQ(AskAndWait("app"), "error app: Domain name not found");
  // Two labels are enough for the name as it is to be asked for first; not with this option.
  server_.names["app.one"] = {{"192.0.2.3"}};
  server_.names["app.one.test"] = {{"192.0.2.1"}};
  resolver_->SetFiles({.resolv_conf = "search test\n", .hosts = ""});
  EXPECT_EQ(AskAndWait("app.one"), "192.0.2.3:0");
  resolver_->SetFiles({.resolv_conf = "search test\noptions ndots:2\n", .hosts = ""});
  EXPECT_EQ(AskAndWait("app.one"), "192.0.2.1:0");
}

TEST_F(ResolverTest, Rule5SearchesTheDomainOfTheMachineOnlyWhereTheFileSaysNothing) {
  server_.names["app.machine.test"] = {{"192.0.2.1"}};
  EXPECT_EQ(AskAndWait("app"), "192.0.2.1:0");
  resolver_->SetFiles({.resolv_conf = "search .\n", .hosts = ""});
  EXPECT_EQ(AskAndWait("app"), "error app: Domain name not found");
  resolver_->SetFiles({.resolv_conf = "search .\noptions ndots:2\n", .hosts = ""});
  server_.names["app.test"] = {{"192.0.2.2"}};
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.2:0");
}

TEST_F(ResolverTest, Rule5LeavesWhatIsUnderWayAlone) {
  server_.silent = true;
  Resolver::Request slow = Ask("slow.test");
  EXPECT_TRUE(TurnUntil([&] { return server_.queries > 0; }));
  server_.silent = false;
  server_.names["app.one.test"] = {{"192.0.2.1"}};
  server_.names["slow.test"] = {{"192.0.2.5"}};
  resolver_->SetFiles({.resolv_conf = "search one.test\n", .hosts = ""});
  EXPECT_EQ(AskAndWait("app"), "192.0.2.1:0") << "it does not wait for the one before";
  EXPECT_TRUE(TurnUntil([&] { return answers_.size() == 2; }));
  EXPECT_EQ(answers_.back(), "192.0.2.5:0");
}

TEST_F(ResolverTest, Rule5AnswersWhatIsUnderWayFromHostsThatHaveItNow) {
  server_.silent = true;
  Resolver::Request other = Ask("other.test");
  Resolver::Request again;
  Resolver::Request second;
  Resolver::Request first = resolver_->Resolve("app.test", [&](Result<ResolvedAddresses> result) {
    EXPECT_EQ(TextOf(result), "192.0.2.7:0");
    second = Resolver::Request();
    again = Ask("third.test");
  });
  second = resolver_->Resolve("app.test", [](Result<ResolvedAddresses>) { ADD_FAILURE(); });
  EXPECT_TRUE(TurnUntil([&] { return server_.queries >= 2; }));
  const std::uint64_t version = resolver_->hosts_version();
  resolver_->SetFiles({.resolv_conf = "", .hosts = "192.0.2.7 app.test\n"});
  EXPECT_NE(resolver_->hosts_version(), version);
  EXPECT_EQ(answers_, std::vector<std::string>{}) << "of those that are not there";
  server_.silent = false;
  server_.names["other.test"] = {{"192.0.2.5"}};
  server_.names["third.test"] = {{"192.0.2.6"}};
  EXPECT_TRUE(TurnUntil([&] { return answers_.size() == 2; }));
}

TEST_F(ResolverTest, Rule5TakesAServerWithAScopeOrDoesWithoutIt) {
  resolver_.emplace(loop_);
  resolver_->SetFiles({.resolv_conf = "nameserver fe80::1%lo\nnameserver 127.0.0.1\n",
                       .hosts = "192.0.2.7 app.test\n"});
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.7:0");
  EXPECT_TRUE(AskAndWait("absent.test").starts_with("error absent.test: ")) << answers_.front();
}

TEST_F(ResolverTest, SaysOnceThatAServerIsNotAsked) {
  resolver_.emplace(loop_);
  testing::internal::CaptureStderr();
  for (const char* options : {"", "options ndots:2\n", "options ndots:3\n"}) {
    resolver_->SetFiles(
        {.resolv_conf = std::string("nameserver 127.0.0.1\nnameserver fe80::1%nowhere\n") + options,
         .hosts = ""});
    EXPECT_TRUE(AskAndWait("absent.test").starts_with("error absent.test: ")) << answers_.front();
  }
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("fe80::1%nowhere"), std::string::npos) << said;
  EXPECT_EQ(said.find("this c-ares"), said.rfind("this c-ares")) << said;
}

TEST(Rand, CannotBeForetoldInThisProcess) {
  std::vector<int> first;
  std::vector<int> second;
  for (std::vector<int>* numbers : {&first, &second}) {
    ::srand(1);
    for (int i = 0; i < 8; ++i) {
      numbers->push_back(::rand());
      EXPECT_GE(numbers->back(), 0);
    }
  }
  EXPECT_NE(first, second);
  EXPECT_EQ(::dlsym(RTLD_DEFAULT, "rand"), reinterpret_cast<void*>(&::rand))
      << "libraries have another one";
}

TEST_F(ResolverTest, Rule6AnswersFromMemoryWhileANameDoesNotResolve) {
  AddressMemory::Holder holder = resolver_->memory().Hold("app.test");
  server_.names["app.test"] = {{"192.0.2.1"}, {"2001:db8::1"}};
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.1:0 [2001:db8::1]:0");
  EXPECT_EQ((*last_)->failure, "");

  server_.names.clear();
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.1:0 [2001:db8::1]:0");
  EXPECT_TRUE((*last_)->failure.ends_with("app.test: Domain name not found")) << (*last_)->failure;
  EXPECT_EQ((*last_)->ttl, Resolver::kMinTtl);

  server_.silent = true;
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.1:0 [2001:db8::1]:0");
  EXPECT_NE((*last_)->failure, "");

  server_.silent = false;
  server_.names["app.test"] = {{"192.0.2.2"}};
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.2:0");
  EXPECT_EQ((*last_)->failure, "");

  holder = AddressMemory::Holder();
  server_.names.clear();
  EXPECT_EQ(AskAndWait("app.test"), "error app.test: Domain name not found");
}

TEST_F(ResolverTest, Rule6PrefersItsOwnAnswerToWhatItWasOffered) {
  auto offered = resolver_->memory().Offer({{"app.test", {"192.0.2.9"}}});
  server_.names["app.test"] = {{"192.0.2.1"}};
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.1:0");
  server_.names.clear();
  auto again = resolver_->memory().Offer({{"app.test", {"192.0.2.9"}}});
  EXPECT_EQ(AskAndWait("app.test"), "192.0.2.1:0");
}

TEST_F(ResolverTest, RemembersNeitherLiteralsNorLocalhost) {
  auto literal = resolver_->memory().Hold("192.0.2.7");
  auto localhost = resolver_->memory().Hold("localhost");
  AskAndWait("192.0.2.7");
  AskAndWait("localhost");
  EXPECT_TRUE(resolver_->memory().All().empty());
}

}  // namespace
}  // namespace tidegate
