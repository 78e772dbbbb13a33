#pragma once

// What one upgrade is about: programs and configuration, read and opened once. It goes through
// execve with the operation.

#include <expected>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "supervisor/holdings.h"
#include "supervisor/operation.h"

namespace tidegate {

struct UpgradePlan {
  ActiveConfigPtr config;
  std::vector<std::string> changes;
  Program supervisor_program;
  Program worker_program;
  // Of the new supervisor, which says it in the preflight.
  std::string version;
  // Unix time.
  double began = 0;
};

// Either the plan, or what to answer.
using Snapshot = std::expected<UpgradePlan, Outcome>;
// What an upgrade without a named program would put in the place of what runs. True also if a
// program cannot be opened: the upgrade then says why.
bool ProgramsHaveChanged(const Holdings& holdings);
// Step 2. Nothing is changed; nobody looks at the files again.
Snapshot TakeSnapshot(Holdings& holdings, const Operation& operation, Narrator& narrator);

// The descriptors that must stay open are added to `fds`; they are the plan's.
nlohmann::json SavePlan(const UpgradePlan& plan, std::vector<int>& fds);
// From SavePlan, in the next image. Without a configuration if this image cannot read it.
UpgradePlan PlanFrom(const nlohmann::json& saved);

}  // namespace tidegate
