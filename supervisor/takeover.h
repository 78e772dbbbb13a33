#pragma once

// How the control socket becomes ours: a stale one is replaced, a living supervisor is left alone,
// and workers that a dead supervisor left behind are asked, one after the other, to become ours.
//
// We may die as well while we do that. So we listen beside the path first (path.0 to path.9), an
// orphan keeps the socket that it waits at until we have given it ours, and the path is ours when
// all have answered: at every moment each orphan waits at the path or beside it, and the next start
// looks at both. Who does not answer now is moved aside and asked later (stragglers.h).

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/result.h"
#include "supervisor/holdings.h"

namespace tidegate {

// A worker that has agreed; its channel is the connection that asked it.
struct Orphan {
  struct Socket {
    std::uint64_t listener_id = 0;
    unsigned slot = 0;
    UniqueFd fd;
  };
  struct Listener {
    std::string name;
    std::uint64_t id = 0;
    std::string bound;
    std::string key;
  };

  pid_t pid = 0;
  std::string version;
  std::optional<ConfinementReport> confinement;
  std::uint64_t generation = 0;
  unsigned slot = 0;
  unsigned row = 0;
  std::vector<Listener> listeners;
  KnownAddresses known_addresses;
  std::vector<Socket> sockets;
  UniqueFd counters;
  // The ticket keys that it had last; none from an older version.
  UniqueFd keys;
  UniqueFd channel;
};

// `server` listens at `path` afterwards, and what was there before is gone. Waits, at most a second
// for each peer. Errors: kProtocol if a supervisor is there (exit 6), kConfig, kSystem; then
// nothing has changed.
Result<std::vector<Orphan>> TakeOver(const std::string& path, ControlServer& server);

// Their listeners, counters, processes and what they have resolved become part of `holdings`,
// before anything else is there. `config` stands for the one they have, which nobody knows any
// more.
Result<> AdoptOrphans(Holdings& holdings, std::vector<Orphan> orphans,
                      const ActiveConfigPtr& config);

}  // namespace tidegate
