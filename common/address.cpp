#include "common/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::string_view kSystemdPrefix = "systemd:";
// One octet of sun_path is for the terminating NUL.
constexpr std::size_t kMaxUnixPath = sizeof(sockaddr_un::sun_path) - 1;
// The first 12 octets of an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

std::unexpected<Error> Bad(std::string detail) {
  return Fail(ErrorKind::kConfig, std::move(detail));
}

bool ParseIp(int family, std::string_view text, void* out) {
  return text.size() < INET6_ADDRSTRLEN && inet_pton(family, std::string(text).c_str(), out) == 1;
}

bool IsIpv4(std::string_view text) {
  in_addr ignored{};
  return ParseIp(AF_INET, text, &ignored);
}

bool IsIpv6(std::string_view text) {
  in6_addr ignored{};
  return ParseIp(AF_INET6, text, &ignored);
}

std::string Ipv6ToString(const std::uint8_t* octets) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(AF_INET6, octets, text.data(), text.size());
  return text.data();
}

// RFC 1123 section 2.1, and underscores, which container networks use.
bool IsHostName(std::string_view host) {
  if (host.empty() || host.size() > 253) {
    return false;
  }
  std::size_t label = 0;
  for (std::size_t i = 0; i < host.size(); ++i) {
    char c = host[i];
    if (c == '.') {
      if (label == 0) {
        return false;
      }
      label = 0;
    } else if (IsAlnum(c) || c == '_' || (c == '-' && label > 0)) {
      if (++label > 63) {
        return false;
      }
    } else {
      return false;
    }
  }
  // A name that ends in a number would be an IPv4 address (RFC 3696 section 2), and it is none.
  std::string_view last = host.substr(host.rfind('.') + 1);
  return label > 0 && !std::ranges::all_of(last, IsDigit);
}

Result<std::uint16_t> ParsePort(std::string_view text, std::string_view whole) {
  unsigned port = 0;
  auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc{} || rest != text.data() + text.size() || port > 65535) {
    return Bad(fmt::format("\"{}\" in \"{}\" is not a port; ports are 0 to 65535", text, whole));
  }
  return static_cast<std::uint16_t>(port);
}

std::unexpected<Error> NoPort(std::string_view text) {
  if (!text.empty() && std::ranges::all_of(text, IsDigit)) {
    return Bad(fmt::format("\"{}\" is not an address; write \":{}\"", text, text));
  }
  if (IsIpv6(text)) {
    // "::1:8080" reads as an address; the last group was probably meant as the port.
    std::size_t colon = text.rfind(':');
    std::string_view last = text.substr(colon + 1);
    if (!last.empty() && std::ranges::all_of(last, IsDigit) && IsIpv6(text.substr(0, colon))) {
      return Bad(
          fmt::format("\"{}\" has no port; write \"[{}]:{}\"", text, text.substr(0, colon), last));
    }
    return Bad(fmt::format("\"{}\" has no port; write \"[{}]:80\"", text, text));
  }
  if (text.starts_with("http://") || text.starts_with("https://")) {
    return Bad(fmt::format("\"{}\" is a URL; write only host and port", text));
  }
  if (text.starts_with('/')) {
    return Bad(fmt::format("\"{}\" is a path; write \"unix:{}\"", text, text));
  }
  return Bad(fmt::format("\"{}\" has no port; write e.g. \"{}:80\"", text, text));
}

Result<Address> ParseTcp(std::string_view text) {
  Address address;
  std::size_t colon = text.rfind(':');
  bool bracketed = text.starts_with('[');
  if (bracketed) {
    std::size_t close = text.find(']');
    if (close == std::string_view::npos) {
      return Bad(fmt::format("\"{}\" has no closing ']'", text));
    }
    if (close + 1 >= text.size() || text[close + 1] != ':') {
      return Bad(
          fmt::format("\"{}\" has no port; write \"{}:80\"", text, text.substr(0, close + 1)));
    }
    colon = close + 1;
    std::array<std::uint8_t, 16> octets{};
    if (!ParseIp(AF_INET6, text.substr(1, close - 1), octets.data())) {
      return Bad(fmt::format("\"{}\" is not an IPv6 address", text.substr(1, close - 1)));
    }
    // One text for one address: duplicates are found by comparing.
    address.host = Ipv6ToString(octets.data());
  } else if (colon == std::string_view::npos || IsIpv6(text) ||
             text.find("//") != std::string_view::npos) {
    return NoPort(text);
  } else {
    std::string_view host = text.substr(0, colon);
    if (host.find(':') != std::string_view::npos) {
      return Bad(
          fmt::format("\"{}\" is not an address; write IPv6 in brackets, \"[::1]:80\"", text));
    }
    if (!host.empty() && !IsIpv4(host) && !IsHostName(host)) {
      return Bad(
          fmt::format("\"{}\" in \"{}\" is neither an IP address nor a host name", host, text));
    }
    address.host = ToLower(host);
  }
  auto port = ParsePort(text.substr(colon + 1), text);
  if (!port) {
    return std::unexpected(port.error());
  }
  address.port = *port;
  return address;
}

Result<Address> ParseUnix(std::string_view path, std::string_view text) {
  if (path.empty()) {
    return Bad(fmt::format("\"{}\" has no path; write e.g. \"unix:/run/app.sock\"", text));
  }
  if (path.find('\0') != std::string_view::npos) {
    return Bad("a path cannot contain NUL");
  }
  if (!path.starts_with('/')) {
    return Bad(
        fmt::format("the path of a unix socket begins with '/'; write \"unix:/run/{}\"", path));
  }
  if (path.size() > kMaxUnixPath) {
    return Bad(fmt::format("the path of a unix socket has at most {} bytes, this one has {}",
                           kMaxUnixPath, path.size()));
  }
  Address address;
  address.kind = Address::Kind::kUnix;
  address.path = path;
  return address;
}

Result<Address> ParseSystemd(std::string_view name, std::string_view text) {
  bool valid = !name.empty() && name.size() <= 255 &&
               std::ranges::all_of(name, [](char c) { return IsVisible(c) && c != ':'; });
  if (!valid) {
    return Bad(fmt::format(
        "\"{}\" has no socket name; write the FileDescriptorName= of the socket unit", text));
  }
  Address address;
  address.kind = Address::Kind::kSystemd;
  address.name = name;
  return address;
}

// The octets that a network is compared with, or nothing for families without any.
struct PeerOctets {
  Network::Family family = Network::Family::kIpv4;
  std::array<std::uint8_t, 16> octets{};
};

std::optional<PeerOctets> OctetsOf(const sockaddr* peer) {
  PeerOctets result;
  if (peer->sa_family == AF_UNIX) {
    result.family = Network::Family::kUnix;
    return result;
  }
  if (peer->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, peer, sizeof v4);
    std::memcpy(result.octets.data(), &v4.sin_addr, 4);
    return result;
  }
  if (peer->sa_family != AF_INET6) {
    return std::nullopt;
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, peer, sizeof v6);
  if (std::memcmp(&v6.sin6_addr, kMappedPrefix.data(), kMappedPrefix.size()) == 0) {
    std::memcpy(result.octets.data(), v6.sin6_addr.s6_addr + kMappedPrefix.size(), 4);
    return result;
  }
  result.family = Network::Family::kIpv6;
  std::memcpy(result.octets.data(), &v6.sin6_addr, 16);
  return result;
}

// Clears what is beyond the first `bits`.
std::array<std::uint8_t, 16> Masked(std::array<std::uint8_t, 16> octets, unsigned bits) {
  for (unsigned i = 0; i < octets.size(); ++i) {
    unsigned kept = bits > i * 8 ? std::min(bits - i * 8, 8U) : 0;
    octets[i] = static_cast<std::uint8_t>(octets[i] & (0xff00U >> kept));
  }
  return octets;
}

}  // namespace

Result<Address> ParseAddress(std::string_view text) {
  if (text.starts_with(kUnixPrefix)) {
    return ParseUnix(text.substr(kUnixPrefix.size()), text);
  }
  if (text.starts_with(kSystemdPrefix)) {
    return ParseSystemd(text.substr(kSystemdPrefix.size()), text);
  }
  if (text.empty()) {
    return Bad("an address is missing; write e.g. \"127.0.0.1:80\"");
  }
  return ParseTcp(text);
}

bool IsHost(std::string_view text) {
  if (text.starts_with('[')) {
    return text.ends_with(']') && IsIpv6(text.substr(1, text.size() - 2));
  }
  return IsIpv4(text) || IsHostName(text);
}

std::string Address::ToString() const {
  switch (kind) {
    case Kind::kUnix:
      return fmt::format("{}{}", kUnixPrefix, path);
    case Kind::kSystemd:
      return fmt::format("{}{}", kSystemdPrefix, name);
    case Kind::kTcp:
      break;
  }
  bool brackets = host.find(':') != std::string::npos;
  return brackets ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

bool Address::is_literal() const {
  return kind == Kind::kUnix ||
         (kind == Kind::kTcp && (host.empty() || IsIpv4(host) || IsIpv6(host)));
}

bool Address::ToSockaddr(sockaddr_storage& storage, socklen_t& length) const {
  storage = {};
  if (kind == Kind::kUnix && path.size() <= kMaxUnixPath) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    std::memcpy(&storage, &address, sizeof address);
    return true;
  }
  if (kind != Kind::kTcp) {
    return false;
  }
  sockaddr_in v4{};
  if (ParseIp(AF_INET, host, &v4.sin_addr)) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    length = sizeof v4;
    std::memcpy(&storage, &v4, sizeof v4);
    return true;
  }
  sockaddr_in6 v6{};
  if (host.empty() || ParseIp(AF_INET6, host, &v6.sin6_addr)) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    length = sizeof v6;
    std::memcpy(&storage, &v6, sizeof v6);
    return true;
  }
  return false;
}

std::string SockaddrToString(const sockaddr* address, socklen_t length) {
  if (address->sa_family == AF_UNIX) {
    sockaddr_un un{};
    std::memcpy(&un, address, std::min<std::size_t>(length, sizeof un));
    std::size_t size =
        length > offsetof(sockaddr_un, sun_path) ? length - offsetof(sockaddr_un, sun_path) : 0;
    std::string_view path(un.sun_path, strnlen(un.sun_path, std::min(size, sizeof un.sun_path)));
    return path.empty() ? "unix" : fmt::format("{}{}", kUnixPrefix, path);
  }
  auto peer = OctetsOf(address);
  if (!peer) {
    return {};
  }
  sockaddr_in port_holder{};  // sin_port and sin6_port are at the same place.
  std::memcpy(&port_holder, address, sizeof port_holder);
  unsigned port = ntohs(port_holder.sin_port);
  if (peer->family == Network::Family::kIpv6) {
    return fmt::format("[{}]:{}", Ipv6ToString(peer->octets.data()), port);
  }
  const auto& o = peer->octets;
  return fmt::format("{}.{}.{}.{}:{}", o[0], o[1], o[2], o[3], port);
}

bool Network::Contains(const sockaddr* peer) const {
  auto who = OctetsOf(peer);
  if (!who || who->family != family) {
    return false;
  }
  return family == Family::kUnix || Masked(who->octets, prefix_bits) == octets;
}

std::string Network::ToString() const {
  if (family == Family::kUnix) {
    return "unix";
  }
  if (family == Family::kIpv6) {
    return fmt::format("{}/{}", Ipv6ToString(octets.data()), prefix_bits);
  }
  return fmt::format("{}.{}.{}.{}/{}", octets[0], octets[1], octets[2], octets[3], prefix_bits);
}

Result<Network> ParseNetwork(std::string_view text) {
  Network network;
  if (text == "unix") {
    network.family = Network::Family::kUnix;
    return network;
  }
  std::size_t slash = text.find('/');
  std::string_view host = text.substr(0, slash);
  unsigned bits = 32;
  if (!ParseIp(AF_INET, host, network.octets.data())) {
    if (!ParseIp(AF_INET6, host, network.octets.data())) {
      return Bad(
          fmt::format("\"{}\" is not a network; write e.g. \"10.0.0.0/8\", \"fd00::/8\", "
                      "\"192.0.2.1\" or \"unix\"",
                      text));
    }
    network.family = Network::Family::kIpv6;
    bits = 128;
  }
  network.prefix_bits = bits;
  if (slash != std::string_view::npos) {
    std::string_view number = text.substr(slash + 1);
    auto [rest, error] =
        std::from_chars(number.data(), number.data() + number.size(), network.prefix_bits);
    if (number.empty() || error != std::errc{} || rest != number.data() + number.size() ||
        network.prefix_bits > bits) {
      return Bad(fmt::format("\"{}\" in \"{}\" is not a prefix length; it is 0 to {}", number, text,
                             bits));
    }
  }
  if (bits == 128 &&
      std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), network.octets.begin())) {
    return Bad(fmt::format("\"{}\" is IPv4 in IPv6 clothes; write the IPv4 network", text));
  }
  auto masked = Masked(network.octets, network.prefix_bits);
  if (masked != network.octets) {
    network.octets = masked;
    return Bad(fmt::format("\"{}\" has bits set beyond its prefix; did you mean \"{}\"?", text,
                           network.ToString()));
  }
  return network;
}

}  // namespace tidegate
