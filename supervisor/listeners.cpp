#include "supervisor/listeners.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "supervisor/event_log.h"
#include "supervisor/port_holder.h"

namespace tidegate {
namespace {

using nlohmann::json;

// The kernel cuts it to net.core.somaxconn.
constexpr int kBacklog = 65535;
// Of a unix socket. Not what the umask leaves, which a unit may have for its files: a listener is
// for everybody whom its folder lets in.
constexpr mode_t kEverybody = 0666;

std::string BoundAddress(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return {};
  }
  return SockaddrToString(reinterpret_cast<const sockaddr*>(&address), length);
}

// What tells one socket from another, whoever holds it.
ino_t InodeOf(int fd) {
  struct stat info{};
  ::fstat(fd, &info);
  return info.st_ino;
}

std::string KeyOf(const ListenerConfig& config) {
  std::string key = config.bind.ToString();
  // Two listeners may both leave the port to the kernel.
  bool any_port = config.bind.kind == Address::Kind::kTcp && config.bind.port == 0;
  return any_port ? key + " " + config.name : key;
}

struct BindAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

BindAddress BoundTo(int fd) {
  BindAddress result;
  result.length = sizeof(result.storage);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&result.storage), &result.length);
  return result;
}

Result<BindAddress> Resolve(const Address& address) {
  BindAddress result;
  if (address.ToSockaddr(result.storage, result.length)) {
    return result;
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  int fault =
      ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (fault != 0) {
    return Fail(ErrorKind::kConfig,
                "listen on " + address.ToString() + ": " + ::gai_strerror(fault));
  }
  result.length = found->ai_addrlen;
  std::copy_n(reinterpret_cast<const char*>(found->ai_addr), found->ai_addrlen,
              reinterpret_cast<char*>(&result.storage));
  ::freeaddrinfo(found);
  return result;
}

// A socket file that nobody listens behind is what a dead process left.
void RemoveStaleSocket(const BindAddress& address, const std::string& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) {
    return;
  }
  UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) !=
          0 &&
      errno == ECONNREFUSED) {
    ::unlink(path.c_str());
  }
}

// Whoever bound it: we, our predecessor or systemd.
void SetOptions(int fd) {
  int on = 1;
  // A worker has the very socket that all others have, also those of later generations: one that an
  // intruder has must not be able to put a filter on it that drops all, or that sends every
  // connection his way.
  ::setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof(on));
  // What accepted sockets inherit: no system call a connection.
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  // A client that reads slowly keeps so much in the kernel, not the megabytes that a send buffer
  // grows to. One that keeps up never notices: only what does not fit its window counts.
  int unsent = 256 * 1024;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

Result<UniqueFd> BindSocket(const BindAddress& address, const Address& shown, bool reuse_port) {
  int family = address.storage.ss_family;
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) {
    return Fail(Error::System(errno, "make a socket for " + shown.ToString()));
  }
  int on = 1;
  int off = 0;
  if (family != AF_UNIX) {
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  }
  if (family == AF_INET6) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, shown.host.empty() ? &off : &on, sizeof(on));
  }
  if (reuse_port && ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
    return Fail(Error::System(errno, "set SO_REUSEPORT for " + shown.ToString()));
  }
  // As in ListenControl. Not chmod: who may write in the folder could have put a link to any file
  // in the place of the path by then.
  const mode_t before = ::umask(static_cast<mode_t>(~kEverybody & 0777));
  const bool bound =
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) == 0;
  const int bind_errno = errno;
  ::umask(before);
  if (!bound) {
    return Fail(Error::System(bind_errno, "listen on " + shown.ToString()));
  }
  return fd;
}

std::uint16_t PortOf(const BindAddress& address) {
  switch (address.storage.ss_family) {
    case AF_INET:
      return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
    case AF_INET6:
      return ntohs(reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port);
    default:
      return 0;
  }
}

bool IsAnyAddress(const BindAddress& address) {
  if (address.storage.ss_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr == INADDR_ANY;
  }
  return address.storage.ss_family == AF_INET6 &&
         IN6_IS_ADDR_UNSPECIFIED(
             &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr);
}

// Whether a socket of ours would be what stands in the way.
bool Overlap(const BindAddress& held, const BindAddress& wanted) {
  bool same = held.length == wanted.length &&
              std::memcmp(&held.storage, &wanted.storage, wanted.length) == 0;
  return PortOf(held) == PortOf(wanted) && (same || IsAnyAddress(held) || IsAnyAddress(wanted));
}

// SO_REUSEPORT would let us share the port of another process of our user without a word, and each
// would get a part of the connections. Without it the kernel refuses while somebody listens.
Result<> RefuseTakenPort(const BindAddress& address, const Address& shown) {
  Result<UniqueFd> probe = BindSocket(address, shown, false);
  if (probe || probe.error().system_errno() != EADDRINUSE) {
    return {};
  }
  return Fail(probe.error());
}

// Whose it is, where that is known: what an operator asks next.
Error NameHolder(const Error& error, const BindAddress& address) {
  std::string holder =
      error.system_errno() == EADDRINUSE ? HolderOfPort(PortOf(address)) : std::string();
  if (holder.empty()) {
    return error;
  }
  return Error::System(EADDRINUSE, fmt::format("{}, which {} holds", error.detail(), holder));
}

// A machine without IPv6 has no dual stack; any address then means any IPv4 address.
BindAddress OnlyIpv4(const BindAddress& address) {
  BindAddress result;
  auto* ipv4 = reinterpret_cast<sockaddr_in*>(&result.storage);
  ipv4->sin_family = AF_INET;
  ipv4->sin_port = reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port;
  result.length = sizeof(sockaddr_in);
  return result;
}

}  // namespace

std::vector<GivenSocket> TakeGivenSockets() {
  auto number = [](const char* name) {
    const char* text = std::getenv(name);
    return text == nullptr ? 0L : std::strtol(text, nullptr, 10);
  };
  std::vector<GivenSocket> given;
  long count = number("LISTEN_PID") == ::getpid() ? number("LISTEN_FDS") : 0;
  const char* names_text = std::getenv("LISTEN_FDNAMES");
  std::string names = names_text == nullptr ? "" : names_text;
  for (int fd = 3; fd < 3 + count; ++fd) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    std::size_t colon = std::min(names.find(':'), names.size());
    given.push_back(
        GivenSocket{.name = names.substr(0, colon), .bound = BoundAddress(fd), .fd = UniqueFd(fd)});
    names.erase(0, colon + 1);
  }
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) {
    ::unsetenv(name);
  }
  return given;
}

Listeners::~Listeners() {
  for (const ListenerSockets& sockets : sockets_) {
    constexpr std::string_view kUnix = "unix:";
    if (!leave_paths_ && sockets.bound.starts_with(kUnix) && !sockets.repeated) {
      ::unlink(sockets.bound.substr(kUnix.size()).c_str());
    }
  }
}

ListenerSockets* Listeners::FindByKey(const std::string& key) {
  auto found = std::find_if(sockets_.begin(), sockets_.end(),
                            [&](const ListenerSockets& held) { return held.key == key; });
  return found == sockets_.end() ? nullptr : &*found;
}

const ListenerSockets* Listeners::Find(std::uint64_t id) const {
  auto found = std::find_if(sockets_.begin(), sockets_.end(),
                            [&](const ListenerSockets& held) { return held.id == id; });
  return found == sockets_.end() ? nullptr : &*found;
}

Result<> Listeners::Open(ListenerSockets& sockets, const ListenerConfig& config, unsigned workers) {
  if (sockets.slots.empty()) {
    for (GivenSocket& given : given_) {
      bool named = config.bind.kind == Address::Kind::kSystemd && given.name == config.bind.name;
      if (given.fd && (named || given.bound == config.bind.ToString())) {
        sockets.bound = given.bound;
        sockets.slots.push_back(std::move(given.fd));
        sockets.repeated = true;
        return {};
      }
    }
    if (config.bind.kind == Address::Kind::kSystemd) {
      return Fail(ErrorKind::kConfig,
                  "listen on " + config.bind.ToString() + ": systemd gave no socket of that name");
    }
  }
  if (sockets.repeated) {
    return {};
  }
  Result<BindAddress> address = Resolve(config.bind);
  if (!address) {
    return Fail(address.error());
  }
  if (config.bind.kind == Address::Kind::kUnix && sockets.slots.empty()) {
    RemoveStaleSocket(*address, config.bind.path);
  }
  bool reuse_port = sockets.accept == AcceptMode::kReusePort;
  std::size_t wanted = reuse_port ? workers : 1;
  if (!sockets.slots.empty()) {
    // The port that the kernel chose, and the family that worked.
    *address = BoundTo(sockets.slots.front().get());
  }
  bool ours = std::any_of(sockets_.begin(), sockets_.end(), [&](const ListenerSockets& held) {
    return !held.slots.empty() && Overlap(BoundTo(held.slots.front().get()), *address);
  });
  if (reuse_port && !ours && PortOf(*address) != 0) {
    Result<> free = RefuseTakenPort(*address, config.bind);
    if (!free) {
      return Fail(NameHolder(free.error(), *address));
    }
  }
  while (sockets.slots.size() < wanted) {
    Result<UniqueFd> fd = BindSocket(*address, config.bind, reuse_port);
    if (!fd && fd.error().system_errno() == EAFNOSUPPORT && config.bind.host.empty()) {
      *address = OnlyIpv4(*address);
      fd = BindSocket(*address, config.bind, reuse_port);
    }
    if (!fd) {
      return Fail(NameHolder(fd.error(), *address));
    }
    sockets.slots.push_back(std::move(*fd));
    *address = BoundTo(sockets.slots.front().get());
  }
  sockets.bound = BoundAddress(sockets.slots.front().get());
  return {};
}

Result<> Listeners::Prepare(const Config& config, unsigned workers) {
  Abandon();
  for (const ListenerConfig& listener : config.listeners) {
    std::string key = KeyOf(listener);
    ListenerSockets* sockets = FindByKey(key);
    if (sockets == nullptr) {
      sockets_.push_back(ListenerSockets{.id = next_id_++, .key = key, .accept = listener.accept});
      sockets = &sockets_.back();
    }
    Result<> opened = Open(*sockets, listener, workers);
    if (!opened) {
      Abandon();
      return opened;
    }
    prepared_.push_back(ListenerInForce{.name = listener.name, .id = sockets->id});
  }
  // Before any worker of now gets them.
  for (const ListenerSockets& sockets : sockets_) {
    for (const UniqueFd& fd : sockets.slots) {
      SetOptions(fd.get());
    }
  }
  slots_ = std::max(slots_, workers);
  return {};
}

std::vector<std::uint64_t> Listeners::InTheWay(const Config& config) {
  std::vector<std::uint64_t> ids;
  auto is_wanted = [&](const ListenerSockets& held) {
    return std::ranges::any_of(config.listeners, [&](const ListenerConfig& listener) {
      return KeyOf(listener) == held.key && listener.accept == held.accept;
    });
  };
  for (const ListenerSockets& held : sockets_) {
    if (held.repeated || held.slots.empty() || is_wanted(held)) {
      continue;
    }
    const BindAddress address = BoundTo(held.slots.front().get());
    const bool in_the_way =
        std::ranges::any_of(config.listeners, [&](const ListenerConfig& listener) {
          if (KeyOf(listener) == held.key) {
            return true;
          }
          const ListenerSockets* own = FindByKey(KeyOf(listener));
          const bool is_bound = own != nullptr && own->accept == listener.accept;
          const bool both_share =
              listener.accept == AcceptMode::kReusePort && held.accept == AcceptMode::kReusePort;
          if (listener.bind.kind != Address::Kind::kTcp || is_bound || both_share) {
            return false;
          }
          Result<BindAddress> wanted = Resolve(listener.bind);
          return wanted && Overlap(address, *wanted);
        });
    if (in_the_way) {
      ids.push_back(held.id);
    }
  }
  return ids;
}

void Listeners::Abandon() {
  prepared_.clear();
  for (ListenerSockets& sockets : sockets_) {
    if (sockets.listening == 0 && sockets.repeated && !sockets.slots.empty()) {
      given_.push_back(
          GivenSocket{.name = {}, .bound = sockets.bound, .fd = std::move(sockets.slots.front())});
      constexpr std::string_view kSystemd = "systemd:";
      if (sockets.key.starts_with(kSystemd)) {
        given_.back().name = sockets.key.substr(kSystemd.size());
      }
    }
    sockets.slots.resize(sockets.listening);
    if (sockets.slots.empty() && sockets.bound.starts_with("unix:") && !sockets.repeated) {
      ::unlink(sockets.bound.substr(5).c_str());
    }
  }
  std::erase_if(sockets_, [](const ListenerSockets& sockets) { return sockets.slots.empty(); });
}

Result<> Listeners::Listen() {
  for (ListenerSockets& sockets : sockets_) {
    for (const UniqueFd& slot : sockets.slots) {
      if (::listen(slot.get(), kBacklog) != 0) {
        return Fail(Error::System(errno, "listen on " + sockets.bound));
      }
    }
  }
  for (ListenerSockets& sockets : sockets_) {
    sockets.listening = sockets.slots.size();
  }
  return {};
}

std::vector<std::uint64_t> Listeners::Commit() {
  before_ = std::exchange(in_force_, std::exchange(prepared_, {}));
  std::vector<std::uint64_t> dropped;
  for (const ListenerInForce& old : before_) {
    bool kept = std::any_of(in_force_.begin(), in_force_.end(),
                            [&](const ListenerInForce& now) { return now.id == old.id; });
    if (!kept) {
      dropped.push_back(old.id);
    }
  }
  return dropped;
}

void Listeners::Revert() {
  std::swap(in_force_, before_);
}

void Listeners::Close(const std::vector<std::uint64_t>& ids) {
  for (std::uint64_t id : ids) {
    const ListenerSockets* sockets = Find(id);
    if (sockets != nullptr && sockets->bound.starts_with("unix:") && !sockets->repeated) {
      ::unlink(sockets->bound.substr(5).c_str());
    }
  }
  std::erase_if(sockets_, [&](const ListenerSockets& sockets) {
    return std::find(ids.begin(), ids.end(), sockets.id) != ids.end();
  });
}

unsigned Listeners::SlotCount() const {
  std::size_t count = slots_;
  for (const ListenerSockets& sockets : sockets_) {
    count = std::max(count, sockets.slots.size());
  }
  return static_cast<unsigned>(count);
}

unsigned Listeners::SlotsToSend(const ListenerSockets& sockets) const {
  bool for_all = sockets.repeated && sockets.accept == AcceptMode::kReusePort;
  return for_all ? SlotCount() : static_cast<unsigned>(sockets.slots.size());
}

int Listeners::SlotFd(const ListenerSockets& sockets, unsigned slot) const {
  return sockets.slots[std::min<std::size_t>(slot, sockets.slots.size() - 1)].get();
}

json Listeners::Save(std::vector<int>& fds) const {
  json state = {{"next_id", next_id_}, {"slots", slots_}, {"sockets", json::array()}};
  for (const ListenerSockets& sockets : sockets_) {
    json numbers = json::array();
    for (const UniqueFd& fd : sockets.slots) {
      numbers.push_back(fd.get());
      fds.push_back(fd.get());
    }
    state["sockets"].push_back({{"id", sockets.id},
                                {"key", sockets.key},
                                {"shared", sockets.accept == AcceptMode::kShared},
                                {"bound", sockets.bound},
                                {"repeated", sockets.repeated},
                                {"listening", sockets.listening},
                                {"fds", numbers}});
  }
  for (const auto& [name, list] : {std::pair("in_force", &in_force_), {"before", &before_}}) {
    state[name] = json::array();
    for (const ListenerInForce& entry : *list) {
      state[name].push_back({{"name", entry.name}, {"id", entry.id}});
    }
  }
  state["given"] = json::array();
  for (const GivenSocket& given : given_) {
    if (given.fd) {
      state["given"].push_back(
          {{"name", given.name}, {"bound", given.bound}, {"fd", given.fd.get()}});
      fds.push_back(given.fd.get());
    }
  }
  return state;
}

void Listeners::Restore(const json& state) {
  next_id_ = state.at("next_id").get<std::uint64_t>();
  slots_ = state.at("slots").get<unsigned>();
  for (const json& entry : state.at("sockets")) {
    ListenerSockets sockets;
    sockets.id = entry.at("id").get<std::uint64_t>();
    sockets.key = entry.at("key").get<std::string>();
    sockets.accept = entry.at("shared").get<bool>() ? AcceptMode::kShared : AcceptMode::kReusePort;
    sockets.bound = entry.at("bound").get<std::string>();
    sockets.repeated = entry.at("repeated").get<bool>();
    sockets.listening = entry.at("listening").get<std::size_t>();
    for (const json& fd : entry.at("fds")) {
      sockets.slots.emplace_back(fd.get<int>());
    }
    sockets_.push_back(std::move(sockets));
  }
  for (const auto& [name, list] : {std::pair("in_force", &in_force_), {"before", &before_}}) {
    for (const json& entry : state.at(name)) {
      list->push_back(ListenerInForce{.name = entry.at("name").get<std::string>(),
                                      .id = entry.at("id").get<std::uint64_t>()});
    }
  }
  for (const json& entry : state.at("given")) {
    given_.push_back(GivenSocket{.name = entry.at("name").get<std::string>(),
                                 .bound = entry.at("bound").get<std::string>(),
                                 .fd = UniqueFd(entry.at("fd").get<int>())});
  }
}

void Listeners::Adopt(const std::string& key, const std::string& name, const std::string& bound,
                      std::uint64_t id, std::vector<UniqueFd> slots) {
  if (Find(id) != nullptr || slots.empty()) {
    return;
  }
  ListenerSockets sockets{.id = id, .key = key, .bound = bound};
  int reuse_port = 0;
  socklen_t size = sizeof(reuse_port);
  ::getsockopt(slots.front().get(), SOL_SOCKET, SO_REUSEPORT, &reuse_port, &size);
  sockets.accept = reuse_port != 0 ? AcceptMode::kReusePort : AcceptMode::kShared;
  sockets.slots = std::move(slots);
  sockets.listening = sockets.slots.size();
  slots_ = std::max(slots_, static_cast<unsigned>(sockets.slots.size()));
  next_id_ = std::max(next_id_, id + 1);
  sockets_.push_back(std::move(sockets));
  in_force_.push_back(ListenerInForce{.name = name, .id = id});
}

void Listeners::AdoptStored(const std::string& key, const std::string& name,
                            const std::string& bound, std::uint64_t id,
                            std::vector<UniqueFd> slots) {
  std::erase_if(slots, [&](const UniqueFd& fd) {
    return std::any_of(sockets_.begin(), sockets_.end(), [&](const ListenerSockets& held) {
      return std::any_of(held.slots.begin(), held.slots.end(), [&](const UniqueFd& slot) {
        return InodeOf(slot.get()) == InodeOf(fd.get());
      });
    });
  });
  ListenerSockets* held = FindByKey(key);
  if (held == nullptr) {
    // Another lineage of supervisors may have given the number away.
    Adopt(key, name, bound, Find(id) == nullptr ? id : next_id_, std::move(slots));
    return;
  }
  for (UniqueFd& fd : slots) {
    held->slots.insert(held->slots.begin() + static_cast<std::ptrdiff_t>(held->listening++),
                       std::move(fd));
  }
  slots_ = std::max(slots_, static_cast<unsigned>(held->slots.size()));
}

}  // namespace tidegate
