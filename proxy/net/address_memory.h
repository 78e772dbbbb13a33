#pragma once

// The last addresses of names, kept for as long as somebody holds the name: what is in use when a
// name does not resolve. It begins with what the supervisor has heard from other workers, and tells
// what the supervisor does not know yet.
//
//   1. An answer of our own replaces what another process knew, never the other way round.
//   2. A name that nobody holds is forgotten.
//   3. Only a change is told: an answer with the same addresses in another order is none.

#include <sys/socket.h>

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/known_addresses.h"
#include "common/timers.h"

namespace tidegate {

// What connect() takes.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

class AddressMemory {
  struct Entry {
    // The port is 0.
    std::vector<SocketAddress> addresses;
    // They are an answer of our own.
    bool is_own = false;
    std::size_t holders = 0;
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

 public:
  // Keeps a name in memory. Movable. The memory outlives it.
  class Holder {
   public:
    Holder() = default;
    Holder(Holder&& other) noexcept
        : memory_(std::exchange(other.memory_, nullptr)), entry_(other.entry_) {}
    Holder& operator=(Holder&& other) noexcept {
      if (this != &other) {
        LetGo();
        memory_ = std::exchange(other.memory_, nullptr);
        entry_ = other.entry_;
      }
      return *this;
    }
    ~Holder() { LetGo(); }

   private:
    friend class AddressMemory;
    Holder(AddressMemory& memory, Entries::iterator entry) : memory_(&memory), entry_(entry) {
      ++entry_->second.holders;
    }
    void LetGo();
    AddressMemory* memory_ = nullptr;
    Entries::iterator entry_;
  };

  AddressMemory() = default;
  AddressMemory(const AddressMemory&) = delete;
  AddressMemory& operator=(const AddressMemory&) = delete;

  [[nodiscard]] Holder Hold(const std::string& name);
  // What the supervisor knows, in full. For names without an answer of our own it is taken over;
  // other names that are held, and that it does not know, are told again. Of the names in it those
  // stay in memory that others hold when the result goes.
  [[nodiscard]] std::vector<Holder> Offer(const KnownAddresses& known);
  // A lookup has found `addresses`, at least one; nothing if nobody holds the name.
  void Learn(const std::string& name, const std::vector<SocketAddress>& addresses);
  // Empty if nothing is known.
  std::vector<SocketAddress> Find(const std::string& name) const;

  // Everything in memory, for a new supervisor.
  KnownAddresses All() const;
  // `on_change` is called when there is something to tell; once, until TakeChanges.
  void SetOnChange(Callback on_change) { on_change_ = on_change; }
  KnownAddresses TakeChanges();

 private:
  void Tell(const std::string& name);

  Entries entries_;
  // Names of which the supervisor does not know what we know.
  std::set<std::string> untold_;
  Callback on_change_{};
};

}  // namespace tidegate
