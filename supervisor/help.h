#pragma once

#include <string>

#include "supervisor/commands.h"

namespace tidegate {

// `tidegate --help`: the commands by group and the options of all. At most 80 columns.
std::string GeneralHelp();
// `tidegate NAME --help`.
std::string CommandHelp(const CommandRow& command);
// One line: `tidegate upgrade [--binary PATH] [--drain DUR] [--force] [--detach]`.
std::string UsageLine(const CommandRow& command);

}  // namespace tidegate
