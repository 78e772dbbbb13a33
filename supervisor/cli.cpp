#include "supervisor/cli.h"

#include <csignal>
#include <exception>
#include <span>

#include "supervisor/arguments.h"
#include "supervisor/output.h"

namespace tidegate {
namespace {

ExitCode Refuse(const Refusal& refusal) {
  Output(refusal.exit_code == ExitCode::kDone ? 1 : 2, ColorMode::kAuto).Write(refusal.text);
  return refusal.exit_code;
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
  return invocation->command->run(*invocation);
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
