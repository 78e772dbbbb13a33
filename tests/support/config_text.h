#pragma once

// For tests about configurations: from a text to a Config, or to what is wrong with it.

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "common/config_load.h"

namespace tidegate {

inline Environment EnvironmentOf(std::map<std::string, std::string, std::less<>> variables) {
  return [variables = std::move(variables)](std::string_view name) -> std::optional<std::string> {
    auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

// Fails the test if the text is not valid.
inline LoadedConfig LoadedFrom(std::string_view text, const Environment& environment = {}) {
  auto loaded = LoadConfigText("t.json", text, environment);
  if (!loaded) {
    ADD_FAILURE() << FormatDiagnostics(loaded.error());
    return {};
  }
  return *loaded;
}

inline Config ConfigFrom(std::string_view text, const Environment& environment = {}) {
  return LoadedFrom(text, environment).config;
}

// A valid configuration with `members` added: `"workers": 2, ...`.
inline std::string With(std::string_view members) {
  return std::string(R"({ "listen": ":8080", "upstream": "127.0.0.1:3000", )") +
         std::string(members) + " }";
}

// A valid configuration with the route `members`, after which comes a route to the upstream
// "default".
inline std::string WithRoute(std::string_view members) {
  return With(R"("routes": [ { )" + std::string(members) + " } ]");
}

// `path: message | suggestion` of each diagnostic, one a line; empty if there is none.
inline std::string FaultsOf(std::string_view text, const Environment& environment = {}) {
  auto loaded = LoadConfigText("t.json", text, environment);
  std::string faults;
  for (const Diagnostic& d : loaded ? loaded->warnings : loaded.error()) {
    faults += d.severity == Severity::kWarning ? "warning: " : "";
    faults += d.path + ": " + d.message + (d.suggestion.empty() ? "" : " | " + d.suggestion) + "\n";
  }
  return faults;
}

}  // namespace tidegate
