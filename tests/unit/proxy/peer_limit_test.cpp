#include "proxy/peer_limit.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(PeerLimit, RefusesWhatIsOverTheShareOfTheWorker) {
  PeerLimit peers;
  peers.Configure(5, 2);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(peers.Enter(7));
  }
  EXPECT_FALSE(peers.Enter(7));
  EXPECT_TRUE(peers.Enter(8)) << "another network";
  peers.Leave(7);
  EXPECT_TRUE(peers.Enter(7));
  EXPECT_FALSE(peers.Enter(7));
}

TEST(PeerLimit, OfOneIsOneForEveryWorker) {
  PeerLimit peers;
  peers.Configure(1, 16);
  EXPECT_TRUE(peers.Enter(7));
  EXPECT_FALSE(peers.Enter(7));
}

TEST(PeerLimit, ThatAReloadSetsCountsWhoIsThere) {
  PeerLimit peers;
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(peers.Enter(7));
  }
  peers.Configure(10, 1);
  EXPECT_FALSE(peers.Enter(7));
  for (int i = 0; i < 91; ++i) {
    peers.Leave(7);
  }
  EXPECT_TRUE(peers.Enter(7));
  peers.Configure(kUnlimited, 1);
  EXPECT_TRUE(peers.Enter(7));
}

TEST(PeerLimit, ForgetsWhoHasLeftAndNeverCountsWhoHasNoAddress) {
  PeerLimit peers;
  peers.Configure(1, 1);
  EXPECT_TRUE(peers.Enter(0));
  EXPECT_TRUE(peers.Enter(0));
  peers.Leave(0);
  EXPECT_TRUE(peers.Enter(7));
  EXPECT_EQ(peers.size(), 1U);
  peers.Leave(7);
  EXPECT_EQ(peers.size(), 0U);
}

}  // namespace
}  // namespace tidegate
