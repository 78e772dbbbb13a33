#pragma once

// Connections that are in nobody's loop: they are on their way from one process to another, or
// back.

#include <memory>
#include <string>

#include "proxy/exchange.h"
#include "proxy/parking.h"
#include "proxy/snapshot.h"

namespace tidegate {

// A tunnel, beside its client's connection.
struct MovingTunnel : TunnelRest {
  // Its state is kMoving.
  std::unique_ptr<Exchange> exchange;
};

struct MovingConnection {
  IdleConnection idle;
  // Read of the client and not dealt with; at most SocketStream::kMostUnread octets.
  std::string unread;
  // Null: between two requests.
  std::unique_ptr<MovingTunnel> tunnel;
  // It is to be parked where it goes: it was, so it has been quiet for a while.
  bool parks = false;
};

// An idle connection of a pool, on its way.
struct MovingUpstream {
  // As they are called in the configuration.
  std::string upstream;
  std::string endpoint;
  UniqueFd fd;
  Duration patience = kNever;
};
// Into its pool, if that is there and has room; closed otherwise.
void PutIntoPool(const Snapshot& snapshot, MovingUpstream pooled);

// Where sessions go that leave their worker.
class SessionMover {
 public:
  // A session that is between two requests may leave now, instead of waiting for the next.
  virtual bool HasRoom() const = 0;
  // Part of SessionList::size() still. Called by the session's own task. `was_asked`: by
  // Session::Leave; otherwise it comes of itself, at the end of an exchange.
  virtual void Take(MovingConnection connection, bool was_asked) = 0;
  // A session that was asked to leave does not, after all.
  virtual void OnRefused() = 0;

 protected:
  ~SessionMover() = default;
};

}  // namespace tidegate
