#pragma once

namespace tidegate {

// The whole program for a person's command line: parses it, runs the command, returns the exit code
// of INTERFACE section 1. Never throws.
int RunCli(int argc, char** argv);

}  // namespace tidegate
