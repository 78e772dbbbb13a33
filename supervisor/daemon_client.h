#pragma once

// One command to the daemon and its answer, over the control socket (common/control_messages.h,
// section 2).

#include <expected>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "supervisor/commands.h"

namespace tidegate {

// Why there is no answer.
struct DaemonFault {
  ExitCode exit_code;
  // For people; without "tidegate:", without an end of line.
  std::string message;
};

// Hears what happens between a command and its answer.
class ProgressListener {
 public:
  // `message` is a `progress` of the protocol; its fields are not checked.
  virtual void OnProgress(const nlohmann::json& message) = 0;
  // Some ten times a second while nothing comes.
  virtual void OnTick() = 0;

 protected:
  ~ProgressListener() = default;
};

struct Question {
  std::string socket_path;
  std::string command;
  // Of the whole talk; kNever: as long as it takes.
  Duration timeout;
  // The daemon ends by this command: waits, a few seconds at most, until its process is gone.
  bool ends_daemon = false;
};

// The `result` of the protocol, an object with a number `exit_code`. Ends early, with a fault of
// kFailed and no message, after an interrupt (WasInterrupted). `args`: an object.
std::expected<nlohmann::json, DaemonFault> Ask(const Question& question, const nlohmann::json& args,
                                               ProgressListener& listener);

// From now on SIGINT and SIGTERM end a talk instead of the process.
void CatchInterrupts();
bool WasInterrupted();
// Ends this process as the caught signal would have.
[[noreturn]] void EndInterrupted();

}  // namespace tidegate
