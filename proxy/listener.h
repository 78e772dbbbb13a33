#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <uv.h>

#include "common/config.h"
#include "common/loop.h"
#include "common/unique_fd.h"
#include "proxy/net/tls_context.h"
#include "proxy/services.h"
#include "proxy/session.h"

namespace tidegate {

// What holds descriptors of this worker, and whether there is room for more: every connection, with
// one to an upstream for what it asks, and every further request that a connection of HTTP/2 has
// beside its first, with one of its own. While the gate is shut nobody accepts, and what comes
// waits in the accept queues of the kernel or is taken by another worker.
class AcceptGate {
 public:
  // `on_change` is called when the gate opens or shuts.
  AcceptGate(Loop& loop, Callback on_change);

  // The share of this worker in `max_connections` (nothing: what the descriptor limit allows),
  // whatever that limit allows.
  void Configure(std::optional<std::uint64_t> max_connections, unsigned workers);
  // `on_change` comes when this changes.
  bool open() const { return !full_ && !pausing_; }
  // After every accept and every end of a session, and of a stream beyond the first of its session;
  // of those there are `more_streams`.
  void Count(std::size_t sessions, std::size_t more_streams);
  // How many streams there may be beyond the first of each session: what is left of the
  // descriptors, and never all of those that are not our own.
  std::uint64_t most_more_streams() const;
  // Descriptors that further connections may take.
  std::uint64_t room() const { return held() < descriptors_ ? descriptors_ - held() : 0; }
  // The share in `max_connections` is taken.
  bool at_limit() const { return sessions_ >= share_; }
  // accept(2) found no descriptor or no memory: shuts for 100 ms. `error` is its errno.
  void Pause(int error);

 private:
  static constexpr std::uint64_t kDescriptorsASession = 2;
  void OnPauseOver();
  void Say(bool full);
  std::uint64_t held() const { return kDescriptorsASession * sessions_ + more_streams_; }

  Loop& loop_;
  Callback on_change_;
  Deadline pause_;
  // For clients and upstreams.
  std::uint64_t descriptors_;
  // Of sessions, by the configuration.
  std::uint64_t share_;
  std::size_t sessions_ = 0;
  std::size_t more_streams_ = 0;
  // When the shutting of the gate was logged last; once a minute is enough.
  std::optional<TimePoint> said_;
  bool full_ = false;
  bool pausing_ = false;
};

// Starts a session for a connection: what the worker does with what a listener accepts.
class SessionStarter {
 public:
  // `tls` is null for a listener without.
  virtual void StartSession(UniqueFd fd, ClientInfo client,
                            const std::shared_ptr<const ServerTls>& tls) = 0;

 protected:
  ~SessionStarter() = default;
};

// One accepting socket of a listener: accepts while it is told to and the gate is open. The socket
// is shared with other processes: nothing is ever set on it, and closing it closes only our
// descriptor.
class AcceptingSocket {
 public:
  AcceptingSocket(Loop& loop, AcceptGate& gate, SessionStarter& starter, UniqueFd fd,
                  unsigned slot);
  AcceptingSocket(const AcceptingSocket&) = delete;
  AcceptingSocket& operator=(const AcceptingSocket&) = delete;
  ~AcceptingSocket();

  unsigned slot() const { return slot_; }
  // Ours, as it is bound; 0: it has none, a unix socket.
  std::uint16_t port() const;
  // What connections belong to, from now on. Must be called before the first Update(true);
  // `listener` outlives this or is replaced.
  void SetListener(const ListenerConfig& listener, std::shared_ptr<const ServerTls> tls);
  // Whether to accept, if the gate is open. Called again when the gate changes.
  void Update(bool wanted);
  // When a connection came last; 0: never.
  TimePoint last_accept() const { return last_accept_; }

 private:
  struct Handle {
    uv_poll_t poll;
    AcceptingSocket* socket;
    UniqueFd fd;
  };
  static void OnPoll(uv_poll_t* handle, int status, int events);
  void AcceptAll();

  Loop& loop_;
  AcceptGate& gate_;
  SessionStarter& starter_;
  // Lives until the close callback: the descriptor must leave the epoll set before it is closed.
  Handle* handle_;
  unsigned slot_;
  // A copy: a reload replaces the configuration while a connection is being accepted.
  ListenerConfig listener_;
  std::shared_ptr<const ServerTls> tls_;
  // As ClientInfo::port.
  std::string port_;
  TimePoint last_accept_ = 0;
  bool wanted_ = false;
  bool polling_ = false;
};

}  // namespace tidegate
