#include "proxy/net/handshakes.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

std::uint64_t now = 0;

class HandshakesTest : public ::testing::Test {
 protected:
  // Spends `cost` each time that it is its turn, and says so.
  struct One final : Handshakes::Member {
    One(HandshakesTest& the_test, char the_name, std::uint64_t the_cost = 0)
        : test(the_test), name(the_name), cost(the_cost) {
      test.handshakes->Join(*this);
    }
    ~One() { test.handshakes->Leave(*this); }

    void OnHandshakeTurn() override {
      now += cost;
      test.said += name;
    }
    void OnEvicted() override { test.said += static_cast<char>(name - 'a' + 'A'); }

    HandshakesTest& test;
    char name;
    std::uint64_t cost;
  };

  HandshakesTest() {
    handshakes.emplace(loop, [] { return now; });
  }
  ~HandshakesTest() override {
    handshakes.reset();
    loop.RunUntilClosed();
  }

  Loop loop;
  std::optional<Handshakes> handshakes;
  std::string said;
};

constexpr std::uint64_t kHalf = Handshakes::kBudget / 2;

TEST_F(HandshakesTest, GoOnAtOnceWhileTheTurnHasTime) {
  One a(*this, 'a', kHalf);
  One b(*this, 'b', kHalf);
  One c(*this, 'c', kHalf);
  handshakes->GoOn(a);
  handshakes->GoOn(b);
  EXPECT_EQ(said, "ab");
  handshakes->GoOn(c);
  EXPECT_EQ(said, "ab") << "the budget is spent";
  loop.RunNoWait();
  EXPECT_EQ(said, "abc");
  loop.RunNoWait();
  handshakes->GoOn(a);
  EXPECT_EQ(said, "abca") << "a new turn has its own";
}

TEST_F(HandshakesTest, WaitInLineInTheirOrderAndOnlyOnce) {
  One a(*this, 'a', Handshakes::kBudget);
  One b(*this, 'b', Handshakes::kBudget);
  One c(*this, 'c', kHalf);
  One d(*this, 'd', kHalf);
  One e(*this, 'e', kHalf);
  for (One* each : {&a, &b, &c, &d, &e, &c, &b}) {
    handshakes->GoOn(*each);
  }
  EXPECT_EQ(said, "a");
  loop.RunNoWait();
  EXPECT_EQ(said, "ab");
  handshakes->GoOn(a);
  loop.RunNoWait();
  EXPECT_EQ(said, "abcd");
  loop.RunNoWait();
  EXPECT_EQ(said, "abcdea") << "who asks again stands behind those that wait";
}

TEST_F(HandshakesTest, LeaveTheLineFromAnywhere) {
  One spender(*this, 's', Handshakes::kBudget);
  auto a = std::make_unique<One>(*this, 'a');
  auto b = std::make_unique<One>(*this, 'b');
  auto c = std::make_unique<One>(*this, 'c');
  auto d = std::make_unique<One>(*this, 'd');
  handshakes->GoOn(spender);
  for (One* each : {a.get(), b.get(), c.get(), d.get()}) {
    handshakes->GoOn(*each);
  }
  b.reset();
  a.reset();
  d.reset();
  One e(*this, 'e');
  handshakes->GoOn(e);
  loop.RunNoWait();
  EXPECT_EQ(said, "sce");
  c.reset();
  handshakes->GoOn(e);
  EXPECT_EQ(said, "scee");
}

TEST_F(HandshakesTest, GoOnAtOnceOnceTheyAreAnswered) {
  One a(*this, 'a', Handshakes::kBudget);
  One b(*this, 'b');
  One c(*this, 'c');
  Handshakes::Answered(b);
  handshakes->GoOn(a);
  handshakes->GoOn(c);
  handshakes->GoOn(b);
  EXPECT_EQ(said, "ab") << "what is left of it costs little";
  loop.RunNoWait();
  EXPECT_EQ(said, "abc");
}

TEST_F(HandshakesTest, AboveTheMostTheOldestThatIsSilentIsEvicted) {
  handshakes->SetMost(2);
  auto a = std::make_unique<One>(*this, 'a');
  One b(*this, 'b');
  One c(*this, 'c');
  EXPECT_EQ(said, "A");
  EXPECT_EQ(handshakes->size(), 2U);
  a.reset();
  EXPECT_EQ(handshakes->size(), 2U) << "it has left already";
  handshakes->Leave(b);
  One d(*this, 'd');
  EXPECT_EQ(said, "A") << "b is over";
  One e(*this, 'e');
  EXPECT_EQ(said, "AC");
}

TEST_F(HandshakesTest, InAFloodThoseGoThatCostLeastAndAreTheFurthestFromTheirEnd) {
  handshakes->SetMost(4);
  TimePoint time = loop.now();
  const auto pass = [&](Duration duration) {
    time += static_cast<TimePoint>(duration.count());
    loop.timers().Hold(time);
  };
  pass(Duration(1));
  One spender(*this, 's', Handshakes::kBudget);
  handshakes->GoOn(spender);
  Handshakes::Answered(spender);
  One silent(*this, 'b');
  One first(*this, 'f');
  One last(*this, 'l');
  handshakes->GoOn(first);
  handshakes->GoOn(last);
  One c(*this, 'c');
  EXPECT_EQ(said, "sL") << "nobody is silent for long, and the last in line has the longest way";
  pass(Handshakes::kSilence);
  One d(*this, 'd');
  EXPECT_EQ(said, "sLB") << "who is silent for long";
  pass(Handshakes::kSilence);
  One e(*this, 'e');
  EXPECT_EQ(said, "sLBC")
      << "the next of those, before the one in line and the one that is answered";
  pass(Handshakes::kFarAway);
  handshakes->GoOn(d);
  handshakes->GoOn(e);
  One g(*this, 'g');
  EXPECT_EQ(said, "sLBCS") << "nobody is that far away";
  loop.timers().Release();
}

}  // namespace
}  // namespace tidegate
