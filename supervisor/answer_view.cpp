#include "supervisor/answer_view.h"

#include <algorithm>
#include <array>
#include <sstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/control_messages.h"

namespace tidegate {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kUnchanged = "The running configuration is unchanged.";

std::string Line(const OrderedJson& object) {
  return object.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

OrderedJson Opening(const char* type) {
  return {{"schema_version", 1}, {"type", type}};
}

// Fields that are for the transport.
bool IsOfTheProtocol(const std::string& name) {
  constexpr std::array<std::string_view, 4> kNames = {"v", "type", "fds", "memfd"};
  return std::ranges::find(kNames, name) != kNames.end();
}

std::string Indented(const std::string& text) {
  std::istringstream lines(text);
  std::string indented;
  for (std::string line; std::getline(lines, line);) {
    indented += fmt::format("  | {}\n", Printable(line));
  }
  return indented;
}

// With an end of line, unless empty.
std::string Ended(std::string text) {
  if (!text.empty() && !text.ends_with('\n')) {
    text += '\n';
  }
  return text;
}

std::string ChangesText(const Json& result) {
  std::string text;
  auto changes = result.find("changes");
  if (changes != result.end() && changes->is_array()) {
    for (const Json& change : *changes) {
      if (change.is_string()) {
        text += fmt::format("  {}\n", Printable(change.get_ref<const std::string&>()));
      }
    }
  }
  return text;
}

// What serves now, for who has seen only phases go by.
std::string ServingText(const Json& data) {
  if (!FlagOf(data, "changed") || TextOf(data, "version").empty()) {
    return {};
  }
  return fmt::format("Serving {} (generation {}).", Printable(TextOf(data, "version")),
                     NumberOf(data, "generation"));
}

std::string DoneText(const std::string& command, const Json& result) {
  std::string text = ChangesText(result);
  auto found = result.find("data");
  const Json data = found != result.end() && found->is_object() ? *found : Json::object();
  if (command == "reload" && FlagOf(data, "became_upgrade")) {
    text += "Running workers cannot take this change: the reload became an upgrade.\n";
  }
  // Who left the choice to the daemon sees in its phases that it was an upgrade.
  if (TextOf(result, "became") == "reload") {
    text += "The binaries have not changed: the configuration was reloaded.\n";
  }
  std::string message = Printable(TextOf(result, "message"));
  return text + Ended(message.empty() ? ServingText(data) : message);
}

// The diagnostics end with their number; that nothing changed follows in the same line, as in
// INTERFACE section 2.
std::string InvalidText(std::string diagnostics) {
  std::size_t at = diagnostics.find(kUnchanged);
  if (at != std::string::npos) {
    diagnostics.erase(at);
  }
  while (diagnostics.ends_with('\n') || diagnostics.ends_with(' ')) {
    diagnostics.pop_back();
  }
  return fmt::format("{} {}\n", diagnostics, kUnchanged);
}

// `reload failed in prepare: worker 2 said no`
std::string FailureLine(const std::string& command, const Json& result) {
  std::string phase = TextOf(result, "phase");
  std::string reason = TextOf(result, "reason");
  std::string became = TextOf(result, "became");
  std::string line = fmt::format("{} failed", became.empty() ? command : became);
  if (!phase.empty()) {
    line += fmt::format(" in {}", phase);
  }
  return reason.empty() ? line : fmt::format("{}: {}", line, reason);
}

}  // namespace

Progress ProgressOf(const Json& message) {
  struct StateName {
    std::string_view name;
    PhaseState state;
  };
  constexpr std::array kStates = {
      StateName{"running", PhaseState::kRunning}, StateName{"ok", PhaseState::kOk},
      StateName{"failed", PhaseState::kFailed}, StateName{"warning", PhaseState::kWarning}};
  Progress progress;
  progress.phase = TextOf(message, "phase");
  // The first line: what more there is comes with the result.
  progress.text = TextOf(message, "text");
  progress.text.erase(std::min(progress.text.find('\n'), progress.text.size()));
  progress.seconds = SecondsOf(message, "seconds");
  const auto* row = std::ranges::find(kStates, TextOf(message, "state"), &StateName::name);
  progress.state = row == kStates.end() ? PhaseState::kRunning : row->state;
  auto limit = message.find("limit_seconds");
  if (limit != message.end() && limit->is_number()) {
    progress.limit_seconds = limit->get<double>();
  }
  return progress;
}

std::string ProgressJson(const Json& message) {
  OrderedJson object = Opening("progress");
  for (const auto& [name, value] : message.items()) {
    if (!IsOfTheProtocol(name)) {
      object[name] = value;
    }
  }
  return Line(object);
}

std::string ResultJson(const std::string& command, const Json& result) {
  OrderedJson object = Opening("result");
  object["command"] = command;
  object["exit_code"] = static_cast<int>(ExitCodeOf(result));
  for (const auto& [name, value] : result.items()) {
    if (!IsOfTheProtocol(name) && name != "data" && name != "exit_code") {
      object[name] = value;
    }
  }
  auto data = result.find("data");
  if (data != result.end() && data->is_object()) {
    for (const auto& [name, value] : data->items()) {
      object[name] = value;
    }
  }
  return Line(object);
}

std::string FaultJson(const std::string& command, ExitCode exit_code, const std::string& message) {
  OrderedJson object = Opening("result");
  object["command"] = command;
  object["exit_code"] = static_cast<int>(exit_code);
  object["message"] = message;
  return Line(object);
}

AnswerText AnswerTextOf(const std::string& command, const Json& result, const Outputs& outputs) {
  const Output& diagnostics = outputs.diagnostics;
  std::string found = diagnostics.PaintDiagnostics(TextOf(result, "diagnostics_text"));
  ExitCode exit_code = ExitCodeOf(result);
  if (exit_code == ExitCode::kDone) {
    return {.results = DoneText(command, result), .diagnostics = found};
  }
  std::string message = Printable(TextOf(result, "message"));
  if (exit_code == ExitCode::kConfigInvalid && !found.empty()) {
    // They say all: where, what, and that it changed nothing. Of an upgrade one also wants to know
    // what serves.
    return {
        .results = {},
        .diagnostics = InvalidText(std::move(found)) + Ended(command == "reload" ? "" : message)};
  }
  AnswerText text{.results = {}, .diagnostics = std::move(found)};
  bool only_message = TextOf(result, "phase").empty() && TextOf(result, "reason").empty();
  std::string line = only_message && !message.empty() ? message : FailureLine(command, result);
  text.diagnostics +=
      fmt::format("{} {}\n", diagnostics.Paint(Tint::kBad, "tidegate:"), Printable(line));
  text.diagnostics += Indented(TextOf(result, "output"));
  text.diagnostics += Ended(only_message ? std::string() : message);
  return text;
}

ExitCode ExitCodeOf(const Json& result) {
  constexpr std::array kKnown = {
      ExitCode::kDone,       ExitCode::kFailed,       ExitCode::kUsage,    ExitCode::kUnhealthy,
      ExitCode::kNoDaemon,   ExitCode::kPermission,   ExitCode::kConflict, ExitCode::kTimedOut,
      ExitCode::kRolledBack, ExitCode::kConfigInvalid};
  auto code = static_cast<ExitCode>(NumberOf(result, "exit_code", 1));
  return std::ranges::find(kKnown, code) == kKnown.end() ? ExitCode::kFailed : code;
}

}  // namespace tidegate
