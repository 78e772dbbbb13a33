#include "common/hangup_watch.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace tidegate {
namespace {

// A connected pair of TCP sockets: a unix socket knows no reset.
struct Pair {
  Pair() {
    UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener.get(), generic, size), 0);
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    EXPECT_EQ(::getsockname(listener.get(), generic, &size), 0);
    peer = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(peer.get(), generic, size), 0);
    ours = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  void Reset() {
    linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(peer.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    peer.Reset();
  }

  UniqueFd ours;
  UniqueFd peer;
};

struct Listener {
  void OnReset() {
    ++resets;
    if (other != nullptr) {
      other->TakeOff();
    }
  }
  int resets = 0;
  WatchedSocket* other = nullptr;
  WatchedSocket socket{Bind<&Listener::OnReset>(this)};
};

class HangupWatchTest : public testing::Test {
 protected:
  void Pass() { wheel.Advance(now += 1100); }

  TimePoint now = 0;
  TimerWheel wheel{0};
  HangupWatch watch{wheel};
};

TEST_F(HangupWatchTest, TellsOfAResetOnce) {
  Pair pair;
  Listener listener;
  listener.socket.List(watch, pair.ours.get());
  Pass();
  EXPECT_EQ(listener.resets, 0);
  pair.Reset();
  Pass();
  Pass();
  EXPECT_EQ(listener.resets, 1);
  EXPECT_EQ(wheel.NextTick(), TimerWheel::kNothing) << "nobody is listed";
}

TEST_F(HangupWatchTest, AnEndIsNoReset) {
  Pair pair;
  Listener listener;
  listener.socket.List(watch, pair.ours.get());
  ::shutdown(pair.peer.get(), SHUT_WR);
  Pass();
  ::shutdown(pair.ours.get(), SHUT_WR);
  Pass();
  EXPECT_EQ(listener.resets, 0);
  listener.socket.TakeOff();
  Pass();
  EXPECT_EQ(wheel.NextTick(), TimerWheel::kNothing);
}

TEST_F(HangupWatchTest, AResetAfterAnEndIsTold) {
  Pair pair;
  Listener listener;
  listener.socket.List(watch, pair.ours.get());
  ::shutdown(pair.peer.get(), SHUT_WR);
  Pass();
  pair.Reset();
  Pass();
  EXPECT_EQ(listener.resets, 1);
}

TEST_F(HangupWatchTest, ACallbackMayTakeOthersOff) {
  Pair one;
  Pair two;
  Listener first;
  Listener second;
  first.other = &second.socket;
  second.other = &first.socket;
  first.socket.List(watch, one.ours.get());
  second.socket.List(watch, two.ours.get());
  one.Reset();
  two.Reset();
  Pass();
  EXPECT_EQ(first.resets + second.resets, 1);
  {
    Listener third;
    third.socket.List(watch, one.ours.get());
  }
  Pass();
  EXPECT_EQ(first.resets + second.resets, 1);
}

}  // namespace
}  // namespace tidegate
