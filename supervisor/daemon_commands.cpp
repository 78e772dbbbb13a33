// What asks the daemon: one function tells how a command is sent, watched and answered; `status`
// adds its view and --watch.

#include <poll.h>

#include <charconv>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/text.h"
#include "supervisor/answer_view.h"
#include "supervisor/certificates_view.h"
#include "supervisor/daemon_client.h"
#include "supervisor/invocation.h"
#include "supervisor/output.h"
#include "supervisor/status_view.h"
#include "supervisor/transcript.h"

namespace tidegate {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

// --watch draws this often.
constexpr int kWatchMilliseconds = 1000;

// `loglevel --for` with "0s" or "off": no time after which the level goes back.
bool IsForGood(const Invocation& invocation) {
  auto limit = ParseDuration(invocation.Get("for"));
  return limit && (*limit == Duration::zero() || *limit == kNever);
}

// The options and arguments of the command as the protocol wants them: named as they are, typed by
// their kind.
Json ArgumentsFor(const Invocation& invocation) {
  auto value_of = [](ValueKind kind, const std::string& text) -> Json {
    if (kind == ValueKind::kFlag) {
      return true;
    }
    if (kind == ValueKind::kFile) {
      std::error_code fault;
      auto path = std::filesystem::absolute(text, fault);
      return fault ? text : path.string();
    }
    if (kind == ValueKind::kCount) {
      std::uint64_t number = 0;
      std::from_chars(text.data(), text.data() + text.size(), number);
      return number;
    }
    return text;
  };
  Json args = Json::object();
  for (const OptionRow& row : invocation.command->options) {
    if (invocation.Has(row.name)) {
      args[std::string(row.name)] = value_of(row.kind, invocation.Get(row.name));
    }
  }
  for (std::size_t i = 0; i < invocation.arguments.size(); ++i) {
    const ArgumentRow& row = invocation.command->arguments[i];
    args[ToLower(row.metavar)] = value_of(row.kind, invocation.arguments[i]);
  }
  if (IsForGood(invocation)) {
    args.erase("for");
  }
  return args;
}

std::expected<Json, DaemonFault> AskDaemon(const Invocation& invocation, const Json& args,
                                           ProgressListener& listener) {
  Result<std::string> socket_path = ClientSocketPathOf(invocation);
  if (!socket_path) {
    return std::unexpected(DaemonFault{ExitCode::kPermission, socket_path.error().ToString()});
  }
  return Ask({.socket_path = *socket_path,
              .command = std::string(invocation.command->name),
              .timeout = TimeoutOf(invocation),
              .ends_daemon = invocation.command->name == "stop"},
             args, listener);
}

// Shows what runs, as lines of JSON or as a transcript.
class ProgressView final : public ProgressListener {
 public:
  ProgressView(const Invocation& invocation, Outputs& outputs)
      : json_(invocation.json),
        quiet_(invocation.quiet),
        outputs_(outputs),
        transcript_(outputs.results, invocation.verbose) {}

  void OnProgress(const Json& message) override {
    if (json_) {
      outputs_.results.Write(ProgressJson(message));
    } else if (!quiet_) {
      transcript_.OnProgress(ProgressOf(message), Clock::now());
    }
  }
  void OnTick() override {
    if (!json_ && !quiet_) {
      transcript_.OnTick(Clock::now());
    }
  }
  void Close() { transcript_.Close(); }

 private:
  bool json_;
  bool quiet_;
  Outputs& outputs_;
  Transcript transcript_;
};

ExitCode ReportFault(const Invocation& invocation, Outputs& outputs, const DaemonFault& fault) {
  if (WasInterrupted()) {
    if (invocation.command->timeout == kNever) {
      outputs.Complain(fmt::format("interrupted; {} goes on. See \"tidegate status\"",
                                   invocation.command->name));
    }
    EndInterrupted();
  }
  if (invocation.json) {
    outputs.results.Write(
        FaultJson(std::string(invocation.command->name), fault.exit_code, fault.message));
  }
  outputs.Complain(fault.message);
  return fault.exit_code;
}

const Json& DataOf(const Json& result) {
  static const Json kEmpty = Json::object();
  auto data = result.find("data");
  return data != result.end() && data->is_object() ? *data : kEmpty;
}

// What a command shows beside its phases and the daemon's message.
std::string DoneText(const Invocation& invocation, const Json& result, const Outputs& outputs) {
  std::string_view name = invocation.command->name;
  if (name == "conns" && !invocation.Has("kill")) {
    return ConnectionsText(DataOf(result), outputs.results);
  }
  if (name == "conns") {
    return fmt::format("Connection {} is ended.\n", invocation.Get("kill"));
  }
  if (name == "loglevel") {
    std::string limit = IsForGood(invocation) ? "good" : invocation.Get("for");
    return fmt::format("The error log is at level {}{}.\n", invocation.arguments.front(),
                       limit.empty() ? "" : fmt::format(" for {}", limit));
  }
  if (name == "cert") {
    return CertificatesText(DataOf(result), outputs.results, invocation.verbose);
  }
  return name == "reopen" ? "The log files are open again.\n" : "";
}

struct WatchScreen {
  // One frame over the other, without wrapping and without a trace in what scrolls.
  static std::string Frame(const std::string& text, unsigned height) {
    std::string frame = "\x1b[?7l\x1b[H";
    std::size_t start = 0;
    for (unsigned line = 1; line < height && start < text.size(); ++line) {
      std::size_t end = text.find('\n', start);
      frame += text.substr(start, end - start) + "\x1b[K\r\n";
      start = end == std::string::npos ? text.size() : end + 1;
    }
    return frame + "\x1b[J\x1b[?7h";
  }
};

struct Silent final : ProgressListener {
  void OnProgress(const Json&) override {}
  void OnTick() override {}
};

// One look. The text for people or the JSON line, and the exit code.
std::expected<std::pair<std::string, ExitCode>, DaemonFault> Look(const Invocation& invocation,
                                                                  const Outputs& outputs) {
  Silent silent;
  auto result = AskDaemon(invocation, Json::object(), silent);
  if (!result) {
    return std::unexpected(result.error());
  }
  ExitCode exit_code = ExitCodeOf(*result);
  if (exit_code != ExitCode::kDone && exit_code != ExitCode::kUnhealthy) {
    std::string message = result->value("message", std::string());
    return std::unexpected(
        DaemonFault{exit_code, message.empty() ? "the daemon cannot tell" : message});
  }
  if (!invocation.arguments.empty() && result->contains("data") &&
      !KeepOnly((*result)["data"], invocation.arguments.front())) {
    return std::unexpected(DaemonFault{
        ExitCode::kFailed, fmt::format("no listener, upstream or generation is called \"{}\"",
                                       invocation.arguments.front())});
  }
  if (invocation.json) {
    return std::pair(ResultJson("status", *result), exit_code);
  }
  return std::pair(StatusText(DataOf(*result), outputs.results, invocation.verbose), exit_code);
}

ExitCode Watch(const Invocation& invocation, Outputs& outputs) {
  bool in_place = outputs.results.is_terminal() && !invocation.json;
  if (in_place) {
    outputs.results.Write("\x1b[2J");
  }
  ExitCode exit_code = ExitCode::kDone;
  for (bool first = true; !WasInterrupted() && !outputs.results.closed(); first = false) {
    auto look = Look(invocation, outputs);
    if (WasInterrupted()) {
      break;
    }
    // On a screen one waits for the daemon to come back.
    if (!look && (first || !in_place)) {
      return ReportFault(invocation, outputs, look.error());
    }
    exit_code = look ? look->second : look.error().exit_code;
    std::string text = look ? look->first : fmt::format("tidegate: {}\n", look.error().message);
    if (in_place) {
      outputs.results.Write(WatchScreen::Frame(text, outputs.results.height()));
    } else {
      outputs.results.Write(first || invocation.json ? text : "\n" + text);
    }
    ::poll(nullptr, 0, kWatchMilliseconds);
  }
  return exit_code;
}

}  // namespace

ExitCode DaemonCommand(const Invocation& invocation, Outputs& outputs) {
  CatchInterrupts();
  ProgressView progress(invocation, outputs);
  auto result = AskDaemon(invocation, ArgumentsFor(invocation), progress);
  progress.Close();
  if (!result) {
    return ReportFault(invocation, outputs, result.error());
  }
  ExitCode exit_code = ExitCodeOf(*result);
  std::string name(invocation.command->name);
  AnswerText text = AnswerTextOf(name, *result, outputs);
  if (invocation.json) {
    outputs.results.Write(ResultJson(name, *result));
    text.results.clear();
  } else if (exit_code == ExitCode::kDone) {
    text.results = DoneText(invocation, *result, outputs) + text.results;
  }
  outputs.Say(text.results);
  // Warnings of something that was done are no errors.
  if (exit_code != ExitCode::kDone || !outputs.quiet) {
    outputs.diagnostics.Write(text.diagnostics);
  }
  return exit_code;
}

ExitCode StatusCommand(const Invocation& invocation, Outputs& outputs) {
  CatchInterrupts();
  if (invocation.Has("watch")) {
    return Watch(invocation, outputs);
  }
  auto look = Look(invocation, outputs);
  if (!look) {
    return ReportFault(invocation, outputs, look.error());
  }
  outputs.Say(look->first);
  return look->second;
}

ExitCode CertCommand(const Invocation& invocation, Outputs& outputs) {
  if (invocation.arguments.front() == "check") {
    return CertCheckCommand(invocation, outputs);
  }
  if (invocation.Has("config")) {
    outputs.Complain(
        "\"cert list\" asks the daemon and reads no configuration; leave --config out");
    return ExitCode::kUsage;
  }
  return DaemonCommand(invocation, outputs);
}

}  // namespace tidegate
