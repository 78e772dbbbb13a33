#pragma once

// What the texts of resolv.conf and /etc/hosts say. c-ares reads both by itself, but only from
// paths, and a worker opens none.

#include <compare>
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

// A text of /etc/hosts, to look names up in. Some keep lists of all the world's advertisers there:
// it is read whole once, at the first lookup, and from then on it is known in which lines a name
// may stand. That costs 8 bytes a name, beside the text.
class HostsTable {
 public:
  // At most 4 GiB.
  explicit HostsTable(std::string text = {});

  const std::string& text() const { return text_; }
  // The addresses of `name`, whatever its case and with or without a dot behind it; port 0; each
  // once. In the order in which to try them: those of a family that cannot be reached from here
  // last (RFC 6724 rule 1), then by its policy table (rule 6), then as the file has them. Empty:
  // there is no such name.
  std::vector<SocketAddress> Find(std::string_view name);

 private:
  // That of a name, and where the line begins that has it. Of several, in the order of the lines.
  struct Place {
    std::uint32_t hash = 0;
    std::uint32_t line = 0;
    auto operator<=>(const Place&) const = default;
  };
  void Index();

  std::string text_;
  bool is_indexed_ = false;
  std::vector<Place> places_;
};

}  // namespace tidegate
