#pragma once

// From argv to an Invocation: CLI11, told what to accept by the table in commands.h.

#include <expected>
#include <span>
#include <string>

#include "supervisor/invocation.h"

namespace tidegate {

// What to say instead of running a command.
struct Refusal {
  ExitCode exit_code;
  // Help or a version, for stdout, when exit_code is kDone; otherwise a diagnostic for stderr. Ends
  // with a newline.
  std::string text;
};

// `arguments` without the program's name. Never throws.
std::expected<Invocation, Refusal> ParseArguments(std::span<const char* const> arguments);

}  // namespace tidegate
