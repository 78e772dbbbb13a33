#pragma once

// The listening sockets. They are bound once and outlive every worker, every generation and every
// image of the supervisor. One socket a worker slot with SO_REUSEPORT, one for all with accept:
// shared.
//
// A change is two steps. Prepare binds what is new, without listening: no connection can wait in a
// queue that nobody serves, and a refused change closes nothing but what it opened. Commit listens
// and makes the change the one in force. What is no longer in force stays open until Close, because
// it may still hold connections, and because a roll-back wants it again.
//
// Invariants:
//   1. A socket that has listened is closed only by Close or at the end.
//   2. Nothing here ever calls shutdown() on a listener: it would be dead for every holder.
//   3. An id is never used again.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/control_messages.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace tidegate {

// The sockets of one listener. Two configurations mean the same listener if they bind the same
// address.
struct ListenerSockets {
  std::uint64_t id = 0;
  // The `bind` of the configuration; with the name where the kernel chooses the port.
  std::string key;
  AcceptMode accept = AcceptMode::kReusePort;
  // The address as it is, e.g. with the port that the kernel chose.
  std::string bound;
  // By slot; one if shared. A socket that systemd gave for all slots is here once and `repeated`.
  std::vector<UniqueFd> slots;
  bool repeated = false;
  // From here on slots are bound but do not listen yet.
  std::size_t listening = 0;
};

struct ListenerInForce {
  std::string name;
  std::uint64_t id = 0;
};

// Descriptors that systemd gave (sd_listen_fds(3)): LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES. Those
// that we have stored there ourselves are among them (descriptor_store.h takes them out).
struct GivenSocket {
  std::string name;
  std::string bound;
  UniqueFd fd;
};
// Takes them out of the environment; none if LISTEN_PID is another process.
std::vector<GivenSocket> TakeGivenSockets();

class Listeners {
 public:
  Listeners() = default;
  ~Listeners();
  Listeners(const Listeners&) = delete;
  Listeners& operator=(const Listeners&) = delete;

  void SetGiven(std::vector<GivenSocket> given) { given_ = std::move(given); }

  // Binds what `config` needs for `workers` slots and is not there yet. Error: kSystem, the detail
  // names the address; nothing has changed then. Replaces what was prepared before.
  Result<> Prepare(const Config& config, unsigned workers);
  // Closes what Prepare opened.
  void Abandon();
  // Of those that we have and `config` does not want as they are: who would be in the way of what
  // it wants. The address of another one, unless both share it (SO_REUSEPORT), or the same one with
  // another `accept`.
  std::vector<std::uint64_t> InTheWay(const Config& config);
  // What was prepared listens; what listens already has as long a queue as the system allows now.
  // Error: kSystem with the address in use; then Abandon.
  Result<> Listen();
  // What was prepared is in force. Returns the ids that are not in force any more.
  std::vector<std::uint64_t> Commit();
  // Undoes the last Commit, while nothing was closed since.
  void Revert();
  void Close(const std::vector<std::uint64_t>& ids);

  // In the order of the configuration that was prepared last, or that is in force.
  const std::vector<ListenerInForce>& prepared() const { return prepared_; }
  const std::vector<ListenerInForce>& in_force() const { return in_force_; }
  const std::vector<ListenerSockets>& all() const { return sockets_; }
  const ListenerSockets* Find(std::uint64_t id) const;
  // How many slots any listener in force or prepared has, at least 1.
  unsigned SlotCount() const;
  // How many of its slots a worker is told of: with one socket for all, as many as there are slots.
  unsigned SlotsToSend(const ListenerSockets& sockets) const;
  int SlotFd(const ListenerSockets& sockets, unsigned slot) const;

  // For the state that a successor adopts. `fds` gets every descriptor.
  nlohmann::json Save(std::vector<int>& fds) const;
  void Restore(const nlohmann::json& state);
  // From an orphaned worker: a listener that the dead supervisor had.
  void Adopt(const std::string& key_bind, const std::string& name, const std::string& bound,
             std::uint64_t id, std::vector<UniqueFd> slots);
  // From the descriptor store: all of them listen. What an orphaned worker has brought already is
  // closed, so after the orphans.
  void AdoptStored(const std::string& key, const std::string& name, const std::string& bound,
                   std::uint64_t id, std::vector<UniqueFd> slots);
  // The sockets of unix listeners stay in the file system: another process has them now.
  void LeavePaths() { leave_paths_ = true; }

 private:
  ListenerSockets* FindByKey(const std::string& key);
  Result<> Open(ListenerSockets& sockets, const ListenerConfig& config, unsigned workers);

  std::vector<ListenerSockets> sockets_;
  std::vector<ListenerInForce> prepared_;
  std::vector<ListenerInForce> in_force_;
  std::vector<ListenerInForce> before_;
  std::vector<GivenSocket> given_;
  std::uint64_t next_id_ = 1;
  // Slots of a worker count that was prepared or in force: sockets for all are sent this often.
  unsigned slots_ = 1;
  bool leave_paths_ = false;
};

}  // namespace tidegate
