#pragma once

// Where something listens or is called: `127.0.0.1:80`, `[::1]:80`, `name:80`, `:80`, `unix:/path`,
// `systemd:NAME`.

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace tidegate {

struct Address {
  enum class Kind : std::uint8_t { kTcp, kUnix, kSystemd };

  Kind kind = Kind::kTcp;
  // kTcp: a name in lower case, an IPv4 address, or an IPv6 address without brackets. Empty: any,
  // both families.
  std::string host;
  // kTcp: 0 lets the kernel choose.
  std::uint16_t port = 0;
  // kUnix: at most 107 octets.
  std::string path;
  // kSystemd: the FileDescriptorName= of a socket that systemd gives.
  std::string name;

  // The text that ParseAddress takes; IPv6 addresses in brackets.
  std::string ToString() const;
  // True for kTcp with an IP address or no host, and for kUnix: nothing has to be resolved.
  bool is_literal() const;
  // Fills `storage` and `length` (for bind or connect). An empty host becomes [::]. False if
  // !is_literal().
  bool ToSockaddr(sockaddr_storage& storage, socklen_t& length) const;

  bool operator==(const Address&) const = default;
};

// Any form above. The port must be there; it may be 0. Error: kConfig, the detail says what is
// wrong with it.
Result<Address> ParseAddress(std::string_view text);

// True for what may stand before `:port`: a name, an IPv4 address, an IPv6 address in brackets. No
// port, not empty.
bool IsHost(std::string_view text);

// The text of a socket address: `127.0.0.1:80`, `[::1]:80`, `unix:/path`, `unix` for a unix socket
// without a name. An IPv4-mapped IPv6 address is shown as IPv4. Empty if the family is another.
std::string SockaddrToString(const sockaddr* address, socklen_t length);

// A range of peers: CIDR (`10.0.0.0/8`, `fd00::/8`, `192.0.2.1`), or `unix` for whoever comes
// through a unix socket.
struct Network {
  enum class Family : std::uint8_t { kIpv4, kIpv6, kUnix };

  Family family = Family::kIpv4;
  // The first 4 (kIpv4) or 16 (kIpv6); bits beyond the prefix are zero.
  std::array<std::uint8_t, 16> octets{};
  unsigned prefix_bits = 0;

  // `peer` as accept() or getpeername() gave it. An IPv4-mapped IPv6 address is judged as IPv4:
  // that is what a dual-stack listener reports.
  bool Contains(const sockaddr* peer) const;
  std::string ToString() const;

  bool operator==(const Network&) const = default;
};

// Error: kConfig; also when bits beyond the prefix are set, the detail names the network that was
// probably meant.
Result<Network> ParseNetwork(std::string_view text);

}  // namespace tidegate
