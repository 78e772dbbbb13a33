#pragma once

// What the texts of resolv.conf and /etc/hosts say. c-ares reads both by itself, but only from
// paths, and a worker opens none.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/net/address_memory.h"

namespace tidegate {

// resolv.conf(5), as far as it concerns us: how long and how often to try is the resolver's.
struct ResolvConf {
  // Addresses; those of IPv6 may have a scope ("fe80::1%eth0"). None: the file names none.
  std::vector<std::string> servers;
  // What is tried behind a name. Nothing: the file does not say, the domain of this machine. Empty:
  // nothing is ("search .").
  std::optional<std::vector<std::string>> domains;
  std::optional<int> ndots;
  bool rotate = false;
  bool use_tcp = false;
};

// Never fails: a line that says nothing we know is left out. Of `search` and `domain` the last one
// counts.
ResolvConf ParseResolvConf(std::string_view text);

// The addresses of `name`, whatever its case and with or without a dot behind it; port 0; each
// once. In the order in which to try them: those of a family that cannot be reached from here last
// (RFC 6724 rule 1), then by its policy table (rule 6), then as the file has them. Empty: there is
// no such name.
std::vector<SocketAddress> FindInHosts(std::string_view text, std::string_view name);

}  // namespace tidegate
