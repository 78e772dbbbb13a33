#pragma once

// The keys of TLS session tickets: three, of which one is in use at a time. The supervisor makes
// them, all workers have the same, so a client resumes its session at any of them.
//
//   previous   opens tickets only: they are one rotation old, and renewed
//   current    seals new tickets
//   next       opens tickets of a worker that has heard of a rotation before us
//
// They travel (to workers, to the next image of the supervisor, from an orphaned worker to its new
// supervisor) as the one record that waits in a socket, whose descriptor goes by SCM_RIGHTS or
// through execve. Such memory is the kernel's: never swapped, in no core dump, out of reach of
// /proc/PID/fd. A memfd can be swapped, memfd_secret(2) turns hibernation off for the whole
// machine, and a JSON text would leave copies wherever it passes.

#include <array>
#include <cstdint>
#include <optional>

#include "common/result.h"
#include "common/secret_memory.h"
#include "common/unique_fd.h"

namespace tidegate {

// RFC 5077 section 4: the name is public, it stands in front of each ticket.
struct TicketKey {
  std::array<unsigned char, 16> name;
  // AES-256-CBC.
  std::array<unsigned char, 32> cipher;
  // HMAC-SHA256.
  std::array<unsigned char, 32> mac;
};

class TicketRing {
 public:
  // New keys. `now` as for rotated_at.
  explicit TicketRing(std::uint64_t now);

  // What was packed; it stays there to be read again. Never waits. Errors: kProtocol for anything
  // else, also of a version to come; kSystem.
  static Result<TicketRing> Unpack(int fd);
  // Close-on-exec. Error: kSystem.
  Result<UniqueFd> Pack() const;

  // previous <- current <- next <- new.
  void Rotate(std::uint64_t now);

  const TicketKey& previous() const { return record().previous; }
  const TicketKey& current() const { return record().current; }
  const TicketKey& next() const { return record().next; }
  // When `current` became that: milliseconds of CLOCK_BOOTTIME, which all processes share, nobody
  // can set, and which goes on while the machine is suspended.
  std::uint64_t rotated_at() const { return record().rotated_at; }
  void SetRotatedAt(std::uint64_t time) { record().rotated_at = time; }
  // As SecretMemory has it.
  const std::optional<Error>& weakness() const { return memory_.weakness(); }

 private:
  struct Record {
    std::array<char, 4> magic;
    std::uint32_t format;
    std::uint64_t rotated_at;
    TicketKey previous;
    TicketKey current;
    TicketKey next;
  };
  static_assert(sizeof(TicketKey) == 80 && sizeof(Record) == 256);

  // Empty.
  TicketRing();
  Record& record() const { return *reinterpret_cast<Record*>(memory_.octets().data()); }

  SecretMemory memory_;
};

}  // namespace tidegate
