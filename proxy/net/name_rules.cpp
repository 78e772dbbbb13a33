#include "proxy/net/name_rules.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include "common/address.h"
#include "common/check.h"
#include "common/text.h"
#include "common/unique_fd.h"

namespace tidegate {
namespace {

// What resolv.conf(5) bounds it to.
constexpr int kMostNdots = 15;

constexpr bool IsBlank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

// Takes the next line, without its end, from `text`.
std::string_view TakeLine(std::string_view& text) {
  std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

// Takes the next word from `line`; empty if there is none.
std::string_view TakeWord(std::string_view& line) {
  auto begin = std::ranges::find_if_not(line, IsBlank);
  auto end = std::find_if(begin, line.end(), IsBlank);
  std::string_view word(begin, end);
  line = std::string_view(end, line.end());
  return word;
}

std::string_view WithoutComment(std::string_view line, std::string_view signs) {
  return line.substr(0, std::min(line.find_first_of(signs), line.size()));
}

std::string_view WithoutLastDot(std::string_view name) {
  return name.ends_with('.') ? name.substr(0, name.size() - 1) : name;
}

std::optional<SocketAddress> AddressOf(std::string_view word) {
  SocketAddress address;
  bool is_one = !word.empty() &&
                Address{.host = std::string(word)}.ToSockaddr(address.storage, address.length);
  return is_one ? std::optional(address) : std::nullopt;
}

void TakeOptions(std::string_view line, ResolvConf& conf) {
  constexpr std::string_view kNdots = "ndots:";
  for (std::string_view word = TakeWord(line); !word.empty(); word = TakeWord(line)) {
    if (word == "rotate") {
      conf.rotate = true;
    } else if (word == "use-vc") {
      conf.use_tcp = true;
    } else if (word.starts_with(kNdots)) {
      int ndots = 0;
      const char* end = word.data() + word.size();
      auto [rest, fault] = std::from_chars(word.data() + kNdots.size(), end, ndots);
      if (fault == std::errc() && rest == end && ndots >= 0) {
        conf.ndots = std::min(ndots, kMostNdots);
      }
    }
  }
}

struct HostsLine {
  std::string_view address;
  std::string_view names;
};

// Takes the next line from `text`.
HostsLine TakeHostsLine(std::string_view& text) {
  std::string_view line = WithoutComment(TakeLine(text), "#");
  std::string_view address = TakeWord(line);
  return {.address = address, .names = line};
}

// Takes the next name, without a dot behind it; empty if there is none.
std::string_view TakeName(HostsLine& line) {
  std::string_view word = TakeWord(line.names);
  while (word == ".") {
    word = TakeWord(line.names);
  }
  return WithoutLastDot(word);
}

// What the line says of `name`; nothing if it is not meant.
std::optional<SocketAddress> AddressFor(std::string_view name, HostsLine line) {
  std::string_view one = TakeName(line);
  while (!one.empty() && !EqualsIgnoringCase(one, name)) {
    one = TakeName(line);
  }
  return one.empty() ? std::nullopt : AddressOf(line.address);
}

// FNV-1a, the same for both cases of a letter.
std::uint32_t HashOf(std::string_view name) {
  std::uint32_t hash = 2166136261U;
  for (char c : name) {
    hash = (hash ^ static_cast<std::uint8_t>(ToLower(c))) * 16777619U;
  }
  return hash;
}

// RFC 6724 section 2.1: the precedences of its policy table that can be told apart by the
// destination alone.
int PrecedenceOf(const SocketAddress& address) {
  if (address.storage.ss_family != AF_INET6) {
    return 35;
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &address.storage, sizeof v6);
  const std::uint8_t* octets = v6.sin6_addr.s6_addr;
  if (IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr)) {
    return 50;
  }
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    return 35;
  }
  if ((octets[0] & 0xfe) == 0xfc) {
    return 3;
  }
  return 40;
}

// Whether there is a route: the kernel says so when it is to choose an address for us. Nothing is
// sent.
bool HasRoute(SocketAddress address) {
  UniqueFd probe(::socket(address.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // Any port will do, but for 0.
  constexpr std::uint16_t kDiscard = 9;
  if (address.storage.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port = htons(kDiscard);
  } else {
    reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = htons(kDiscard);
  }
  return probe && ::connect(probe.get(), address.get(), address.length) == 0;
}

void SortForUse(std::vector<SocketAddress>& addresses) {
  if (addresses.size() < 2) {
    return;
  }
  // Of equal rank: as they came.
  std::multimap<int, SocketAddress, std::greater<>> ranked;
  for (const SocketAddress& address : addresses) {
    ranked.emplace(PrecedenceOf(address) + (HasRoute(address) ? 100 : 0), address);
  }
  addresses.clear();
  for (const auto& [rank, address] : ranked) {
    addresses.push_back(address);
  }
}

}  // namespace

ResolvConf ParseResolvConf(std::string_view text) {
  ResolvConf conf;
  while (!text.empty()) {
    std::string_view line = WithoutComment(TakeLine(text), "#;");
    std::string_view keyword = TakeWord(line);
    if (keyword == "nameserver") {
      std::string_view server = TakeWord(line);
      if (AddressOf(server.substr(0, server.find('%')))) {
        conf.servers.emplace_back(server);
      }
    } else if (keyword == "options") {
      TakeOptions(line, conf);
    } else if (keyword == "search" || keyword == "domain") {
      std::vector<std::string> domains;
      bool says_something = false;
      for (std::string_view word = TakeWord(line); !word.empty(); word = TakeWord(line)) {
        says_something = true;
        if (!WithoutLastDot(word).empty()) {
          domains.emplace_back(WithoutLastDot(word));
        }
        if (keyword == "domain") {
          break;
        }
      }
      if (says_something) {
        conf.domains = std::move(domains);
      }
    }
  }
  return conf;
}

HostsTable::HostsTable(std::string text) : text_(std::move(text)) {
  TG_CHECK(text_.size() <= std::numeric_limits<std::uint32_t>::max());
}

void HostsTable::Index() {
  is_indexed_ = true;
  std::string_view rest = text_;
  while (!rest.empty()) {
    const auto begin = static_cast<std::uint32_t>(text_.size() - rest.size());
    HostsLine line = TakeHostsLine(rest);
    for (std::string_view name = TakeName(line); !name.empty(); name = TakeName(line)) {
      places_.push_back({.hash = HashOf(name), .line = begin});
    }
  }
  std::ranges::sort(places_);
  places_.erase(std::ranges::unique(places_).begin(), places_.end());
  places_.shrink_to_fit();
}

std::vector<SocketAddress> HostsTable::Find(std::string_view name) {
  std::vector<SocketAddress> found;
  name = WithoutLastDot(name);
  if (name.empty()) {
    return found;
  }
  if (!is_indexed_) {
    Index();
  }
  for (const Place& place : std::ranges::equal_range(places_, HashOf(name), {}, &Place::hash)) {
    std::string_view rest = std::string_view(text_).substr(place.line);
    std::optional<SocketAddress> address = AddressFor(name, TakeHostsLine(rest));
    auto is_same = [&address](const SocketAddress& other) {
      return other.length == address->length &&
             std::memcmp(&other.storage, &address->storage, other.length) == 0;
    };
    if (address && std::ranges::none_of(found, is_same)) {
      found.push_back(*address);
    }
  }
  SortForUse(found);
  return found;
}

}  // namespace tidegate
