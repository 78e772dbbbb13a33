#pragma once

// Running a new program before anything depends on it: does it take our state, does it take the
// configuration?

#include <string>
#include <vector>

#include "common/task.h"
#include "supervisor/process.h"

namespace tidegate {

struct ProbeEnd {
  // Exited with 0 in time.
  bool ok = false;
  // Of the program; -1: it was killed or could not be started.
  int exit_code = -1;
  // Why not, for people.
  std::string reason;
  // The end of what it wrote.
  std::string output;
};

// Runs `program` with `fd` as its descriptor 3 and waits for its end; kills it after `timeout`.
// `request` lacks only fds and output.
Task<ProbeEnd> RunProbe(Loop& loop, Children& children, SpawnRequest request, int fd,
                        Duration timeout);

// `tidegate --preflight-state FD`: says on stdout that this program can adopt the state behind
// `fd`, or on stderr why not. The exit code.
int PreflightState(int fd);
// The version that PreflightState of a program has said; empty if `output` is not its answer: any
// program may exit with 0.
std::string VersionFromPreflight(const std::string& output);

}  // namespace tidegate
