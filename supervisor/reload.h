#pragma once

// A new configuration in the running workers: prepare in all, commit in all. No connection is
// touched. Whatever fails before commit leaves nothing behind.

#include "common/task.h"
#include "supervisor/holdings.h"
#include "supervisor/operation.h"

namespace tidegate {

struct ReloadEnd {
  // Running workers cannot take this change; an upgrade can.
  bool needs_upgrade = false;
  Outcome outcome;
};

// `operation` outlives the task; a generation serves.
Task<ReloadEnd> Reload(Holdings& holdings, const Operation& operation);

// A failed operation's answer: exit code, the phase that failed, why, and that the old one still
// serves.
Outcome Refusal(Holdings& holdings, int exit_code, const Narrator& narrator, std::string reason);
// With the diagnostics of a configuration that is refused.
Outcome RefusalOf(Holdings& holdings, const Narrator& narrator,
                  const std::vector<Diagnostic>& diagnostics);
// With what a worker said and wrote.
Outcome RefusalOf(Holdings& holdings, const Narrator& narrator, const GenerationFailure& failure);

}  // namespace tidegate
