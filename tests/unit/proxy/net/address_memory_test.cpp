#include "proxy/net/address_memory.h"

#include <initializer_list>

#include <gtest/gtest.h>

#include "common/address.h"

namespace tidegate {
namespace {

class AddressMemoryTest : public testing::Test {
 protected:
  AddressMemoryTest() { memory_.SetOnChange(Bind<&AddressMemoryTest::OnChange>(this)); }
  void OnChange() { ++calls_; }

  static std::vector<SocketAddress> Addresses(std::initializer_list<const char*> texts) {
    std::vector<SocketAddress> addresses(texts.size());
    std::size_t i = 0;
    for (const char* text : texts) {
      SocketAddress& address = addresses[i++];
      EXPECT_TRUE(Address{.host = text}.ToSockaddr(address.storage, address.length));
    }
    return addresses;
  }
  std::string Known(const std::string& name) {
    std::string all;
    for (const SocketAddress& address : memory_.Find(name)) {
      all += (all.empty() ? "" : " ") + SockaddrToString(address.get(), address.length);
    }
    return all;
  }

  AddressMemory memory_;
  int calls_ = 0;
};

TEST_F(AddressMemoryTest, Rule1AnAnswerOfOurOwnReplacesWhatOthersKnew) {
  auto holder = memory_.Hold("app.test");
  auto offered = memory_.Offer({{"app.test", {"192.0.2.9"}}});
  EXPECT_EQ(Known("app.test"), "192.0.2.9:0");
  offered = memory_.Offer({{"app.test", {"192.0.2.8", "2001:db8::8"}}});
  EXPECT_EQ(Known("app.test"), "192.0.2.8:0 [2001:db8::8]:0");
  memory_.Learn("app.test", Addresses({"192.0.2.1"}));
  offered = memory_.Offer({{"app.test", {"192.0.2.9"}}});
  EXPECT_EQ(Known("app.test"), "192.0.2.1:0");
}

TEST_F(AddressMemoryTest, Rule2ForgetsWhatNobodyHolds) {
  memory_.Learn("other.test", Addresses({"192.0.2.1"}));
  EXPECT_EQ(Known("other.test"), "");
  {
    auto first = memory_.Hold("app.test");
    auto second = memory_.Hold("app.test");
    memory_.Learn("app.test", Addresses({"192.0.2.1"}));
    first = AddressMemory::Holder();
    EXPECT_EQ(Known("app.test"), "192.0.2.1:0");
    AddressMemory::Holder moved = std::move(second);
    EXPECT_EQ(Known("app.test"), "192.0.2.1:0");
  }
  EXPECT_EQ(Known("app.test"), "");
  EXPECT_TRUE(memory_.TakeChanges().empty()) << "it tells what it has forgotten";
}

TEST_F(AddressMemoryTest, Rule2KeepsOfAnOfferWhatSomebodyTook) {
  auto offered = memory_.Offer({{"app.test", {"192.0.2.1"}}, {"other.test", {"192.0.2.2"}}});
  auto holder = memory_.Hold("app.test");
  offered.clear();
  EXPECT_EQ(memory_.All(), (KnownAddresses{{"app.test", {"192.0.2.1"}}}));
}

TEST_F(AddressMemoryTest, Rule3TellsChangesOnceAndTogether) {
  auto app = memory_.Hold("app.test");
  auto db = memory_.Hold("db.test");
  memory_.Learn("app.test", Addresses({"192.0.2.1", "2001:db8::1"}));
  memory_.Learn("db.test", Addresses({"192.0.2.2"}));
  EXPECT_EQ(calls_, 1);
  EXPECT_EQ(memory_.TakeChanges(), (KnownAddresses{{"app.test", {"192.0.2.1", "2001:db8::1"}},
                                                   {"db.test", {"192.0.2.2"}}}));
  memory_.Learn("app.test", Addresses({"2001:db8::1", "192.0.2.1"}));
  EXPECT_EQ(calls_, 1);
  memory_.Learn("app.test", Addresses({"2001:db8::1"}));
  EXPECT_EQ(calls_, 2);
  EXPECT_EQ(memory_.TakeChanges(), (KnownAddresses{{"app.test", {"2001:db8::1"}}}));
}

TEST_F(AddressMemoryTest, Rule3DoesNotTellWhatTheSupervisorHasTold) {
  auto holder = memory_.Hold("app.test");
  auto offered = memory_.Offer({{"app.test", {"192.0.2.1"}}});
  memory_.Learn("app.test", Addresses({"192.0.2.1"}));
  EXPECT_EQ(calls_, 0);
  memory_.Learn("app.test", Addresses({"192.0.2.2"}));
  EXPECT_EQ(calls_, 1);
}

TEST_F(AddressMemoryTest, TellsAgainWhatTheSupervisorHasForgotten) {
  auto app = memory_.Hold("app.test");
  auto unknown = memory_.Hold("unknown.test");
  memory_.Learn("app.test", Addresses({"192.0.2.1"}));
  memory_.TakeChanges();
  auto offered = memory_.Offer({{"app.test", {"192.0.2.2"}}});
  EXPECT_EQ(calls_, 1) << "another worker may know better";
  offered = memory_.Offer({});
  EXPECT_EQ(calls_, 2);
  EXPECT_EQ(memory_.TakeChanges(), (KnownAddresses{{"app.test", {"192.0.2.1"}}}));
}

TEST_F(AddressMemoryTest, TellsABoundedNumberOfAddresses) {
  auto holder = memory_.Hold("app.test");
  std::vector<SocketAddress> many(kMostKnownAddresses + 8, Addresses({"192.0.2.1"})[0]);
  memory_.Learn("app.test", many);
  EXPECT_EQ(memory_.Find("app.test").size(), many.size());
  EXPECT_EQ(memory_.All()["app.test"].size(), kMostKnownAddresses);
  EXPECT_EQ(memory_.TakeChanges()["app.test"].size(), kMostKnownAddresses);
}

}  // namespace
}  // namespace tidegate
