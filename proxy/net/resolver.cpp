#include "proxy/net/resolver.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/time.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include <ares.h>
#include <fmt/format.h>
#include <uv.h>

#include "common/address.h"
#include "common/check.h"
#include "common/text.h"

namespace tidegate {
namespace {

// Of one try; c-ares doubles it for the next. Three tries of one server fit into the limit.
constexpr int kTryMs = 1000;
constexpr int kTries = 3;

// RFC 6761 section 6.3: such names are loopback, and no server is asked. c-ares relies on
// /etc/hosts for that, which a container may lack; so IPv4 first, as most files have it.
bool IsLocalhost(std::string_view name) {
  constexpr std::string_view kLocalhost = "localhost";
  if (name.ends_with('.')) {
    name.remove_suffix(1);
  }
  if (name.size() < kLocalhost.size() ||
      !EqualsIgnoringCase(name.substr(name.size() - kLocalhost.size()), kLocalhost)) {
    return false;
  }
  name.remove_suffix(kLocalhost.size());
  return name.empty() || name.ends_with('.');
}

ResolvedAddresses Loopback() {
  ResolvedAddresses loopback{.addresses = {}, .ttl = Resolver::kMaxTtl};
  for (const char* literal : {"127.0.0.1", "::1"}) {
    SocketAddress address;
    TG_CHECK(Address{.host = literal}.ToSockaddr(address.storage, address.length));
    loopback.addresses.push_back(address);
  }
  return loopback;
}

// What c-ares found. `found` may be null.
std::vector<SocketAddress> AddressesOf(const ares_addrinfo* found, Duration& ttl) {
  std::vector<SocketAddress> addresses;
  auto shorten = [&ttl](int seconds) {
    ttl = std::min(ttl, Duration(std::chrono::seconds(std::max(seconds, 0))));
  };
  for (auto* node = found == nullptr ? nullptr : found->nodes; node != nullptr;
       node = node->ai_next) {
    if (node->ai_family != AF_INET && node->ai_family != AF_INET6) {
      continue;
    }
    SocketAddress address;
    address.length = static_cast<socklen_t>(node->ai_addrlen);
    std::memcpy(&address.storage, node->ai_addr, address.length);
    addresses.push_back(address);
    shorten(node->ai_ttl);
  }
  for (auto* alias = found == nullptr ? nullptr : found->cnames; alias != nullptr;
       alias = alias->next) {
    shorten(alias->ttl);
  }
  ttl = std::max(ttl, Resolver::kMinTtl);
  return addresses;
}

}  // namespace

// One question to c-ares, which holds its address until it has called back.
struct Resolver::Lookup {
  Lookup(Resolver& owner, std::string name_asked)
      : resolver(owner),
        name(std::move(name_asked)),
        limit(owner.loop_.timers(), Bind<&Lookup::OnLimit>(this)) {}
  void OnLimit() { resolver.OnTimeout(*this); }

  Resolver& resolver;
  std::string name;
  // Nobody new may wait: the answer is being delivered, or will come too late.
  bool closed = false;
  std::vector<Waiter> waiters;
  Deadline limit;
};

// A c-ares channel on the loop: its sockets are polled, its timeouts are a deadline.
class Resolver::Channel {
 public:
  explicit Channel(Loop& loop)
      : loop_(loop),
        made_at_(loop.now()),
        timeout_(loop.timers(), Bind<&Channel::OnTimeout>(this)) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() {
    if (channel_ != nullptr) {
      ares_destroy(channel_);
    }
  }

  Result<> Open(const std::string& servers) {
    ares_options options{};
    options.timeout = kTryMs;
    options.tries = kTries;
    options.sock_state_cb = &Channel::OnSocketState;
    options.sock_state_cb_data = this;
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
#ifdef ARES_OPT_QUERY_CACHE
    // Endpoints know how long an answer is good; a second cache would only make it older.
    options.qcache_max_ttl = 0;
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    int status = ares_init_options(&channel_, &options, mask);
    if (status != ARES_SUCCESS) {
      channel_ = nullptr;
      return Fail(ErrorKind::kUpstreamUnresolved, ares_strerror(status));
    }
    if (!servers.empty()) {
      status = ares_set_servers_ports_csv(channel_, servers.c_str());
    }
    if (status != ARES_SUCCESS) {
      return Fail(ErrorKind::kUpstreamUnresolved, ares_strerror(status));
    }
    return {};
  }

  bool IsOld() const { return loop_.now() - made_at_ >= TimePoint(kChannelAge.count()); }

  void Ask(Lookup& lookup) {
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    ares_getaddrinfo(channel_, lookup.name.c_str(), nullptr, &hints, &Channel::OnAnswer, &lookup);
    ArmTimeout();
  }

 private:
  // Freed by its close callback, after the channel perhaps.
  struct Poll {
    uv_poll_t handle{};
    Channel* channel = nullptr;
    ares_socket_t fd = ARES_SOCKET_BAD;
  };

  static void OnAnswer(void* argument, int status, int, ares_addrinfo* found) {
    auto* lookup = static_cast<Lookup*>(argument);
    std::unique_ptr<ares_addrinfo, decltype(&ares_freeaddrinfo)> owned(found, &ares_freeaddrinfo);
    if (status == ARES_EDESTRUCTION) {
      return;  // the channel is going, and the lookup with it
    }
    Resolver& resolver = lookup->resolver;
    ResolvedAddresses resolved{.addresses = {}, .ttl = kMaxTtl};
    if (status == ARES_SUCCESS) {
      resolved.addresses = AddressesOf(found, resolved.ttl);
    }
    if (resolved.addresses.empty()) {
      int reason = status == ARES_SUCCESS ? ARES_ENODATA : status;
      resolver.OnAnswer(*lookup, resolver.LastKnown(lookup->name, ares_strerror(reason)));
    } else {
      resolver.memory_.Learn(lookup->name, resolved.addresses);
      resolver.OnAnswer(*lookup, std::move(resolved));
    }
  }

  // c-ares opens, closes and wants of its sockets what it likes; always before it closes one.
  static void OnSocketState(void* argument, ares_socket_t fd, int readable, int writable) {
    auto* self = static_cast<Channel*>(argument);
    auto found = self->polls_.find(fd);
    if (readable == 0 && writable == 0) {
      if (found != self->polls_.end()) {
        uv_close(reinterpret_cast<uv_handle_t*>(&found->second->handle), [](uv_handle_t* handle) {
          std::unique_ptr<Poll> poll(static_cast<Poll*>(handle->data));
        });
        self->polls_.erase(found);
      }
      return;
    }
    if (found == self->polls_.end()) {
      auto poll = std::make_unique<Poll>();
      if (uv_poll_init(self->loop_.uv(), &poll->handle, fd) != 0) {
        return;  // out of memory or descriptors: the try times out
      }
      poll->handle.data = poll.get();
      poll->channel = self;
      poll->fd = fd;
      found = self->polls_.emplace(fd, poll.release()).first;
    }
    int events = (readable != 0 ? UV_READABLE : 0) | (writable != 0 ? UV_WRITABLE : 0);
    uv_poll_start(&found->second->handle, events, &Channel::OnPoll);
  }

  static void OnPoll(uv_poll_t* handle, int status, int events) {
    auto* poll = static_cast<Poll*>(handle->data);
    // On an error c-ares finds out by itself: let it try both.
    bool readable = status < 0 || (events & UV_READABLE) != 0;
    bool writable = status < 0 || (events & UV_WRITABLE) != 0;
    poll->channel->Process(readable ? poll->fd : ARES_SOCKET_BAD,
                           writable ? poll->fd : ARES_SOCKET_BAD);
  }

  void OnTimeout() { Process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }

  void Process(ares_socket_t readable, ares_socket_t writable) {
    ares_process_fd(channel_, readable, writable);
    ArmTimeout();
  }

  void ArmTimeout() {
    timeval wait{};
    if (ares_timeout(channel_, nullptr, &wait) == nullptr) {
      timeout_.Disarm();
      return;
    }
    // Rounded up: waking too early would turn the loop for nothing.
    timeout_.Arm(Duration(wait.tv_sec * 1000 + wait.tv_usec / 1000 + 1));
  }

  Loop& loop_;
  TimePoint made_at_;
  Deadline timeout_;
  ares_channel channel_ = nullptr;
  // Owned by libuv from uv_poll_init until the close callback.
  std::unordered_map<ares_socket_t, Poll*> polls_;
};

Resolver::Resolver(Loop& loop, std::string servers) : loop_(loop), servers_(std::move(servers)) {}

Resolver::~Resolver() {
  // c-ares calls back for every lookup: they must be there still.
  channel_.reset();
}

Resolver::Request Resolver::Resolve(std::string name, OnResolved on_resolved) {
  Address literal{.host = name};
  SocketAddress address;
  if (!name.empty() && literal.ToSockaddr(address.storage, address.length)) {
    on_resolved(ResolvedAddresses{.addresses = {address}, .ttl = kMaxTtl});
    return {};
  }
  if (IsLocalhost(name)) {
    on_resolved(Loopback());
    return {};
  }
  std::uint64_t id = ++last_id_;
  auto same = std::ranges::find_if(lookups_, [&name](const std::unique_ptr<Lookup>& lookup) {
    return !lookup->closed && lookup->name == name;
  });
  if (same != lookups_.end()) {
    (*same)->waiters.push_back({id, std::move(on_resolved)});
    return Request(this, id);
  }
  auto channel = ReadyChannel();
  if (!channel) {
    on_resolved(LastKnown(name, channel.error().detail()));
    return {};
  }
  Lookup& lookup = *lookups_.emplace_back(std::make_unique<Lookup>(*this, std::move(name)));
  lookup.waiters.push_back({id, std::move(on_resolved)});
  lookup.limit.Arm(kResolveLimit);
  // May answer before it returns; `lookup` is gone then.
  (*channel)->Ask(lookup);
  return Request(this, id);
}

Result<Resolver::Channel*> Resolver::ReadyChannel() {
  if (channel_ != nullptr && channel_->IsOld() && lookups_.empty()) {
    channel_.reset();
  }
  if (channel_ == nullptr) {
    auto channel = std::make_unique<Channel>(loop_);
    if (Result<> opened = channel->Open(servers_); !opened) {
      return Fail(std::move(opened).error());
    }
    channel_ = std::move(channel);
  }
  return channel_.get();
}

// Instead of an answer. Asked again soon: the shortest time to live.
Result<ResolvedAddresses> Resolver::LastKnown(const std::string& name, std::string_view why) const {
  Error error(ErrorKind::kUpstreamUnresolved, fmt::format("{}: {}", name, why));
  std::vector<SocketAddress> addresses = memory_.Find(name);
  if (addresses.empty()) {
    return Fail(std::move(error));
  }
  return ResolvedAddresses{
      .addresses = std::move(addresses), .ttl = kMinTtl, .failure = error.ToString()};
}

void Resolver::OnAnswer(Lookup& lookup, Result<ResolvedAddresses> result) {
  Deliver(lookup, result);
  auto found = std::ranges::find(lookups_, &lookup, &std::unique_ptr<Lookup>::get);
  TG_CHECK(found != lookups_.end());
  lookups_.erase(found);
}

// c-ares goes on with its own timeouts, which may be long. A channel that nobody waits for is
// dropped with all that it still does, so that the next lookup reads resolv.conf again.
void Resolver::OnTimeout(Lookup& lookup) {
  Deliver(lookup, LastKnown(lookup.name, "no answer in time"));
  if (std::ranges::all_of(lookups_, &Lookup::closed,
                          [](const auto& entry) -> const Lookup& { return *entry; })) {
    channel_.reset();
    lookups_.clear();
  }
}

void Resolver::Deliver(Lookup& lookup, const Result<ResolvedAddresses>& result) {
  lookup.closed = true;
  lookup.limit.Disarm();
  // One by one, because a callback may cancel those behind it.
  while (!lookup.waiters.empty()) {
    Waiter waiter = std::move(lookup.waiters.front());
    lookup.waiters.erase(lookup.waiters.begin());
    waiter.on_resolved(result);
  }
}

void Resolver::Forget(std::uint64_t id) {
  for (const std::unique_ptr<Lookup>& lookup : lookups_) {
    if (std::erase_if(lookup->waiters, [id](const Waiter& waiter) { return waiter.id == id; }) !=
        0) {
      return;
    }
  }
}

void Resolver::Request::Cancel() {
  if (resolver_ != nullptr) {
    std::exchange(resolver_, nullptr)->Forget(id_);
  }
}

}  // namespace tidegate
