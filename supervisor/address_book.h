#pragma once

// What the names of upstreams resolved to last, as workers have told. For workers that start while
// a name does not resolve; the supervisor itself resolves nothing and connects to nothing.
//
// Bounded: only names that some living configuration has are in it, and common/known_addresses.h
// limits how many and how much of each.

#include <set>
#include <string>

#include "common/config.h"
#include "common/known_addresses.h"

namespace tidegate {

using NameSet = std::set<std::string, std::less<>>;
// Names of `config` that workers have to resolve, into `names`.
void AddUpstreamNames(const Config& config, NameSet& names);

class AddressBook {
 public:
  // The latest counts. Names that are not `allowed` are left out.
  void Learn(const KnownAddresses& told, const NameSet& allowed);
  void KeepOnly(const NameSet& names);
  // What a worker that gets `config` may need.
  KnownAddresses Of(const Config& config) const;
  const KnownAddresses& all() const { return addresses_; }

 private:
  KnownAddresses addresses_;
};

}  // namespace tidegate
