#include "proxy/upstream/endpoint.h"

#include <netinet/in.h>

#include <utility>

#include "common/log.h"

namespace tidegate {
namespace {

// After a failure: asked again by the first exchange that comes later than this.
constexpr Duration kRetryAfterFailure = std::chrono::seconds(1);

}  // namespace

Endpoint::Endpoint(Loop& loop, Resolver& resolver, const EndpointConfig& config)
    : loop_(loop), resolver_(resolver), address_(config.address), name_(config.address.ToString()) {
  SocketAddress literal;
  if (address_.ToSockaddr(literal.storage, literal.length)) {
    addresses_.push_back(literal);
    fresh_until_ = ~TimePoint{0};
  } else {
    Resolve();
  }
}

std::span<const SocketAddress> Endpoint::Addresses() {
  if (loop_.now() >= fresh_until_ && !resolving_) {
    Resolve();
  }
  return addresses_;
}

void Endpoint::Resolve() {
  resolving_ = true;
  request_ = resolver_.Resolve(
      address_.host, [this](Result<ResolvedAddresses> result) { OnResolved(std::move(result)); });
}

void Endpoint::OnResolved(Result<ResolvedAddresses> result) {
  resolving_ = false;
  if (result) {
    addresses_.clear();
    for (SocketAddress& address : result->addresses) {
      if (address.storage.ss_family == AF_INET) {
        reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = htons(address_.port);
      } else {
        reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port = htons(address_.port);
      }
      addresses_.push_back(address);
    }
    failure_.clear();
    fresh_until_ = loop_.now() + static_cast<TimePoint>(result->ttl.count());
  } else {
    if (failure_.empty()) {
      LogWarn("endpoint {} does not resolve: {}{}", name_, result.error().ToString(),
              addresses_.empty() ? "" : "; its last addresses stay in use");
    }
    failure_ = result.error().ToString();
    fresh_until_ = loop_.now() + static_cast<TimePoint>(kRetryAfterFailure.count());
  }
  waiting_.WakeAll();
}

}  // namespace tidegate
