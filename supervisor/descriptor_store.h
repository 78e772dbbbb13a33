#pragma once

// What systemd keeps for us (systemd.service(5) FileDescriptorStoreMax=), so that even the death of
// the supervisor and of all workers loses no connection that waits in a queue: the listening
// sockets, the memory of the counters, the ticket keys, the configuration in force, and a state
// that says what each of them is.
//
// The store follows what we hold. It is compared, name by name, with what we have sent; what is
// missing is sent and what is too much is taken back, at once or, while systemd does not read, a
// little later. Nothing depends on it: it may be too small, and nobody tells us. Each descriptor
// that does not fit is a warning in the journal, so nothing is sent unless there is a store:
// systemd says so (FDSTORE, since 254), or the unit does (TIDEGATE_FDSTORE), or the image before us
// has used it.
//
// Systemd may also lose it while we run (a daemon-reload that finds the unit masked, another
// FileDescriptorStoreMax=): by each new image, and after a reload that was forced or has changed
// something, all is sent again. What is there already systemd ignores, unless it is full: then it
// warns.
//
// Invariants:
//   1. A name is never used for another descriptor. What is replaced gets a new one, and the old
//   one goes when the new one is there: a death between the two leaves one.
//   2. A socket that we are about to close is taken back first: systemd would keep it open, and in
//   the SO_REUSEPORT group, and connections would go to where nobody accepts.
//   3. What comes back and cannot be used is closed and taken back before anything is bound, for
//   the same reason.
//
// The configuration is there for a crash while the file on disk cannot be used: what has served can
// serve on. A restart that somebody has asked for is to find such a file, so it is there only while
// nobody has asked us to stop (ForgetConfig), and goes with the service: process 1 closes its copy
// when it is taken back or replaced, and when the service is over or has failed for good.
//
// The keys are as safe there as with us: who can read them from process 1 can read our memory.
// Those of tickets wait in a socket (common/ticket_ring.h), in no file and no swap space. The
// private keys of certificates are in the configuration: a sealed memory file without a name, as
// workers have it, which may be swapped out as our own memory may.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/loop.h"
#include "supervisor/active_config.h"
#include "supervisor/counters_owner.h"
#include "supervisor/key_ring.h"
#include "supervisor/listeners.h"
#include "supervisor/notify.h"

namespace tidegate {

// How many sockets are stored, by their names: systemd gives all names in one variable of the
// environment, LISTEN_FDNAMES, and a text of 128 KiB is too long for execve. With that the service
// would never start again.
class RoomForSockets {
 public:
  explicit RoomForSockets(std::size_t count) : count_(count) {}
  // False: it has no room for one of that name.
  bool Take(const std::string& name);

  // What remains is for our other names, and for those of socket units.
  static constexpr std::size_t kMostOctets = 120 * 1024;

 private:
  std::size_t count_;
  std::size_t octets_ = 0;
};

class DescriptorStore {
 public:
  // What is stored, and what gets what comes back. All outlive the store.
  struct Belongings {
    Listeners& listeners;
    CountersOwner& counters;
    KeyRing& keys;
    std::uint64_t& next_generation;
    // Does not come back by itself (StoredConfig). Null: none is in force yet.
    const ActiveConfigPtr& config;
  };

  // What was in force when the one before us died.
  struct StoredConfiguration {
    // EffectiveJson of the image that made it; nobody has looked whether it can be read.
    std::string effective;
    // Unix time; 0 if nobody has said.
    double loaded = 0;
  };

  DescriptorStore(Loop& loop, Notify& notify, Belongings belongings);
  DescriptorStore(const DescriptorStore&) = delete;
  DescriptorStore& operator=(const DescriptorStore&) = delete;

  // At the start, before anything is bound: what is ours leaves `given`. Logs one line if some of
  // it cannot be used, and waits until systemd has closed that, for some seconds at most.
  void Take(std::vector<GivenSocket>& given);
  // Whether Take will find a configuration, as far as its name tells.
  static bool BringsConfig();
  // From Take until the first Follow, which stores another one. Nothing: none has come back, or
  // what has is no such thing.
  const std::optional<StoredConfiguration>& stored_config() const { return stored_config_; }
  // After orphaned workers have brought what they have, which is the same: each thing is adopted
  // once.
  void Bring();

  // After each change: a listener, a rotation of the keys, other counters, a generation. Listeners
  // in `leaving` will be closed soon, whatever still waits there. Never waits.
  void Follow(const std::vector<std::uint64_t>& leaving = {});
  // After a reload: the same, and what was sent before is sent again.
  void SendAll();
  // Everything is taken back: no other process is to come.
  void Empty();
  // At the start: these are closed, here and by systemd, before others are bound in their place.
  // Waits as Take does.
  void Release(const std::vector<std::uint64_t>& listeners);
  // Take or Release has taken something back: newer versions of systemd close it a little after
  // they have said so.
  bool has_taken_back() const { return has_taken_back_; }
  // Somebody has asked us to stop: the next one starts with the file, or not at all. Until the end
  // it is tried again, also when all else is frozen.
  void ForgetConfig();
  // At the stop: what is stored now stays so, although it is closed here.
  void Freeze() { mode_ = Mode::kFrozen; }
  // Systemd has been told everything.
  bool is_flushed() const { return !again_due_.armed(); }

  // For the next image.
  nlohmann::json Save() const;
  void Restore(const nlohmann::json& saved);

 private:
  enum class Mode : std::uint8_t { kFollowing, kEmptying, kFrozen };
  // By name.
  using Descriptors = std::vector<std::pair<std::string, int>>;
  struct Wanted {
    Descriptors sockets;
    Descriptors counters;
    nlohmann::json state;
  };

  void Update();
  // False: systemd does not read at present.
  bool Write();
  Wanted WhatIsWanted();
  nlohmann::json ListenersIn(Descriptors& sockets) const;
  bool PutKeys();
  bool PutConfig();
  bool PutState(const nlohmann::json& state);
  bool Put(const std::string& name, int fd);
  bool TakeBack(const std::set<std::string>& kept);
  bool TakeBackConfig();
  std::string FreshName(std::string_view kind);

  // The newest state that can be read, and why one cannot.
  nlohmann::json FindState(std::string& fault);
  void DropUnusable();
  void TakeBackNow(const std::vector<std::string>& names);
  void ReadConfig();
  void UseStore();
  bool IsUsableSocket(const std::string& name, const std::string& bound) const;

  Notify& notify_;
  Belongings belongings_;
  Deadline again_due_;
  Mode mode_ = Mode::kFollowing;
  bool keeps_config_ = true;
  // What systemd has of us, as far as we know.
  std::set<std::string> stored_;
  // Names of those that are to be sent though they are there: it may have lost them, or had no
  // room when they came.
  std::set<std::string> again_;
  std::uint64_t serial_ = 0;
  std::set<std::uint64_t> leaving_;
  // How many descriptors there is room for; 0: there is no store.
  std::size_t room_;

  // What was sent last; the descriptors, to send them again.
  std::string state_name_;
  std::string state_text_;
  UniqueFd state_;
  std::string keys_name_;
  std::uint64_t keys_time_ = 0;
  UniqueFd keys_;
  std::string config_name_;
  ActiveConfigPtr config_;

  // Between Take and Bring.
  std::map<std::string, UniqueFd> returned_;
  nlohmann::json returned_state_;
  std::optional<StoredConfiguration> stored_config_;
  bool has_taken_back_ = false;
};

}  // namespace tidegate
