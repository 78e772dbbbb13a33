#pragma once

// Names to addresses, by c-ares on our loop: /etc/hosts, then DNS as resolv.conf says. Nothing here blocks.

#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/loop.h"
#include "common/result.h"
#include "common/units.h"

namespace tidegate {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

struct ResolvedAddresses {
  // Never empty; in the order of RFC 6724. Ports are 0.
  std::vector<SocketAddress> addresses;
  // How long they are good for: the smallest TTL, at least 1 s, at most 5 min. What has none (/etc/hosts): 1 min.
  Duration ttl{};
};

class Resolver {
 public:
  using Done = std::function<void(Result<ResolvedAddresses>)>;

  // One question. Destroying it, or assigning another, means that the answer is not wanted any more.
  class Request {
   public:
    Request() = default;

   private:
    friend class Resolver;
    explicit Request(std::shared_ptr<Done> done) : done_(std::move(done)) {}
    std::shared_ptr<Done> done_;
  };

  explicit Resolver(Loop& loop);
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;
  // Questions that are open are never answered.
  ~Resolver();

  // Both families. `done` is called once, perhaps from within this call (the name is in /etc/hosts). Gives up after about 6 s for each server.
  // Error: kUpstreamUnresolved, the detail is c-ares' own words.
  [[nodiscard]] Request Resolve(const std::string& name, Done done);

 private:
  struct Channel;
  std::unique_ptr<Channel> channel_;
};

}  // namespace tidegate
