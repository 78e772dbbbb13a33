#pragma once

// From files to one tree: includes are read and merged, variables are put in.

#include <optional>
#include <string>
#include <string_view>

#include "common/config_diagnostics.h"
#include "common/config_load.h"
#include "common/json_reader.h"

namespace tidegate {

// Reads the file at `path` and all that it includes. Faults go to `diagnostics`; nothing if there
// is no tree worth reading on: a file that cannot be read, or a syntax error in any of them.
//
// Merging: objects by key; the arrays `routes` and `listeners` in the order main file, then
// includes; anything else that is given twice is a fault that names both places.
std::optional<JsonNode> ReadConfigFiles(const std::string& path, const Environment& environment,
                                        Diagnostics& diagnostics);
// The same for a text that is called `name`; its includes are relative to the folder in `name`.
std::optional<JsonNode> ReadConfigText(const std::string& name, std::string_view text,
                                       const Environment& environment, Diagnostics& diagnostics);

// `${NAME}` and `${NAME:-default}` (when unset or empty) become values; `$${` stands for `${`.
// Error: kConfig; the detail says which variable is not set.
Result<std::string> ExpandVariables(std::string_view text, const Environment& environment);
// Takes back EscapeVariables in every text below `node`, and puts nothing in.
void UnescapeTree(JsonNode& node);
// Writes `text` so that ExpandVariables gives it back.
std::string EscapeVariables(std::string_view text);

}  // namespace tidegate
