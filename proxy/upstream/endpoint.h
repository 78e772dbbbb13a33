#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/loop.h"
#include "common/wait_list.h"
#include "proxy/net/resolver.h"

namespace tidegate {

// Where an endpoint is: its addresses, kept fresh. A name is resolved from the start on, and again
// when its time to live has passed, or /etc/hosts has changed, and somebody asks. Meanwhile, and as
// long as that fails, the last addresses are in use: also from before this endpoint was there, if
// the resolver knows some.
class Endpoint {
 public:
  Endpoint(Loop& loop, Resolver& resolver, const EndpointConfig& config);
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // As configured: "app.internal:9000", "unix:/run/app.sock".
  const std::string& name() const { return name_; }

  // Known addresses, perhaps none; starts a refresh in the background when they are stale.
  std::span<const SocketAddress> Addresses();
  // The first resolution is under way: Resolved() will tell.
  bool resolving() const { return resolving_; }
  // Waits for the resolution that is under way, at most `timeout`. True: it has ended, well or not.
  WaitList::Awaiter Resolved(Duration timeout) { return waiting_.Wait(loop_.timers(), timeout); }
  bool has_addresses() const { return !addresses_.empty(); }
  // Why the name does not resolve: there are no addresses, or only the last known ones. Empty: it
  // does.
  const std::string& failure() const { return failure_; }

 private:
  bool IsFresh() const;
  void Resolve();
  void OnResolved(Result<ResolvedAddresses> result);
  void Use(const std::vector<SocketAddress>& addresses);

  Loop& loop_;
  Resolver& resolver_;
  Address address_;
  std::string name_;
  std::vector<SocketAddress> addresses_;
  std::string failure_;
  WaitList waiting_;
  AddressMemory::Holder remembered_;
  Resolver::Request request_;
  // An address as it is is fresh for ever.
  bool is_name_ = false;
  TimePoint fresh_until_ = 0;
  std::uint64_t hosts_version_ = 0;
  bool resolving_ = false;
};

}  // namespace tidegate
