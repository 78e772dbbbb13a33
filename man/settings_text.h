#pragma once

// The settings table (common/settings_table.h) as it stands in tidegate.json(5).

#include <optional>
#include <string>
#include <string_view>

namespace tidegate {

// The keys of one section of the file, with those of the objects inside them: `queue.size`. An
// empty name: those at the top, where a section is only named. Nothing: there is no such section.
std::optional<std::string> SettingsText(std::string_view section);

}  // namespace tidegate
