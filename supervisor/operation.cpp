#include "supervisor/operation.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "supervisor/event_log.h"

namespace tidegate {

using nlohmann::json;

namespace {

constexpr int kRolledBack = 8;

bool IsNothingToDo(const Operation& operation, const Outcome& outcome) {
  return outcome.exit_code == 0 && !operation.force && outcome.data.contains("changed") &&
         !FlagOf(outcome.data, "changed");
}

// Who wants an upgrade in any case gets it; a reload leaves the other one free.
bool LeavesFree(const Operation& operation) {
  return operation.automatic || operation.kind == OperationKind::kReload;
}

}  // namespace

bool HasReadTheFile(const Operation& operation, const Outcome& outcome) {
  return outcome.exit_code == 0 && !operation.files_only &&
         operation.kind != OperationKind::kRollback;
}

bool HasReloaded(const Operation& operation, const Outcome& outcome) {
  return operation.kind == OperationKind::kReload && HasReadTheFile(operation, outcome) &&
         !IsNothingToDo(operation, outcome);
}

bool Join(Operation& waiting, const Operation& added) {
  // An upgrade reads the configuration, too: it serves who wanted a reload. A roll-back serves
  // nobody else.
  const bool one_rolls_back =
      (waiting.kind == OperationKind::kRollback) != (added.kind == OperationKind::kRollback);
  // Nor do programs of another place serve who wants those on the disk in force.
  const bool both_upgrade =
      waiting.kind != OperationKind::kReload && added.kind != OperationKind::kReload;
  if (one_rolls_back || (both_upgrade && waiting.binary != added.binary)) {
    return false;
  }
  waiting.automatic =
      LeavesFree(waiting) && LeavesFree(added) && (waiting.automatic || added.automatic);
  waiting.kind = std::max(waiting.kind, added.kind);
  waiting.force = waiting.force || added.force;
  waiting.files_only = waiting.files_only && added.files_only;
  if (waiting.binary.empty()) {
    waiting.binary = added.binary;
  }
  if (!waiting.drain) {
    waiting.drain = added.drain;
  }
  waiting.clients.insert(waiting.clients.end(), added.clients.begin(), added.clients.end());
  return true;
}

AnswerAt AnswerAtOf(const json& wishes) {
  if (FlagOf(wishes, "detach")) {
    return AnswerAt::kCommit;
  }
  // A service manager has a limit for what it calls; a drain may take longer.
  bool stable = FlagOf(wishes, "stable") || FlagOf(wishes, "auto");
  return stable ? AnswerAt::kStable : AnswerAt::kDrained;
}

void TellWhatItBecame(const Operation& operation, Outcome& outcome) {
  if (operation.automatic) {
    outcome.more["became"] = IsNothingToDo(operation, outcome)          ? "nothing"
                             : operation.kind == OperationKind::kReload ? "reload"
                                                                        : "upgrade";
  }
}

json RecordOf(const Operation& operation, const Outcome& outcome, double now) {
  constexpr std::array<std::string_view, 3> kNames = {"reload", "upgrade", "rollback"};
  const bool done = outcome.exit_code == 0;
  json record = {{"operation", kNames.at(static_cast<std::size_t>(operation.kind))},
                 {"ended", FormatTime(now)},
                 {"exit_code", outcome.exit_code},
                 {"result", IsNothingToDo(operation, outcome)  ? "nothing_to_do"
                            : done                             ? "done"
                            : outcome.exit_code == kRolledBack ? "rolled_back"
                                                               : "failed"}};
  if (!done) {
    std::string reason = TextOf(outcome.more, "reason");
    // The first of the faults: the line is to say what to look at, not all of it.
    std::string fault = TextOf(outcome.more, "diagnostics_text");
    fault.resize(std::min(fault.find('\n'), fault.size()));
    if (!fault.empty()) {
      reason += (reason.empty() ? "" : ": ") + fault;
    }
    record["phase"] = TextOf(outcome.more, "phase");
    record["reason"] = InOneLine(reason.empty() ? outcome.message : reason);
  }
  return record;
}

void Narrator::Send(std::string_view state, std::string_view text, const json& more) {
  json message = MakeControlMessage("progress");
  message["phase"] = phase_;
  message["step"] = step_;
  message["state"] = state;
  message["text"] = text;
  message["seconds"] = static_cast<double>(loop_.now() - began_) / 1000.0;
  message.update(more);
  for (const Operation::Client& client : clients_) {
    server_.Send(client.id, message);
  }
}

void Narrator::Begin(std::string_view phase, int step, std::string_view text) {
  phase_ = phase;
  step_ = step;
  began_ = loop_.now();
  Send("running", text, json::object());
}

void Narrator::Running(std::string_view text, const json& more) {
  Send("running", text, more);
}

void Narrator::Ok(std::string_view text) {
  Send("ok", text, json::object());
  LogEvent(LogLevel::kInfo, fmt::format("{}: {}", phase_, text));
}

void Narrator::Failed(std::string_view text) {
  Send("failed", text, json::object());
  LogEvent(LogLevel::kError, fmt::format("{} failed: {}", phase_, text));
}

void Narrator::Warn(std::string_view text) {
  Send("warning", text, json::object());
  LogEvent(LogLevel::kWarn, fmt::format("{}: {}", phase_, text));
}

void Narrator::Tell(std::string_view phase, int step, std::string_view state, std::string_view text,
                    double seconds) {
  phase_ = phase;
  step_ = step;
  began_ = loop_.now();
  Send(state, text, {{"seconds", seconds}});
  LogEvent(state == "failed" ? LogLevel::kError : LogLevel::kInfo,
           fmt::format("{}{}: {}", phase, state == "failed" ? " failed" : "", text));
}

void FinishAll(ControlServer& server, const std::vector<Operation::Client>& clients,
               const Outcome& outcome) {
  // First: who has an answer may look for it in the log.
  if (!outcome.message.empty()) {
    LogEvent(outcome.exit_code == 0 ? LogLevel::kInfo : LogLevel::kError, outcome.message);
  }
  for (const Operation::Client& client : clients) {
    server.Finish(client.id, outcome.exit_code, outcome.message, outcome.data, outcome.more);
  }
}

}  // namespace tidegate
