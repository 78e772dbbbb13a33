#pragma once

// Running the supervisor: what main() calls. The supervisor owns everything that must outlive a
// worker: listening sockets, counters, log files, the configuration in force, the control socket.

#include <optional>
#include <string>
#include <vector>

namespace tidegate {

struct RunOptions {
  // Made absolute by RunSupervisor. Ignored if there is a text.
  std::string config_path;
  // `tidegate proxy`: the configuration itself; `config_path` is then only its name in diagnostics.
  std::optional<std::string> config_text;
  // Where the CLI finds us. Its folder is made if it is missing.
  std::string socket_path;
  // Goes before the configuration's.
  std::optional<unsigned> workers;
  // Empty: none. Written when the workers are ready, removed at the end.
  std::string pidfile;
  // As main() got it: a supervisor that upgrades itself starts the new image with it.
  std::vector<std::string> argv;
};

// Runs until it is told to stop. Exit code: 0 stopped, 1 could not start (the reason is on stderr),
// 6 another instance is at the socket, 78 configuration invalid (diagnostics on stderr).
int RunSupervisor(RunOptions options);

// main() calls this before it looks at its arguments. Not nothing when this process was not started
// by a person: the image that replaces a running supervisor (TIDEGATE_STATE_FD in the environment),
// or the check of a new binary
// (`tidegate --preflight-state FD`). The exit code then.
std::optional<int> RunInternalMode(int argc, char** argv);

}  // namespace tidegate
