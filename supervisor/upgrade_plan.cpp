#include "supervisor/upgrade_plan.h"

#include "supervisor/event_log.h"
#include "supervisor/reload.h"

namespace tidegate {

using nlohmann::json;

bool ProgramsHaveChanged(const Holdings& holdings) {
  const std::string path = OwnPath(holdings.options, holdings.supervisor_program);
  Result<Program> supervisor_program = OpenProgram(path);
  Result<Program> worker_program = OpenProgram(WorkerPathFor(path));
  return !supervisor_program || !worker_program ||
         !IsSameProgram(*supervisor_program, holdings.supervisor_program) ||
         !IsSameProgram(*worker_program, holdings.worker_program);
}

Snapshot TakeSnapshot(Holdings& holdings, const Operation& operation, Narrator& narrator) {
  UpgradePlan plan;
  plan.began = UnixTime();
  if (operation.kind == OperationKind::kRollback) {
    if (!holdings.previous) {
      return std::unexpected(Refusal(holdings, 1, narrator,
                                     "there is nothing to roll back to: no reload or upgrade "
                                     "has changed anything since the start"));
    }
    plan.config = holdings.previous->config;
    plan.supervisor_program = holdings.previous->supervisor_program.Duplicate();
    plan.worker_program = holdings.previous->worker_program.Duplicate();
    plan.changes = DiffConfig(holdings.config->config, plan.config->config);
    return plan;
  }
  auto loaded = LoadConfiguration(holdings.options);
  if (!loaded) {
    return std::unexpected(RefusalOf(holdings, narrator, loaded.error()));
  }
  std::string path = operation.binary.empty()
                         ? OwnPath(holdings.options, holdings.supervisor_program)
                         : operation.binary;
  Result<Program> supervisor_program = OpenProgram(path);
  Result<Program> worker_program = OpenProgram(WorkerPathFor(path));
  if (!supervisor_program || !worker_program) {
    const Error& error = supervisor_program ? worker_program.error() : supervisor_program.error();
    return std::unexpected(Refusal(holdings, 1, narrator, error.ToString()));
  }
  plan.supervisor_program = std::move(*supervisor_program);
  plan.worker_program = std::move(*worker_program);
  plan.changes = DiffConfig(holdings.config->config, loaded->config);
  bool same = loaded->effective == holdings.config->effective &&
              IsSameProgram(plan.supervisor_program, holdings.supervisor_program) &&
              IsSameProgram(plan.worker_program, holdings.worker_program);
  if (same && !operation.force) {
    Outcome nothing{.message = "nothing to do"};
    nothing.data = {{"generation", holdings.current()->number()},
                    {"version", holdings.version},
                    {"changed", false},
                    {"became_upgrade", operation.became_upgrade}};
    return std::unexpected(nothing);
  }
  Result<std::optional<Identity>> identity = IdentityFor(loaded->config);
  Result<ActiveConfigPtr> config = Activate(std::move(loaded->config));
  if (!identity || !config) {
    const Error& error = identity ? config.error() : identity.error();
    return std::unexpected(Refusal(holdings, identity ? 1 : 78, narrator, error.ToString()));
  }
  plan.config = *config;
  return plan;
}

json SavePlan(const UpgradePlan& plan, std::vector<int>& fds) {
  fds.push_back(plan.supervisor_program.fd.get());
  fds.push_back(plan.worker_program.fd.get());
  return {{"config", plan.config->effective},
          {"changes", plan.changes},
          {"supervisor_path", plan.supervisor_program.path},
          {"supervisor_fd", plan.supervisor_program.fd.get()},
          {"worker_path", plan.worker_program.path},
          {"worker_fd", plan.worker_program.fd.get()},
          {"version", plan.version},
          {"began", plan.began}};
}

UpgradePlan PlanFrom(const json& saved) {
  UpgradePlan plan;
  if (Result<ActiveConfigPtr> active = ActivateText(TextOf(saved, "config"))) {
    plan.config = *active;
  }
  plan.changes = saved.value("changes", std::vector<std::string>());
  plan.supervisor_program =
      Program{.path = TextOf(saved, "supervisor_path"),
              .fd = UniqueFd(static_cast<int>(NumberOf(saved, "supervisor_fd")))};
  plan.worker_program = Program{.path = TextOf(saved, "worker_path"),
                                .fd = UniqueFd(static_cast<int>(NumberOf(saved, "worker_fd")))};
  plan.version = TextOf(saved, "version");
  plan.began = SecondsOf(saved, "began");
  return plan;
}

}  // namespace tidegate
