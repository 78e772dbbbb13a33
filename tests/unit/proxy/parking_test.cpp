#include "proxy/parking.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

class ParkingTest : public ::testing::Test, public SessionResumer {
 protected:
  void ResumeSession(IdleConnection connection) override {
    resumed.push_back(std::move(connection));
  }
  // Parks one; returns the client's end.
  UniqueFd Park(std::uint64_t id, Duration patience = kNever) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    parking.Park(IdleConnection{.fd = UniqueFd(ends[0]),
                                .client = {.peer = "192.0.2.1:5000", .ip = "192.0.2.1"},
                                .id = id,
                                .opened = 7,
                                .octets_in = 11,
                                .octets_out = 13,
                                .quiet_until = IdleConnection::After(loop.now(), patience)});
    return UniqueFd(ends[1]);
  }
  void Turn() {
    for (int i = 0; i < 5; ++i) {
      loop.RunNoWait();
    }
  }
  void Pass(TimePoint milliseconds) { loop.timers().Advance(loop.now() + milliseconds); }

  Loop loop;
  Parking parking{loop, *this};
  std::vector<IdleConnection> resumed;
};

TEST_F(ParkingTest, GivesBackWhatItTookWhenOctetsCome) {
  UniqueFd client = Park(3, std::chrono::seconds(10));
  UniqueFd other = Park(4);
  Turn();
  EXPECT_EQ(parking.size(), 2U);
  ASSERT_EQ(::write(client.get(), "hello", 5), 5);
  Turn();
  ASSERT_EQ(resumed.size(), 1U);
  EXPECT_EQ(parking.size(), 1U);
  const IdleConnection& back = resumed[0];
  EXPECT_EQ(back.id, 3U);
  EXPECT_EQ(back.client.peer.view(), "192.0.2.1:5000");
  EXPECT_EQ(back.opened, 7U);
  EXPECT_EQ(back.octets_in, 11U);
  EXPECT_EQ(back.octets_out, 13U);
  EXPECT_GT(back.Patience(loop.now()), std::chrono::seconds(5));
  EXPECT_LE(back.Patience(loop.now()), std::chrono::seconds(10));
  char octets[8];
  EXPECT_EQ(::read(back.fd.get(), octets, sizeof(octets)), 5) << "nothing was read of it";
}

TEST_F(ParkingTest, ResumesAConnectionThatItsClientHasLeft) {
  UniqueFd client = Park(1);
  client.Reset();
  Turn();
  EXPECT_EQ(resumed.size(), 1U);
}

TEST_F(ParkingTest, ResumesWhenThePatienceIsOverWithNextToNothingOfIt) {
  UniqueFd client = Park(1, std::chrono::seconds(10));
  UniqueFd patient = Park(2);
  Pass(9900);
  EXPECT_EQ(parking.size(), 2U);
  Pass(200);
  ASSERT_EQ(resumed.size(), 1U);
  EXPECT_EQ(resumed[0].id, 1U);
  EXPECT_EQ(resumed[0].Patience(loop.now()), Duration(1));
  Pass(1'000'000'000);
  EXPECT_EQ(parking.size(), 1U);
  parking.ResumeAll();
  EXPECT_EQ(resumed[1].Patience(loop.now()), kNever);
}

TEST_F(ParkingTest, ResumesByIdAndAll) {
  UniqueFd clients[] = {Park(1), Park(2), Park(3)};
  EXPECT_FALSE(parking.Resume(4));
  EXPECT_TRUE(parking.Resume(2));
  EXPECT_FALSE(parking.Resume(2));
  std::uint64_t ids = 0;
  parking.ForEach([&](const IdleConnection& idle) { ids += idle.id; });
  EXPECT_EQ(ids, 4U);
  parking.ResumeAll();
  EXPECT_EQ(parking.size(), 0U);
  EXPECT_EQ(resumed.size(), 3U);
}

TEST_F(ParkingTest, ForgetsADescriptorThatSomebodyElseHoldsToo) {
  UniqueFd client = Park(1);
  UniqueFd copy;
  parking.ForEach([&](const IdleConnection& idle) { copy.Reset(::dup(idle.fd.get())); });
  parking.ResumeAll();
  resumed.clear();
  ASSERT_EQ(::write(client.get(), "x", 1), 1);
  Turn();
  EXPECT_TRUE(resumed.empty());
}

TEST_F(ParkingTest, WhatTheKernelCannotWatchIsResumedAtOnce) {
  parking.Park(IdleConnection{
      .fd = UniqueFd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)), .client = {}, .id = 5});
  ASSERT_EQ(resumed.size(), 1U);
  EXPECT_EQ(resumed[0].id, 5U);
  EXPECT_TRUE(resumed[0].fd);
  EXPECT_EQ(parking.size(), 0U);
}

TEST_F(ParkingTest, ManyThatBecomeReadyTogetherAreAllResumed) {
  std::vector<UniqueFd> clients;
  for (std::uint64_t id = 1; id <= 200; ++id) {
    clients.push_back(Park(id));
  }
  clients.clear();
  Turn();
  EXPECT_EQ(resumed.size(), 200U);
}

}  // namespace
}  // namespace tidegate
