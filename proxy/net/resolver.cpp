#include "proxy/net/resolver.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>
#include <unordered_map>

#include <ares.h>
#include <fmt/format.h>
#include <uv.h>

#include "common/address.h"
#include "common/check.h"
#include "common/log.h"
#include "common/text.h"

// In the whole process, in the place of libc's. c-ares before 1.20 takes the key that its query IDs
// come from out of /dev/urandom, and where it cannot open that, as in a worker, out of rand(),
// whose numbers anybody can foretell: whoever can, can answer in the place of the server
// (CVE-2023-31147). Nothing else in a worker asks for it.
extern "C" [[gnu::visibility("default"), gnu::used]] int rand() noexcept {
  unsigned number = 0;
  while (::getrandom(&number, sizeof number, 0) < 0 && errno == EINTR) {
  }
  return static_cast<int>(number & RAND_MAX);
}

namespace tidegate {
namespace {

// Of one try; c-ares doubles it for the next. Three tries of one server fit into the limit.
constexpr int kTryMs = 1000;
constexpr int kTries = 3;

// RFC 6761 section 6.3: such names are loopback, and no server is asked. /etc/hosts
// has it on most machines, but a container may lack it; so IPv4 first, as most files have it.
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

// resolv.conf as it is with what the environment has to say on top, as resolv.conf(5) has it.
ResolvConf ConfOf(std::string text) {
  if (const char* domains = std::getenv("LOCALDOMAIN")) {
    text += std::string("\nsearch ") + domains;
  }
  if (const char* options = std::getenv("RES_OPTIONS")) {
    text += std::string("\noptions ") + options;
  }
  return ParseResolvConf(text);
}

std::string Joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ","));
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
  static const Channel* ChannelOf(const std::unique_ptr<Lookup>& lookup) { return lookup->channel; }

  Resolver& resolver;
  std::string name;
  // Which asks for it.
  const Channel* channel = nullptr;
  // Nobody new may wait: the answer is being delivered, or will come too late.
  bool closed = false;
  std::vector<Waiter> waiters;
  Deadline limit;
};

// A c-ares channel on the loop: its sockets are polled, its timeouts are a deadline.
class Resolver::Channel {
 public:
  explicit Channel(Loop& loop)
      : loop_(loop), timeout_(loop.timers(), Bind<&Channel::OnTimeout>(this)) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() {
    if (channel_ != nullptr) {
      ares_destroy(channel_);
    }
  }

  // `servers` in the place of those of `conf`, unless empty.
  Result<> Open(ResolvConf conf, const std::string& servers) {
    ares_options options{};
    options.timeout = kTryMs;
    options.tries = kTries;
    options.sock_state_cb = &Channel::OnSocketState;
    options.sock_state_cb_data = this;
    // Of the files, c-ares has its own idea where to find them: we have read them for it.
    std::string dns_only = "b";
    std::string no_file = "/dev/null";
    options.lookups = dns_only.data();
    options.resolvconf_path = no_file.data();
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS |
               ARES_OPT_RESOLVCONF;
    std::vector<char*> domains;
    if (conf.domains) {
      for (std::string& domain : *conf.domains) {
        domains.push_back(domain.data());
      }
      options.domains = domains.data();
      options.ndomains = static_cast<int>(domains.size());
      mask |= ARES_OPT_DOMAINS;
    }
    // After 1.18 no domain at all means the one of this machine, unless it is not to search.
    const bool searches_nothing = conf.domains && conf.domains->empty();
    if (conf.ndots) {
      options.ndots = *conf.ndots;
      mask |= ARES_OPT_NDOTS;
    }
    if (conf.use_tcp || searches_nothing) {
      // EDNS is what newer ones do without any flags.
      options.flags = ARES_FLAG_EDNS | (conf.use_tcp ? ARES_FLAG_USEVC : 0) |
                      (searches_nothing ? ARES_FLAG_NOSEARCH : 0);
      mask |= ARES_OPT_FLAGS;
    }
    mask |= conf.rotate ? ARES_OPT_ROTATE : ARES_OPT_NOROTATE;
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
    return SetServers(std::move(conf.servers), servers);
  }

  // What is to be said of the servers of resolv.conf; empty: nothing.
  const std::string& warning() const { return warning_; }

  void Ask(Lookup& lookup) {
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    ares_getaddrinfo(channel_, lookup.name.c_str(), nullptr, &hints, &Channel::OnAnswer, &lookup);
    ArmTimeout();
  }

 private:
  // Without any, c-ares asks this machine.
  Result<> SetServers(std::vector<std::string> named, const std::string& instead) {
    std::string servers = instead.empty() ? Joined(named) : instead;
    if (servers.empty()) {
      return {};
    }
    int status = ares_set_servers_ports_csv(channel_, servers.c_str());
    auto has_scope = [](const std::string& server) { return server.contains('%'); };
    if (status != ARES_SUCCESS && std::erase_if(named, has_scope) > 0) {
      // Before 1.20 it takes no scope here.
      Result<> set = SetServers(std::move(named), instead);
      warning_ =
          fmt::format("this c-ares {} asks no name server with a scope: {} is done without it",
                      ares_version(nullptr), servers);
      return set;
    }
    if (status != ARES_SUCCESS) {
      return Fail(ErrorKind::kUpstreamUnresolved, ares_strerror(status));
    }
    if (instead.empty()) {
      warning_ = WarningOfServersNotTaken(named);
    }
    return {};
  }

  // c-ares says success also where it has left out some: a scope that is no interface here, an
  // address that it takes for no server's. Empty: it asks all.
  std::string WarningOfServersNotTaken([[maybe_unused]] const std::vector<std::string>& named) {
#if ARES_VERSION >= 0x011800
    std::unique_ptr<char, decltype(&ares_free_string)> csv(ares_get_servers_csv(channel_),
                                                           &ares_free_string);
    const std::string_view taken = csv == nullptr ? "" : csv.get();
    const auto count =
        taken.empty() ? 0U : 1U + static_cast<std::size_t>(std::ranges::count(taken, ','));
    // Named twice, it is taken once.
    if (count < std::set<std::string>(named.begin(), named.end()).size()) {
      return fmt::format("of the name servers {} this c-ares {} asks only these: {}", Joined(named),
                         ares_version(nullptr), taken.empty() ? "none" : taken);
    }
#endif
    // Before 1.24 it cannot tell. Before 1.20 it fails where it would leave out one.
    return {};
  }

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
      // Too late, it is still worth knowing, unless /etc/hosts has the name meanwhile.
      if (!lookup->closed || resolver.hosts_.Find(lookup->name).empty()) {
        resolver.memory_.Learn(lookup->name, resolved.addresses);
      }
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
  Deadline timeout_;
  ares_channel channel_ = nullptr;
  std::string warning_;
  // Owned by libuv from uv_poll_init until the close callback.
  std::unordered_map<ares_socket_t, Poll*> polls_;
};

Resolver::Resolver(Loop& loop, std::string servers) : loop_(loop), servers_(std::move(servers)) {}

Resolver::~Resolver() {
  // c-ares calls back for every lookup: they must be there still.
  outdated_.clear();
  channel_.reset();
}

void Resolver::SetFiles(NameFiles files) {
  is_outdated_ = is_outdated_ || files.resolv_conf != resolv_conf_;
  resolv_conf_ = std::move(files.resolv_conf);
  if (files.hosts != hosts_.text()) {
    hosts_ = HostsTable(std::move(files.hosts));
    ++hosts_version_;
    AnswerFromHosts();
  }
}

void Resolver::AnswerFromHosts() {
  auto is_there = [this](const std::unique_ptr<Lookup>& lookup) {
    return !lookup->closed && !hosts_.Find(lookup->name).empty();
  };
  // From the first each time: who is called back may begin and end lookups.
  for (auto found = std::ranges::find_if(lookups_, is_there); found != lookups_.end();
       found = std::ranges::find_if(lookups_, is_there)) {
    Lookup& lookup = **found;
    std::vector<SocketAddress> there = hosts_.Find(lookup.name);
    memory_.Learn(lookup.name, there);
    Deliver(lookup, ResolvedAddresses{.addresses = std::move(there), .ttl = kMinTtl});
  }
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
  if (std::vector<SocketAddress> there = hosts_.Find(name); !there.empty()) {
    memory_.Learn(name, there);
    on_resolved(ResolvedAddresses{.addresses = std::move(there), .ttl = kMinTtl});
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
  lookup.channel = *channel;
  // May answer before it returns; `lookup` is gone then.
  (*channel)->Ask(lookup);
  return Request(this, id);
}

Result<Resolver::Channel*> Resolver::ReadyChannel() {
  if (is_outdated_ && channel_ != nullptr) {
    // What it is asking goes on: servers that are gone must not keep us from asking the new ones.
    outdated_.push_back(std::move(channel_));
  }
  std::erase_if(outdated_, [this](const std::unique_ptr<Channel>& channel) {
    return std::ranges::find(lookups_, channel.get(), &Lookup::ChannelOf) == lookups_.end();
  });
  if (channel_ == nullptr) {
    auto channel = std::make_unique<Channel>(loop_);
    if (Result<> opened = channel->Open(ConfOf(resolv_conf_), servers_); !opened) {
      return Fail(std::move(opened).error());
    }
    // A channel is made anew also after each outage.
    if (channel->warning() != warning_) {
      warning_ = channel->warning();
      if (!warning_.empty()) {
        LogWarn("{}", warning_);
      }
    }
    channel_ = std::move(channel);
    is_outdated_ = false;
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

// c-ares goes on with its own timeouts, which may be long. When nobody waits for
// anything any more, all that it still does is dropped.
void Resolver::OnTimeout(Lookup& lookup) {
  Deliver(lookup, LastKnown(lookup.name, "no answer in time"));
  if (std::ranges::all_of(lookups_, &Lookup::closed,
                          [](const auto& entry) -> const Lookup& { return *entry; })) {
    outdated_.clear();
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
