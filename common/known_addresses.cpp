#include "common/known_addresses.h"

#include <arpa/inet.h>

namespace tidegate {
namespace {

using nlohmann::json;

std::vector<std::string> AddressesOf(const json& list) {
  std::vector<std::string> addresses;
  if (!list.is_array()) {
    return addresses;
  }
  for (const json& entry : list) {
    const auto* text = entry.get_ptr<const std::string*>();
    if (addresses.size() < kMostKnownAddresses && text != nullptr && IsIpAddress(*text)) {
      addresses.push_back(*text);
    }
  }
  return addresses;
}

}  // namespace

bool IsIpAddress(const std::string& text) {
  in6_addr octets;
  // inet_pton would stop at a NUL and take what is before it.
  return text.size() < INET6_ADDRSTRLEN && text.find('\0') == std::string::npos &&
         (::inet_pton(AF_INET, text.c_str(), &octets) == 1 ||
          ::inet_pton(AF_INET6, text.c_str(), &octets) == 1);
}

KnownAddresses KnownAddressesOf(const json& object, const char* name) {
  KnownAddresses known;
  auto field = object.is_object() ? object.find(name) : object.end();
  if (field == object.end() || !field->is_object()) {
    return known;
  }
  for (const auto& [host, list] : field->items()) {
    std::vector<std::string> addresses = AddressesOf(list);
    if (known.size() < kMostKnownNames && !host.empty() && host.size() <= kLongestName &&
        !addresses.empty()) {
      known.emplace(host, std::move(addresses));
    }
  }
  return known;
}

}  // namespace tidegate
