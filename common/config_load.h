#pragma once

// From files to a Config, with every fault found at once.

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "common/result.h"

namespace tidegate {

enum class Severity : std::uint8_t { kError, kWarning };

// One fault, and where it is.
struct Diagnostic {
  Severity severity = Severity::kError;
  // As the caller or the include named it.
  std::string file;
  // Both from 1. Columns count characters (UTF-8 code points; a tab is one). 0 and 0: the fault has
  // no place, e.g. a file that cannot be read.
  unsigned line = 0;
  unsigned column = 0;
  // `routes[2].path`; empty for the whole file.
  std::string path;
  std::string message;
  // The line without its end; long lines are cut around the place, and `column_shown` says where it
  // went.
  std::string source_line;
  unsigned column_shown = 0;
  // Characters to underline, at least 1.
  unsigned length = 1;
  // `did you mean "upstream"?`, `write "30s", not 30`; may be empty.
  std::string suggestion;
};

// A variable of the environment, or nothing. An empty function: there are none.
using Environment = std::function<std::optional<std::string>(std::string_view name)>;
// The environment of this process.
Environment ProcessEnvironment();

struct LoadedConfig {
  Config config;
  std::vector<Diagnostic> warnings;
  // Canonical JSON: what the supervisor hands to workers and keeps for a roll-back; a valid
  // configuration by itself. ParseEffectiveConfig(effective) == config.
  std::string effective;
  // Where the values of `effective` come from: path -> "file:line". A value that is not here is the
  // default.
  std::map<std::string, std::string> origins;
};

// Whether this system has a user of that name. An empty function: that does not matter.
using UserLookup = std::function<bool(const std::string& name)>;

// Reads `path` and what it includes. Errors: at least one diagnostic of kError, in the order of the
// files, warnings among them. A user that `has_user` does not know is a warning: the file may be
// for another machine.
std::expected<LoadedConfig, std::vector<Diagnostic>> LoadConfig(const std::string& path,
                                                                const Environment& environment,
                                                                const UserLookup& has_user = {});
// The same for a text; `name` is what diagnostics call it, and includes are relative to its folder.
std::expected<LoadedConfig, std::vector<Diagnostic>> LoadConfigText(const std::string& name,
                                                                    std::string_view text,
                                                                    const Environment& environment);

// For what LoadConfig wrote as `effective`. Error: kConfig; only if the text was made by another
// version or is damaged.
Result<Config> ParseEffectiveConfig(std::string_view effective);
// Canonical JSON of `config`; same as LoadedConfig::effective.
std::string EffectiveJson(const Config& config);

// The same for people: without the contents of files.
std::string ShownJson(const Config& config);

// INTERFACE section 2's layout: three lines each, then `2 errors, 1 warning.` Empty if there is
// none. Ends with a newline. The caller adds its own sentence about the running configuration after
// it.
std::string FormatDiagnostics(const std::vector<Diagnostic>& diagnostics);
// One JSON array, for --json: severity, file, line, column, path, message, suggestion.
std::string DiagnosticsJson(const std::vector<Diagnostic>& diagnostics);

// The JSON schema (2020-12) of a configuration file.
std::string ConfigSchema();

// For `check --print`: one line a value with the file and line that gave it, or "default".
std::string PrintEffective(const LoadedConfig& loaded);

// What a reload changes, in words, one entry a change: `routes: added "api"`, `timeouts.keepalive:
// 75s -> 30s`. Empty if the two are equal.
std::vector<std::string> DiffConfig(const Config& before, const Config& after);
// True if running workers cannot take the change: the worker count or the user differ.
bool NeedsUpgrade(const Config& before, const Config& after);

}  // namespace tidegate
