#include "supervisor/cli.h"

#include <csignal>
#include <cstring>
#include <exception>
#include <span>

#include <fmt/format.h>

#include "supervisor/arguments.h"
#include "supervisor/output.h"

namespace tidegate {
namespace {

// The exit code of what would have ended with `exit_code`: results that nobody can read are a
// failure, and said. But what a command has changed is changed, whoever hears of it.
ExitCode Settle(Outputs& outputs, ExitCode exit_code, bool has_changed) {
  if (outputs.results.fault() == 0) {
    return exit_code;
  }
  outputs.Complain(
      fmt::format("cannot write the results: {}", std::strerror(outputs.results.fault())));
  return exit_code == ExitCode::kDone && !has_changed ? ExitCode::kFailed : exit_code;
}

ExitCode Refuse(const Refusal& refusal) {
  Outputs outputs{Invocation()};
  if (refusal.exit_code == ExitCode::kDone) {
    outputs.results.Write(refusal.text);
  } else {
    outputs.diagnostics.Write(refusal.text);
  }
  return Settle(outputs, refusal.exit_code, false);
}

ExitCode Run(std::span<char* const> argv) {
  // A reader that goes away ends our output, not what we do: see Output.
  std::signal(SIGPIPE, SIG_IGN);
  std::vector<const char*> words(argv.begin(), argv.end());
  std::span<const char* const> arguments(words);
  auto invocation = ParseArguments(arguments.empty() ? arguments : arguments.subspan(1));
  if (!invocation) {
    return Refuse(invocation.error());
  }
  invocation->argv.assign(words.begin(), words.end());
  Outputs outputs(*invocation);
  ExitCode exit_code = invocation->command->run(*invocation, outputs);
  return Settle(outputs, exit_code, invocation->command->group == CommandGroup::kChange);
}

}  // namespace

int RunCli(int argc, char** argv) {
  try {
    return static_cast<int>(Run(std::span(argv, static_cast<std::size_t>(argc))));
  } catch (const std::exception& error) {
    Output(2, ColorMode::kAuto).Write(std::string("tidegate: ") + error.what() + "\n");
    return static_cast<int>(ExitCode::kFailed);
  }
}

}  // namespace tidegate
