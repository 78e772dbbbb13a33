#pragma once

// From nothing to a generation that serves: everything is opened and checked first, in the
// foreground, then prepared and committed as any other generation. What a dead supervisor left is
// taken over on the way. If the configuration file cannot be used after a crash, what was in force
// before serves on (Holdings::config_fault).

#include <string>

#include "common/task.h"
#include "supervisor/holdings.h"

namespace tidegate {

// Opens all that a start needs; before the loop runs. 0, or the exit code; what is wrong is on
// stderr then.
int OpenAll(Holdings& holdings);
// The first generation of this supervisor: spawn, prepare, commit; then adopted workers drain. As
// above.
Task<int> StartServing(Holdings& holdings);
// What people are told while the file cannot be used, for `fault`.
std::string UnusableFileText(const std::string& fault);

}  // namespace tidegate
