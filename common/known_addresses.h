#pragma once

// What names of upstreams resolved to last, as supervisor and workers tell each other: a worker
// that starts while a name does not resolve begins with what the others know.
//
// It comes from processes that nobody trusts: what a field holds beyond the bounds below, or what
// is no address, is as if it were not there.

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace tidegate {

// By name, as the configuration writes it. IPv4 and IPv6 addresses as texts, without brackets, port
// and zone, in the order in which to try them; never none.
using KnownAddresses = std::map<std::string, std::vector<std::string>, std::less<>>;

inline constexpr std::size_t kMostKnownNames = 4096;
// Of one name; those behind them are left out.
inline constexpr std::size_t kMostKnownAddresses = 32;
// RFC 1035 section 2.3.4.
inline constexpr std::size_t kLongestName = 255;

// True for the text of an IPv4 or IPv6 address as above.
bool IsIpAddress(const std::string& text);

// The {name: [address]} that is the field `name` of what a peer sent; empty if it is missing. Never
// throws.
KnownAddresses KnownAddressesOf(const nlohmann::json& object, const char* name);

}  // namespace tidegate
