#include "supervisor/reload.h"

#include <fmt/format.h>

#include "common/text.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr Duration kCommitLimit = std::chrono::seconds(5);

void KeepPrevious(Holdings& holdings) {
  holdings.previous = Previous{.supervisor_program = holdings.supervisor_program.Duplicate(),
                               .worker_program = holdings.worker_program.Duplicate(),
                               .version = holdings.version,
                               .config = holdings.config};
}

}  // namespace

Outcome Refusal(Holdings& holdings, int exit_code, const Narrator& narrator, std::string reason) {
  Outcome outcome{.exit_code = exit_code, .message = holdings.StillServing()};
  outcome.more["phase"] = narrator.phase();
  outcome.more["step"] = narrator.step();
  outcome.more["reason"] = std::move(reason);
  return outcome;
}

Outcome RefusalOf(Holdings& holdings, const Narrator& narrator,
                  const std::vector<Diagnostic>& diagnostics) {
  Outcome outcome = Refusal(holdings, 78, narrator, "the configuration is invalid");
  outcome.more["diagnostics"] = json::parse(DiagnosticsJson(diagnostics), nullptr, false);
  outcome.more["diagnostics_text"] =
      FormatDiagnostics(diagnostics) + "The running configuration is unchanged.\n";
  return outcome;
}

Outcome RefusalOf(Holdings& holdings, const Narrator& narrator, const GenerationFailure& failure) {
  Outcome outcome = Refusal(holdings, 1, narrator, failure.reason);
  if (!failure.diagnostics.empty()) {
    outcome.more["diagnostics_text"] = failure.diagnostics;
  }
  if (!failure.output.empty()) {
    outcome.more["output"] = failure.output;
  }
  return outcome;
}

Task<ReloadEnd> Reload(Holdings& holdings, const Operation& operation) {
  Narrator narrator(holdings.loop, holdings.server, operation.clients);
  Generation& generation = *holdings.current();
  ReloadEnd end;

  narrator.Begin("snapshot", 0);
  auto loaded = operation.files_only ? LoadFilesAgain(holdings.config->config)
                                     : LoadConfiguration(holdings.options);
  if (!loaded) {
    // Nobody is there to read a text with excerpts of a configuration that has not changed.
    narrator.Failed(operation.files_only
                        ? InOneLine(loaded.error().front().message)
                        : "the configuration is invalid\n" + FormatDiagnostics(loaded.error()));
    end.outcome = RefusalOf(holdings, narrator, loaded.error());
    co_return end;
  }
  std::vector<std::string> changes = DiffConfig(holdings.config->config, loaded->config);
  end.outcome.more["changes"] = changes;
  if (!loaded->warnings.empty()) {
    end.outcome.more["diagnostics"] =
        json::parse(DiagnosticsJson(loaded->warnings), nullptr, false);
    end.outcome.more["diagnostics_text"] = FormatDiagnostics(loaded->warnings);
  }
  end.outcome.data = {{"generation", generation.number()},
                      {"became_upgrade", false},
                      {"changed", loaded->effective != holdings.config->effective}};
  if (loaded->effective == holdings.config->effective && !operation.force) {
    end.outcome.message = "nothing to do";
    co_return end;
  }
  if (NeedsUpgrade(holdings.config->config, loaded->config)) {
    end.needs_upgrade = true;
    co_return end;
  }
  Result<ActiveConfigPtr> config = Activate(std::move(loaded->config));
  if (!config) {
    narrator.Failed(config.error().ToString());
    end.outcome = Refusal(holdings, 1, narrator, config.error().ToString());
    co_return end;
  }
  narrator.Ok(changes.empty() ? "nothing changed" : CountOf(changes.size(), "change"));

  narrator.Begin("bind", 0);
  Result<> opened = holdings.listeners.Prepare((*config)->config, generation.workers());
  if (opened) {
    opened = holdings.logs.Prepare((*config)->config.logging);
  }
  if (!opened) {
    holdings.listeners.Abandon();
    narrator.Failed(opened.error().ToString());
    end.outcome = Refusal(holdings, 1, narrator, opened.error().ToString());
    co_return end;
  }
  narrator.Ok(CountOf(holdings.listeners.prepared().size(), "listener"));

  narrator.Begin("prepare", 0);
  holdings.notify.MayTake((*config)->config.upgrade.ready_timeout);
  auto prepared = co_await generation.Prepare(*config, (*config)->config.upgrade.ready_timeout);
  Result<> listening;
  if (prepared && holdings.stopping) {
    listening = Fail(ErrorKind::kShutdown, "the supervisor is stopping");
  } else if (prepared) {
    listening = holdings.listeners.Listen();
  }
  if (!prepared || !listening) {
    std::string reason = prepared ? listening.error().ToString() : generation.failure().reason;
    if (!prepared && !generation.failure().diagnostics.empty()) {
      // A reload by signal has nobody else to tell it to.
      reason += ": " + InOneLine(generation.failure().diagnostics);
    }
    if (prepared) {
      generation.Abandon();
    }
    holdings.listeners.Abandon();
    holdings.logs.Abandon();
    narrator.Failed(reason);
    end.outcome = prepared ? Refusal(holdings, 1, narrator, reason)
                           : RefusalOf(holdings, narrator, generation.failure());
    co_return end;
  }
  narrator.Ok(CountOf(generation.serving_count(), "worker") + " ready");

  narrator.Begin("commit", 0);
  std::vector<std::uint64_t> dropped = holdings.listeners.Commit();
  holdings.logs.Commit();
  if (!operation.files_only) {
    // Certificates that are renewed at night must not take away what a roll-back goes to.
    KeepPrevious(holdings);
  }
  holdings.config = *config;
  holdings.store.Follow(dropped);
  auto committed = co_await generation.Commit(kCommitLimit);
  if (!committed) {
    // It is in force: a worker that does not answer is not heard of again, one that died starts
    // with it.
    narrator.Warn(generation.failure().reason);
  }
  narrator.Ok(CountOf(holdings.listeners.in_force().size(), "listener"));
  co_await generation.DropListeners(dropped);
  co_await holdings.CloseListeners(dropped);
  holdings.addresses.KeepOnly(holdings.UpstreamNames());
  co_return end;
}

}  // namespace tidegate
