// What the old image finds when it is back (upgrade.h): the answer, and what the new one has left.

#include <sys/types.h>

#include <array>
#include <csignal>
#include <set>

#include <fmt/format.h>

#include "supervisor/event_log.h"
#include "supervisor/process.h"
#include "supervisor/state.h"
#include "supervisor/upgrade.h"

namespace tidegate {
namespace {

using nlohmann::json;

// Workers that the image after us has started, those of its generation and those in the place of
// lost ones: nobody else knows of them. Other children may be of whoever executed us, and older
// ones of another supervisor. Not every root may see what a worker executes.
void EndStrangers(Holdings& holdings, const json& state, const Program& its_worker) {
  const std::uint64_t left = NumberOf(state.at("upgrade"), "left_ticks", TicksSinceBoot());
  const std::set<pid_t> ours = WorkersOf(state);
  for (const Child& child : ChildrenOfUs()) {
    if (child.started >= left && !ours.contains(child.pid) &&
        (IsNamedWorker(child.name) || holdings.IsWorker(child.pid) ||
         Executes(child.pid, its_worker))) {
      LogEvent(LogLevel::kInfo,
               fmt::format("worker {} of the program that has gone is killed", child.pid));
      ::kill(child.pid, SIGKILL);
    }
  }
}

}  // namespace

Outcome OutcomeOfReturn(Holdings& holdings, const json& state, const std::string& because) {
  const json& upgrade = state.at("upgrade");
  if (because.empty() && upgrade.contains("outcome")) {
    return RestoreOutcome(upgrade["outcome"]);
  }
  // The programs that step 2 opened came back with us.
  std::array<Program, 2> opened;
  for (std::size_t i = 0; i < opened.size(); ++i) {
    const char* name = i == 0 ? "supervisor_fd" : "worker_fd";
    int fd = static_cast<int>(NumberOf(upgrade, name));
    if (upgrade.contains(name) && IsStillThere(state, fd)) {
      opened[i].fd.Reset(fd);
    }
  }
  EndStrangers(holdings, state, opened[1]);
  Outcome outcome{.exit_code = 1, .message = holdings.StillServing()};
  outcome.more["phase"] = "supervisor";
  outcome.more["step"] = 4;
  outcome.more["reason"] = because;
  return outcome;
}

}  // namespace tidegate
