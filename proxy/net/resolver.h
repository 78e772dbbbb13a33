#pragma once

// Names to addresses, by c-ares on our loop: both families, /etc/hosts before DNS, search domains
// and servers as resolv.conf has them. All of c-ares stays in here, and it reads no file.
//
//   1. A lookup ends within kResolveLimit, whatever the servers do.
//   2. Who asks for a name that is being looked up waits for the same answer.
//   3. After a Request is destroyed its callback is not called.
//   4. localhost and names below it are loopback, whatever files and servers say.
//   5. A lookup goes by what SetFiles has said last before it began; by a name of /etc/hosts that
//      comes meanwhile also one that is under way.
//   6. A name that is held in the memory and does not resolve is answered from there, if anything
//      is known of it.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/loop.h"
#include "common/name_files.h"
#include "common/result.h"
#include "common/units.h"
#include "proxy/net/address_memory.h"
#include "proxy/net/name_rules.h"

namespace tidegate {

struct ResolvedAddresses {
  // At least one; the port is 0. In the order in which to try them (RFC 6724).
  std::vector<SocketAddress> addresses;
  // How long they may be used: 1 s to 5 min. The smallest of the answer; 1 s for /etc/hosts and for
  // what is not fresh.
  Duration ttl{};
  // Why they are the last known ones and no answer; empty: they are fresh.
  std::string failure{};
};

class Resolver {
 public:
  static constexpr Duration kResolveLimit = std::chrono::seconds(5);
  static constexpr Duration kMinTtl = std::chrono::seconds(1);
  static constexpr Duration kMaxTtl = std::chrono::minutes(5);

  using OnResolved = std::function<void(Result<ResolvedAddresses>)>;

  // Without files at first. `servers` instead of those of resolv.conf: "127.0.0.1:5353,[::1]:53".
  // For tests.
  explicit Resolver(Loop& loop, std::string servers = {});
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;
  // Requests must be gone. The loop must turn once more (RunUntilClosed).
  ~Resolver();

  // Calls back who waits for a name that /etc/hosts has now.
  void SetFiles(NameFiles files);
  // Another one says that /etc/hosts has changed: an answer of before may be outdated, however long
  // it was to be good.
  std::uint64_t hosts_version() const { return hosts_version_; }

  // Somebody's interest in an answer. Movable; its destructor cancels.
  class Request {
   public:
    Request() = default;
    Request(Request&& other) noexcept
        : resolver_(std::exchange(other.resolver_, nullptr)), id_(other.id_) {}
    Request& operator=(Request&& other) noexcept {
      if (this != &other) {
        Cancel();
        resolver_ = std::exchange(other.resolver_, nullptr);
        id_ = other.id_;
      }
      return *this;
    }
    ~Request() { Cancel(); }

   private:
    friend class Resolver;
    Request(Resolver* resolver, std::uint64_t id) : resolver_(resolver), id_(id) {}
    void Cancel();
    Resolver* resolver_ = nullptr;
    std::uint64_t id_ = 0;
  };

  // `name` is a host name or an address without brackets and port. `on_resolved` is called once,
  // maybe before Resolve returns (an address, a name of /etc/hosts); it may start and cancel
  // requests, its own too, but not destroy the resolver. Error: kUpstreamUnresolved with the
  // reason; nothing is known of the name then.
  [[nodiscard]] Request Resolve(std::string name, OnResolved on_resolved);

  // Of names that were looked up; literals and localhost do not get there.
  AddressMemory& memory() { return memory_; }

 private:
  class Channel;
  struct Lookup;
  struct Waiter {
    std::uint64_t id;
    OnResolved on_resolved;
  };

  Result<Channel*> ReadyChannel();
  void AnswerFromHosts();
  void OnAnswer(Lookup& lookup, Result<ResolvedAddresses> result);
  void OnTimeout(Lookup& lookup);
  void Deliver(Lookup& lookup, const Result<ResolvedAddresses>& result);
  void Forget(std::uint64_t id);
  Result<ResolvedAddresses> LastKnown(const std::string& name, std::string_view why) const;

  Loop& loop_;
  std::string servers_;
  std::string resolv_conf_;
  HostsTable hosts_;
  std::uint64_t hosts_version_ = 0;
  AddressMemory memory_;
  // Made when it is needed.
  std::unique_ptr<Channel> channel_;
  // What was said last of the servers that it asks.
  std::string warning_;
  // It was made of another resolv.conf than that of now.
  bool is_outdated_ = false;
  // Those that were, and still ask for something.
  std::vector<std::unique_ptr<Channel>> outdated_;
  // Every lookup that c-ares has not ended yet; of some nobody waits for the answer any more.
  std::vector<std::unique_ptr<Lookup>> lookups_;
  std::uint64_t last_id_ = 0;
};

}  // namespace tidegate
