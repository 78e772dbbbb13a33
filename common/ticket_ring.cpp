#include "common/ticket_ring.h"

#include <sys/random.h>
#include <sys/socket.h>

#include <cerrno>

#include "common/check.h"

namespace tidegate {
namespace {

constexpr std::array<char, 4> kMagic = {'t', 'g', 't', 'k'};
// Another one means other contents: who does not know it makes keys of its own.
constexpr std::uint32_t kFormat = 1;

// Waits only in the first seconds of a machine, as everything must that makes keys.
void FillRandom(TicketKey& key) {
  ssize_t size = 0;
  while ((size = ::getrandom(&key, sizeof(key), 0)) < 0 && errno == EINTR) {
  }
  // Up to 256 octets come whole (getrandom(2)).
  TG_CHECK(size == static_cast<ssize_t>(sizeof(key)));
}

}  // namespace

TicketRing::TicketRing() : memory_(sizeof(Record)) {}

TicketRing::TicketRing(std::uint64_t now) : TicketRing() {
  Record& made = record();
  made.magic = kMagic;
  made.format = kFormat;
  made.rotated_at = now;
  for (TicketKey* key : {&made.previous, &made.current, &made.next}) {
    FillRandom(*key);
  }
}

void TicketRing::Rotate(std::uint64_t now) {
  Record& keys = record();
  keys.previous = keys.current;
  keys.current = keys.next;
  FillRandom(keys.next);
  keys.rotated_at = now;
}

Result<UniqueFd> TicketRing::Pack() const {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return Fail(Error::System(errno, "make a pair of sockets for ticket keys"));
  }
  // What was sent waits at the other end also when this one is closed.
  UniqueFd writer(ends[0]);
  UniqueFd reader(ends[1]);
  if (::send(writer.get(), &record(), sizeof(Record), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(sizeof(Record))) {
    return Fail(Error::System(errno, "pack ticket keys"));
  }
  return reader;
}

Result<TicketRing> TicketRing::Unpack(int fd) {
  TicketRing ring;
  // MSG_TRUNC: the true length of a longer one.
  ssize_t size = ::recv(fd, &ring.record(), sizeof(Record), MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
  if (size < 0) {
    return Fail(Error::System(errno, "unpack ticket keys"));
  }
  if (size != static_cast<ssize_t>(sizeof(Record)) || ring.record().magic != kMagic ||
      ring.record().format != kFormat) {
    return Fail(ErrorKind::kProtocol, "what should be ticket keys is something else");
  }
  return ring;
}

}  // namespace tidegate
