#include "supervisor/address_book.h"

namespace tidegate {

void AddUpstreamNames(const Config& config, NameSet& names) {
  for (const UpstreamConfig& upstream : config.upstreams) {
    for (const EndpointConfig& endpoint : upstream.endpoints) {
      if (!endpoint.address.is_literal()) {
        names.insert(endpoint.address.host);
      }
    }
  }
}

void AddressBook::Learn(const KnownAddresses& told, const NameSet& allowed) {
  for (const auto& [name, addresses] : told) {
    bool has_room = addresses_.size() < kMostKnownNames || addresses_.contains(name);
    if (has_room && allowed.contains(name)) {
      addresses_[name] = addresses;
    }
  }
}

void AddressBook::KeepOnly(const NameSet& names) {
  std::erase_if(addresses_, [&](const auto& entry) { return !names.contains(entry.first); });
}

KnownAddresses AddressBook::Of(const Config& config) const {
  NameSet names;
  AddUpstreamNames(config, names);
  AddressBook part = *this;
  part.KeepOnly(names);
  return part.addresses_;
}

}  // namespace tidegate
