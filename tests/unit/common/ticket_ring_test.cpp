#include "common/ticket_ring.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

bool Same(const TicketKey& a, const TicketKey& b) {
  return std::memcmp(&a, &b, sizeof(TicketKey)) == 0;
}

// A socket with `text` waiting in it.
UniqueFd SocketWith(const std::string& text) {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  UniqueFd writer(ends[0]);
  EXPECT_EQ(::send(writer.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  return UniqueFd(ends[1]);
}

TEST(TicketRing, HasThreeKeysOfItsOwn) {
  TicketRing one(1);
  TicketRing other(1);
  const TicketKey* keys[] = {&one.previous(),   &one.current(),   &one.next(),
                             &other.previous(), &other.current(), &other.next()};
  for (const TicketKey* key : keys) {
    for (const TicketKey* another : keys) {
      EXPECT_EQ(Same(*key, *another), key == another);
      EXPECT_EQ(key->name == another->name, key == another);
      EXPECT_EQ(key->cipher == another->cipher, key == another);
      EXPECT_EQ(key->mac == another->mac, key == another);
    }
  }
}

TEST(TicketRing, RotatesEachKeyOnePlaceOn) {
  TicketRing ring(5);
  const TicketKey current = ring.current();
  const TicketKey next = ring.next();
  ring.Rotate(9);
  EXPECT_EQ(ring.rotated_at(), 9U);
  EXPECT_TRUE(Same(ring.previous(), current));
  EXPECT_TRUE(Same(ring.current(), next));
  EXPECT_FALSE(Same(ring.next(), next));
}

TEST(TicketRing, ComesOutAsItWasPackedAgainAndAgain) {
  TicketRing ring(77);
  auto packed = ring.Pack();
  ASSERT_TRUE(packed);
  EXPECT_EQ(::fcntl(packed->get(), F_GETFD), FD_CLOEXEC);
  const TicketKey current = ring.current();
  ring.Rotate(78);
  for (int i = 0; i < 3; ++i) {
    auto unpacked = TicketRing::Unpack(packed->get());
    ASSERT_TRUE(unpacked) << unpacked.error().ToString();
    EXPECT_EQ(unpacked->rotated_at(), 77U);
    EXPECT_TRUE(Same(unpacked->current(), current));
    EXPECT_TRUE(Same(unpacked->next(), ring.current()));
  }
}

TEST(TicketRing, RefusesWhatItDoesNotKnow) {
  auto packed = TicketRing(1).Pack();
  ASSERT_TRUE(packed);
  std::string record(256, 0);
  ASSERT_EQ(::recv(packed->get(), record.data(), record.size(), MSG_PEEK), 256);
  ASSERT_TRUE(TicketRing::Unpack(SocketWith(record).get()));
  std::string of_another_version = record;
  ++of_another_version[4];
  std::string something_else = record;
  something_else[0] = 'x';
  for (const std::string& wrong : {of_another_version, something_else, record.substr(0, 255),
                                   record + "x", std::string("{}")}) {
    auto unpacked = TicketRing::Unpack(SocketWith(wrong).get());
    ASSERT_FALSE(unpacked);
    EXPECT_EQ(unpacked.error().kind(), ErrorKind::kProtocol);
  }
}

TEST(TicketRing, NeverWaitsForWhatIsNotThere) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd writer(ends[0]);
  UniqueFd reader(ends[1]);
  EXPECT_EQ(TicketRing::Unpack(reader.get()).error().system_errno(), EAGAIN);
  writer.Reset();
  EXPECT_FALSE(TicketRing::Unpack(reader.get()));
  EXPECT_EQ(TicketRing::Unpack(STDIN_FILENO).error().system_errno(), ENOTSOCK);
  EXPECT_EQ(TicketRing::Unpack(-1).error().system_errno(), EBADF);
}

}  // namespace
}  // namespace tidegate
