#pragma once

// Connections that have been quiet for a while: a record and a descriptor each, in an epoll set of
// their own. A session costs several times as much.
//
//   1. All octets of a parked connection that we have not served are in the kernel.
//   2. Whatever happens to a parked connection happens to a session: parking ends in Resume.

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <memory_resource>
#include <optional>

#include <uv.h>

#include "common/loop.h"
#include "common/timers.h"
#include "common/unique_fd.h"
#include "proxy/client_info.h"
#include "proxy/net/tls_stream.h"

namespace tidegate {

// What TLS adds to it.
struct IdleTls {
  // What ssl needs.
  std::shared_ptr<const ServerTls> settings;
  OwnedSsl ssl;
  std::unique_ptr<const ClientCertificate> certificate;
};

// All there is of a connection before its first request or between two.
struct IdleConnection {
  static constexpr TimePoint kForEver = ~TimePoint{0};

  // Connected, non-blocking; in no epoll set.
  UniqueFd fd;
  ClientInfo client;
  // Null without TLS.
  std::unique_ptr<IdleTls> tls;
  // In one word: a parked connection has no octet to spare.
  std::uint64_t id : 46 = 0;
  // Another process may hold the connection for a while (SocketStream::EndForAll).
  bool shared : 1 = false;
  // It was not wanted in another process: it ends with us.
  bool stays : 1 = false;
  // How many times it has moved to another process.
  std::uint16_t hand_overs : 16 = 0;
  TimePoint opened = 0;
  // Of the exchanges that ended.
  std::uint64_t octets_in = 0;
  std::uint64_t octets_out = 0;
  // How long it may be quiet; kForEver for a timeout that is off.
  TimePoint quiet_until = kForEver;

  // `patience` may be kNever.
  static TimePoint After(TimePoint now, Duration patience) {
    return patience == kNever ? kForEver : now + static_cast<TimePoint>(patience.count());
  }
  // What is left, kNever or at least 1 ms: octets that are in the kernel are read before the
  // deadline, because the next poll comes first.
  Duration Patience(TimePoint now) const;
};

// Goes on with a connection that was parked.
class SessionResumer {
 public:
  // Must not park it again before it returns.
  virtual void ResumeSession(IdleConnection connection) = 0;

 protected:
  ~SessionResumer() = default;
};

class Parking {
 public:
  // `resumer` outlives this.
  Parking(Loop& loop, SessionResumer& resumer);
  Parking(const Parking&) = delete;
  Parking& operator=(const Parking&) = delete;
  // Closes what is parked.
  ~Parking();

  // Until octets, the client's end or quiet_until come. If the kernel refuses to watch it, it is
  // resumed at once.
  void Park(IdleConnection connection);
  // Takes one out that can move to another process: without TLS, and not one that stays.
  std::optional<IdleConnection> TakeMovable();
  // Now; false if no parked connection has this id.
  bool Resume(std::uint64_t id);
  void ResumeAll();

  std::size_t size() const { return parked_.size(); }
  // `visit` takes a const IdleConnection& and must not park or resume.
  template <class Visit>
  void ForEach(Visit visit) const {
    for (const Parked& each : parked_) {
      visit(each.connection);
    }
  }

 private:
  struct Parked {
    Parked(Parking& in, IdleConnection connection);
    void OnDeadline() { parking.Resume(*this); }

    Parking& parking;
    IdleConnection connection;
    Deadline deadline;
    std::pmr::list<Parked>::iterator place;
  };
  // Lives until the close callback: the epoll set must leave the loop's before it is closed.
  struct Handle {
    uv_poll_t poll;
    Parking* parking;
    UniqueFd epoll;
  };
  static void OnPoll(uv_poll_t* handle, int status, int events);
  void ResumeReady();
  void Resume(Parked& parked);
  IdleConnection TakeOut(Parked& parked);

  Loop& loop_;
  SessionResumer& resumer_;
  Handle* handle_;
  // Side by side: among what is left of their sessions each would keep a page of its own. Goes back
  // when none is parked.
  // A node of the list has 320 octets, which is a size of this pool; the next one has 384.
  std::pmr::unsynchronized_pool_resource memory_{
      std::pmr::pool_options{.max_blocks_per_chunk = 64, .largest_required_pool_block = 512}};
  std::pmr::list<Parked> parked_{&memory_};
};

}  // namespace tidegate
