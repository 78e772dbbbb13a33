#pragma once

// A configuration as it is in force: the values, the text that workers get, and where it came from.

#include <memory>
#include <optional>
#include <string>

#include "common/config.h"
#include "common/unique_fd.h"

namespace tidegate {

struct ActiveConfig {
  Config config;
  // What `config` was read from: EffectiveJson of the image that made it, this one or another.
  std::string effective;
  // Sealed, holds `effective`.
  UniqueFd memfd;
  // Unix time.
  double loaded = 0;
};
using ActiveConfigPtr = std::shared_ptr<const ActiveConfig>;

}  // namespace tidegate
