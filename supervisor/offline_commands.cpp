// What needs no daemon: check, cert check, schema, completion, version.

#include <algorithm>
#include <array>
#include <sstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <uv.h>

#include "common/config_load.h"
#include "common/control.h"
#include "common/text.h"
#include "supervisor/completion.h"
#include "supervisor/invocation.h"
#include "supervisor/output.h"
#include "supervisor/preflight.h"

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
    object["effective"] = Json::parse(ShownJson(loaded->config), nullptr, false);
    object["origins"] = loaded->origins;
  }
  outputs.results.Write(Dump(object));
}

std::string Summary(const std::string& path, const Config& config) {
  return fmt::format("{}: valid: {}, {}, {}\n", path, CountOf(config.listeners.size(), "listener"),
                     CountOf(config.routes.size(), "route"),
                     CountOf(config.upstreams.size(), "upstream"));
}

// A worker that says nothing for so long is broken. A thousand certificates take about a second.
constexpr Duration kVersionPatience = std::chrono::seconds(3);
constexpr Duration kCheckPatience = std::chrono::seconds(20);

Task<void> RunWorker(Loop& loop, Children& children, const Program& worker,
                     std::vector<std::string> arguments, int fd, Duration patience, ProbeEnd& out) {
  SpawnRequest request{.program = &worker, .argv = std::move(arguments)};
  request.argv.insert(request.argv.begin(), worker.path);
  auto end = co_await RunProbe(loop, children, std::move(request), fd, patience);
  out = std::move(end);
  loop.Stop();
}

// What the worker that belongs to this program says, with `fd` as its descriptor 3 (-1: something
// that it does not look at). Not ok: `reason` is why.
ProbeEnd AskWorker(std::vector<std::string> arguments, Duration patience, int fd = -1) {
  ProbeEnd end;
  Result<Program> own = OpenOwnProgram();
  Result<Program> worker =
      own ? OpenProgram(WorkerPathFor(own->path)) : Result<Program>(Fail(own.error()));
  if (!worker) {
    end.reason = worker.error().ToString();
    return end;
  }
  Loop loop;
  {
    Children children(loop);
    TaskScope scope;
    scope.Start(RunWorker(loop, children, *worker, std::move(arguments),
                          fd >= 0 ? fd : worker->fd.get(), patience, end));
    loop.Run();
    ReadyQueue::Drain();
  }
  loop.RunUntilClosed();
  return end;
}

// Its libraries are not ours.
ProbeEnd WorkerVersion() {
  ProbeEnd end = AskWorker({"--version", "-v"}, kVersionPatience);
  if (end.ok && !end.output.starts_with("tidegate-worker ")) {
    end.ok = false;
    Result<Program> own = OpenOwnProgram();
    end.reason = (own ? WorkerPathFor(own->path) : std::string("that")) + " is no worker";
  }
  return end;
}

// Whether certificates and keys fit, which only the worker knows: it has the library. What it says
// is added to `diagnostics`; false if one of them is an error.
bool CheckCertificates(const std::string& path, const LoadedConfig& loaded,
                       std::vector<Diagnostic>& diagnostics) {
  const bool upstreams_have_tls =
      std::ranges::any_of(loaded.config.upstreams,
                          [](const UpstreamConfig& upstream) { return upstream.tls.has_value(); });
  if (loaded.config.certificates.empty() && !upstreams_have_tls) {
    return true;
  }
  Result<UniqueFd> effective = MakeMemfd("configuration", loaded.effective);
  ProbeEnd end;
  if (effective) {
    end = AskWorker({"--check", "3"}, kCheckPatience, effective->get());
  } else {
    end.reason = effective.error().ToString();
  }
  constexpr int kInvalid = static_cast<int>(ExitCode::kConfigInvalid);
  const Severity severity = end.ok ? Severity::kWarning : Severity::kError;
  std::istringstream lines(end.ok || end.exit_code == kInvalid
                               ? end.output
                               : "the certificates cannot be checked: " + end.reason);
  for (std::string line; std::getline(lines, line);) {
    diagnostics.push_back(
        {.severity = severity, .file = path, .path = "certificates", .message = line});
  }
  return end.ok;
}

// `tidegate-worker 1.0.0` and a line for each library as an object; the name of one may have
// spaces.
Json WorkerJson(const ProbeEnd& worker) {
  if (!worker.ok) {
    return {{"fault", worker.reason}};
  }
  Json object = Json::object();
  std::istringstream lines(worker.output);
  for (std::string line; std::getline(lines, line);) {
    std::size_t end = line.find_last_not_of(' ', line.rfind(' '));
    std::string name = line.substr(0, end + 1);
    name.erase(0, name.find_first_not_of(' '));
    std::ranges::replace(name, '-', '_');
    object[name == "tidegate_worker" ? "version" : name] = line.substr(line.rfind(' ') + 1);
  }
  return object;
}

struct Library {
  const char* name;
  const char* json_name;
  std::string version;
};

std::array<Library, 3> OwnLibraries() {
  return {Library{"libuv", "libuv", uv_version_string()},
          Library{"fmt", "fmt",
                  fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100,
                              FMT_VERSION % 100)},
          Library{"nlohmann json", "nlohmann_json",
                  fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                              NLOHMANN_JSON_VERSION_PATCH)}};
}

}  // namespace

ExitCode CheckCommand(const Invocation& invocation, Outputs& outputs) {
  std::string path =
      invocation.arguments.empty() ? ConfigPathOf(invocation) : invocation.arguments.front();
  auto loaded = LoadConfig(path, ProcessEnvironment(),
                           [](const std::string& user) { return LookUpUser(user).has_value(); });
  std::vector<Diagnostic> diagnostics = loaded ? loaded->warnings : loaded.error();
  const bool valid = loaded && CheckCertificates(path, *loaded, diagnostics);

  if (invocation.json) {
    PrintCheckJson(outputs, path, valid ? &*loaded : nullptr, diagnostics, invocation.Has("print"));
  } else if (!valid || !invocation.quiet) {
    outputs.diagnostics.Write(outputs.diagnostics.PaintDiagnostics(FormatDiagnostics(diagnostics)));
  }
  if (!valid) {
    return ExitCode::kConfigInvalid;
  }
  if (!invocation.json) {
    outputs.Say(invocation.Has("print") ? PrintEffective(*loaded) : Summary(path, loaded->config));
  }
  return ExitCode::kDone;
}

// As `check`, but of warnings only those of certificates: who renews them has not written the rest.
ExitCode CertCheckCommand(const Invocation& invocation, Outputs& outputs) {
  const std::string path = ConfigPathOf(invocation);
  auto loaded = LoadConfig(path, ProcessEnvironment());
  std::vector<Diagnostic> diagnostics = loaded ? loaded->warnings : loaded.error();
  std::erase_if(diagnostics, [](const Diagnostic& each) {
    return each.severity == Severity::kWarning && !each.path.starts_with("certificates") &&
           !each.path.contains(".tls");
  });
  const bool valid = loaded && CheckCertificates(path, *loaded, diagnostics);
  const std::size_t count = loaded ? loaded->config.certificates.size() : 0;
  if (invocation.json) {
    Json object = {
        {"schema_version", 1},
        {"command", "cert"},
        {"exit_code", static_cast<int>(valid ? ExitCode::kDone : ExitCode::kConfigInvalid)},
        {"file", path},
        {"valid", valid},
        {"certificates", count}};
    object["diagnostics"] = Json::parse(DiagnosticsJson(diagnostics), nullptr, false);
    outputs.results.Write(Dump(object));
  } else if (!valid || !invocation.quiet) {
    outputs.diagnostics.Write(outputs.diagnostics.PaintDiagnostics(FormatDiagnostics(diagnostics)));
  }
  if (valid && !invocation.json) {
    outputs.Say(fmt::format("{}: valid: {}\n", path, CountOf(count, "certificate")));
  }
  return valid ? ExitCode::kDone : ExitCode::kConfigInvalid;
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
  if (invocation.json) {
    Json object = {{"schema_version", 1},
                   {"command", "version"},
                   {"exit_code", 0},
                   {"version", TIDEGATE_VERSION}};
    for (const Library& library : OwnLibraries()) {
      object[library.json_name] = library.version;
    }
    if (invocation.verbose) {
      object["worker"] = WorkerJson(WorkerVersion());
    }
    outputs.results.Write(Dump(object));
    return ExitCode::kDone;
  }
  std::string text = fmt::format("tidegate {}\n", TIDEGATE_VERSION);
  if (invocation.verbose) {
    for (const Library& library : OwnLibraries()) {
      text += fmt::format("  {:<15}{}\n", library.name, library.version);
    }
    ProbeEnd worker = WorkerVersion();
    text += worker.ok ? worker.output
                      : fmt::format("tidegate-worker does not answer: {}\n", worker.reason);
  }
  outputs.results.Write(text);
  return ExitCode::kDone;
}

}  // namespace tidegate
