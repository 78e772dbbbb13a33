#pragma once

#include <string>
#include <vector>

#include "common/result.h"

namespace tidegate {

// The configuration that `tidegate proxy --from FROM --to TO...` means, as JSON text. An endpoint
// without a host is on this machine. Error: kConfig, naming the flag and what is wrong with its
// value.
Result<std::string> ProxyConfigText(const std::string& from, const std::vector<std::string>& to);

}  // namespace tidegate
