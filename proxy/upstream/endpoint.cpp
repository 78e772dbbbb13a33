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
  } else {
    is_name_ = true;
    remembered_ = resolver_.memory().Hold(address_.host);
    Use(resolver_.memory().Find(address_.host));
    Resolve();
  }
}

bool Endpoint::IsFresh() const {
  return !is_name_ || (loop_.now() < fresh_until_ && hosts_version_ == resolver_.hosts_version());
}

std::span<const SocketAddress> Endpoint::Addresses() {
  if (!IsFresh() && !resolving_) {
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
  std::string failure = result ? result->failure : result.error().ToString();
  if (!failure.empty() && failure_.empty()) {
    LogWarn("endpoint {} does not resolve: {}{}", name_, failure,
            result ? "; its last addresses stay in use" : "");
  }
  failure_ = std::move(failure);
  Duration ttl = kRetryAfterFailure;
  if (result) {
    ttl = result->ttl;
    Use(result->addresses);
  }
  fresh_until_ = loop_.now() + static_cast<TimePoint>(ttl.count());
  hosts_version_ = resolver_.hosts_version();
  waiting_.WakeAll();
}

void Endpoint::Use(const std::vector<SocketAddress>& addresses) {
  addresses_ = addresses;
  for (SocketAddress& address : addresses_) {
    if (address.storage.ss_family == AF_INET) {
      reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = htons(address_.port);
    } else {
      reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port = htons(address_.port);
    }
  }
}

}  // namespace tidegate
