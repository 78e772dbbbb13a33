#pragma once

// The tables of commands (supervisor/commands.h) and counters (common/counters.h) as they stand in
// tidegate(8).

#include <optional>
#include <string>
#include <string_view>

namespace tidegate {

// What `tidegate NAME --help` says, without what every command takes. Nothing: there is no such
// command.
std::optional<std::string> CommandText(std::string_view name);

std::string CountersText();

}  // namespace tidegate
