#pragma once

// What one image of the supervisor hands to the next across execve: a JSON object in a sealed memfd
// that names descriptors by their numbers. The process stays, so they stay; what is not named is
// closed by execve.
//
// A format that another image cannot read is refused before it runs: preflight shows it the state.

#include <sys/types.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "supervisor/holdings.h"

namespace tidegate {

inline constexpr int kStateFormat = 1;

struct SavedState {
  UniqueFd memfd;
  // The ticket keys (common/ticket_ring.h). None: they could not be packed.
  UniqueFd keys;
  // Everything that must survive execve, but the memfd.
  std::vector<int> fds;
};

// `upgrade` is what the story of the upgrade wants to find again; `more_fds` are those that it
// names.
Result<SavedState> SaveState(const Holdings& holdings, const nlohmann::json& upgrade,
                             const std::vector<int>& more_fds);
// The state behind a descriptor, if this image can adopt it. Touches nothing. Errors: kProtocol,
// kSystem.
Result<nlohmann::json> ReadState(int fd);
// All that must survive execve with it. Error: kProtocol.
Result<std::vector<int>> DescriptorsOf(const nlohmann::json& state);
// Error: kProtocol if a descriptor that cannot be missed is not what the state says. Needs the
// process of the state.
Result<> CheckDescriptors(const nlohmann::json& state);
// The workers of all generations that it names, living or not.
std::set<pid_t> WorkersOf(const nlohmann::json& state);
// True if `fd` is still what it was when the state was saved.
bool IsStillThere(const nlohmann::json& state, int fd);
// `holdings` is empty. Error: kProtocol; then it is of no use.
Result<> RestoreState(Holdings& holdings, const nlohmann::json& state);

nlohmann::json SaveOperation(const Operation& operation, const ControlServer& server,
                             std::vector<int>& fds);
Operation RestoreOperation(const nlohmann::json& saved, ControlServer& server,
                           const nlohmann::json& state);

nlohmann::json SaveOutcome(const Outcome& outcome);
Outcome RestoreOutcome(const nlohmann::json& saved);

void KeepAcrossExec(const std::vector<int>& fds, bool keep);

}  // namespace tidegate
