#pragma once

// What only the whole configuration shows: names that nobody has, names that two have, routes that
// can never match.

#include "common/config.h"
#include "common/config_diagnostics.h"
#include "common/json_reader.h"

namespace tidegate {

// `config` was read from `root`; its n-th listener, upstream and route belong to the n-th item
// there, the short forms come last.
void CheckReferences(const JsonNode& root, const Config& config, Diagnostics& diagnostics);

}  // namespace tidegate
