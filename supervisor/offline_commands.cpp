// What needs no daemon: check, schema, completion, version.

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <uv.h>

#include "common/config_load.h"
#include "common/text.h"
#include "supervisor/completion.h"
#include "supervisor/invocation.h"
#include "supervisor/output.h"
#include "supervisor/process.h"

namespace tidegate {
namespace {

using Json = nlohmann::ordered_json;

// Text of a file need not be UTF-8; what is not, is replaced.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void PrintCheckJson(Outputs& outputs, const std::string& path, const LoadedConfig* loaded,
                    const std::vector<Diagnostic>& diagnostics, bool print) {
  Json object = {{"schema_version", 1},
                 {"command", "check"},
                 {"exit_code",
                  static_cast<int>(loaded == nullptr ? ExitCode::kConfigInvalid : ExitCode::kDone)},
                 {"file", path},
                 {"valid", loaded != nullptr}};
  object["diagnostics"] = Json::parse(DiagnosticsJson(diagnostics), nullptr, false);
  if (print && loaded != nullptr) {
    object["effective"] = Json::parse(loaded->effective, nullptr, false);
    object["origins"] = loaded->origins;
  }
  outputs.results.Write(Dump(object));
}

std::string Summary(const std::string& path, const Config& config) {
  return fmt::format("{}: valid: {}, {}, {}\n", path, CountOf(config.listeners.size(), "listener"),
                     CountOf(config.routes.size(), "route"),
                     CountOf(config.upstreams.size(), "upstream"));
}

}  // namespace

ExitCode CheckCommand(const Invocation& invocation, Outputs& outputs) {
  std::string path =
      invocation.arguments.empty() ? ConfigPathOf(invocation) : invocation.arguments.front();
  auto loaded = LoadConfig(path, ProcessEnvironment(),
                           [](const std::string& user) { return LookUpUser(user).has_value(); });
  const std::vector<Diagnostic>& diagnostics = loaded ? loaded->warnings : loaded.error();

  if (invocation.json) {
    PrintCheckJson(outputs, path, loaded ? &*loaded : nullptr, diagnostics,
                   invocation.Has("print"));
  } else if (!loaded || !invocation.quiet) {
    outputs.diagnostics.Write(outputs.diagnostics.PaintDiagnostics(FormatDiagnostics(diagnostics)));
  }
  if (!loaded) {
    return ExitCode::kConfigInvalid;
  }
  if (!invocation.json) {
    outputs.Say(invocation.Has("print") ? PrintEffective(*loaded) : Summary(path, loaded->config));
  }
  return ExitCode::kDone;
}

ExitCode SchemaCommand(const Invocation&, Outputs& outputs) {
  std::string schema = ConfigSchema();
  if (!schema.ends_with('\n')) {
    schema += '\n';
  }
  outputs.results.Write(schema);
  return ExitCode::kDone;
}

ExitCode CompletionCommand(const Invocation& invocation, Outputs& outputs) {
  outputs.results.Write(CompletionScript(invocation.arguments.front()));
  return ExitCode::kDone;
}

ExitCode VersionCommand(const Invocation& invocation, Outputs& outputs) {
  std::string fmt_version =
      fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100);
  std::string json_version = fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR,
                                         NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH);
  if (invocation.json) {
    outputs.results.Write(Dump({{"schema_version", 1},
                                {"command", "version"},
                                {"exit_code", 0},
                                {"version", TIDEGATE_VERSION},
                                {"libuv", uv_version_string()},
                                {"fmt", fmt_version},
                                {"nlohmann_json", json_version}}));
    return ExitCode::kDone;
  }
  outputs.results.Write(fmt::format("tidegate {}\n", TIDEGATE_VERSION));
  if (invocation.verbose) {
    outputs.results.Write(
        fmt::format("  libuv          {}\n  fmt            {}\n"
                    "  nlohmann json  {}\n",
                    uv_version_string(), fmt_version, json_version));
  }
  return ExitCode::kDone;
}

}  // namespace tidegate
