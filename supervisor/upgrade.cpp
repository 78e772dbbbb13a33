#include "supervisor/upgrade.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "common/test_fault.h"
#include "common/text.h"
#include "supervisor/event_log.h"
#include "supervisor/preflight.h"
#include "supervisor/reload.h"
#include "supervisor/state.h"
#include "supervisor/upgrade_plan.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr const char* kStopping = "the supervisor is stopping";
constexpr Duration kPreflightLimit = std::chrono::seconds(10);
constexpr Duration kCommitLimit = std::chrono::seconds(5);
constexpr Duration kFlushLimit = std::chrono::seconds(1);
constexpr Duration kProbeLimit = std::chrono::seconds(2);
constexpr Duration kProbeEvery = std::chrono::seconds(1);
// What the workers of a generation that is rolled back get for what they have begun.
constexpr Duration kRollBackDrain = std::chrono::seconds(2);
constexpr Duration kProgressEvery = std::chrono::milliseconds(500);
// What moves at once is told as a phase of its own, what moves later with the end.
constexpr Duration kHandOverLimit = std::chrono::seconds(5);

// --- 3. Preflight: both new programs say that they can, before anything depends on them

Task<std::optional<Outcome>> Preflight(Holdings& holdings, UpgradePlan& plan, Narrator& narrator) {
  Duration limit = std::min(kPreflightLimit, plan.config->config.upgrade.ready_timeout);
  Result<SavedState> state = SaveState(holdings, json::object(), {});
  if (!state) {
    co_return Refusal(holdings, 1, narrator, state.error().ToString());
  }
  SpawnRequest ask_supervisor{.program = &plan.supervisor_program,
                              .argv = {plan.supervisor_program.path, "--preflight-state", "3"}};
  auto adopts = co_await RunProbe(holdings.loop, holdings.children, ask_supervisor,
                                  state->memfd.get(), limit);
  plan.version = VersionFromPreflight(adopts.output);
  if (!adopts.ok || plan.version.empty()) {
    Outcome refusal = Refusal(
        holdings, 1, narrator,
        adopts.ok ? plan.supervisor_program.path + " does not say that it can adopt the state"
                  : adopts.reason);
    refusal.more["output"] = adopts.output;
    co_return refusal;
  }
  Result<std::optional<Identity>> identity = IdentityFor(plan.config->config);
  SpawnRequest ask_worker{.program = &plan.worker_program,
                          .argv = {plan.worker_program.path, "--check", "3"},
                          .identity = identity && *identity ? &**identity : nullptr};
  auto accepts = co_await RunProbe(holdings.loop, holdings.children, ask_worker,
                                   plan.config->memfd.get(), limit);
  if (!accepts.ok) {
    Outcome refusal = Refusal(holdings, accepts.exit_code == 78 ? 78 : 1, narrator, accepts.reason);
    refusal.more["output"] = accepts.output;
    co_return refusal;
  }
  co_return std::nullopt;
}

// --- 4. Supervisor first: the same process runs the new program from here

Outcome EnterNewImage(Holdings& holdings, const Operation& operation, const UpgradePlan& plan,
                      Narrator& narrator) {
  (void)FaultAt("supervisor", "leave");
  std::vector<int> fds;
  json upgrade = SavePlan(plan, fds);
  upgrade["operation"] = SaveOperation(operation, holdings.server, fds);
  upgrade["left_ticks"] = TicksSinceBoot();
  Result<SavedState> state = SaveState(holdings, upgrade, fds);
  if (!state) {
    return Refusal(holdings, 1, narrator, state.error().ToString());
  }
  Error error = EnterImage(plan.supervisor_program, *state, holdings.options.argv,
                           &holdings.supervisor_program);
  return Refusal(holdings, 1, narrator,
                 fmt::format("{}: {}", plan.supervisor_program.path, error.ToString()));
}

// What waits in our memory for a slow reader, or for the answer of a worker, would be lost.
Task<void> Flush(Holdings& holdings) {
  auto flushed = [&holdings] {
    return holdings.server.is_flushed() && holdings.store.is_flushed() &&
           std::all_of(holdings.generations.begin(), holdings.generations.end(),
                       [](const auto& generation) { return generation->is_flushed(); });
  };
  // Each has a limit of its own.
  while (holdings.questions > 0) {
    co_await Sleep(holdings.loop.timers(), std::chrono::milliseconds(5));
  }
  TimePoint until = holdings.loop.now() + static_cast<TimePoint>(kFlushLimit.count());
  while (!flushed() && holdings.loop.now() < until) {
    co_await Sleep(holdings.loop.timers(), std::chrono::milliseconds(5));
  }
}

// The way back of steps 5 to 8: the old image tells what came of it. Returns the outcome only if
// there is no way back: then this image goes on with the old generation.
Task<Outcome> GoBack(Holdings& holdings, const Operation& operation, Outcome outcome) {
  EndGuard();
  co_await Flush(holdings);
  if (holdings.stopping) {
    co_return outcome;
  }
  std::vector<int> fds;
  json upgrade = {{"operation", SaveOperation(operation, holdings.server, fds)},
                  {"outcome", SaveOutcome(outcome)}};
  Result<SavedState> state = SaveState(holdings, upgrade, fds);
  Error error =
      state ? EnterImage(holdings.supervisor_program, *state, holdings.options.argv, nullptr)
            : state.error();
  LogEvent(
      LogLevel::kError,
      fmt::format("cannot go back to the old program ({}); the new one stays", error.ToString()));
  co_return outcome;
}

// --- 8. Probation: is there a reason to go back? Empty: none. A crash is noticed by itself, a
// worker that hangs because it is asked again and again.

Task<std::string> WatchProbation(Holdings& holdings, Generation& next, Duration probation,
                                 Narrator& narrator) {
  TimePoint until = holdings.loop.now() + static_cast<TimePoint>(probation.count());
  bool answers = true;
  while (next.crashes() == 0 && !holdings.stopping) {
    auto answered = co_await next.Probe(kProbeLimit);
    answers = answered;
    if (!answers || holdings.loop.now() >= until) {
      break;
    }
    Duration left(static_cast<std::int64_t>(until - holdings.loop.now()));
    co_await next.WaitChange(std::min(left, kProbeEvery));
    narrator.Running(fmt::format("generation {} is watched", next.number()));
  }
  if (FaultAt("supervisor", "probation") != Fault::kNone) {
    co_return std::string("a test asked for this fault");
  }
  bool stable = answers && next.crashes() == 0;
  co_return stable || holdings.stopping ? std::string() : next.failure().reason;
}

// Who wanted to know no more than `message`. What comes later is in the log.
void AnswerEarly(Holdings& holdings, const Operation& operation, AnswerAt at,
                 const UpgradePlan& plan, const Generation& next, std::string message) {
  Outcome outcome;
  outcome.message = std::move(message);
  outcome.data = {{"generation", next.number()},
                  {"version", plan.version},
                  {"previous_version", holdings.version},
                  {"became_upgrade", operation.became_upgrade},
                  {"changed", true},
                  {"seconds", UnixTime() - plan.began}};
  outcome.more["changes"] = plan.changes;
  TellWhatItBecame(operation, outcome);
  std::vector<Operation::Client> clients;
  std::ranges::copy_if(operation.clients, std::back_inserter(clients),
                       [at](const Operation::Client& client) { return client.answer_at == at; });
  FinishAll(holdings.server, clients, outcome);
}

// The old generation serves again, the new one finishes what it has begun, nothing else is left.
// Where a stop comes meanwhile both end, by its limits.
Task<void> RollBack(Holdings& holdings, Generation& old, Generation& next) {
  holdings.listeners.Revert();
  Result<> logs = holdings.logs.Prepare(holdings.config->config.logging);
  if (logs) {
    holdings.logs.Commit();
  }
  old.ResumeAccepting();
  std::uint64_t number = next.number();
  next.Drain(kRollBackDrain, kRollBackDrain);
  auto gone = co_await next.WaitExited(2 * kRollBackDrain + kCommitLimit);
  if (holdings.stopping) {
    co_return;
  }
  if (!gone) {
    next.Kill("it is rolled back");
    co_await next.WaitExited(kProbeLimit);
  }
  holdings.RemoveGeneration(number);
  std::vector<std::uint64_t> unused;
  for (const ListenerSockets& sockets : holdings.listeners.all()) {
    bool used =
        std::any_of(holdings.listeners.in_force().begin(), holdings.listeners.in_force().end(),
                    [&](const ListenerInForce& entry) { return entry.id == sockets.id; });
    if (!used) {
      unused.push_back(sockets.id);
    }
  }
  holdings.store.Follow(unused);
  co_await holdings.CloseListeners(unused);
}

// --- 9. Hand over

// Everyone who drains has a new heir in `next`, also who drains since an earlier upgrade.
void HandOver(Holdings& holdings, Generation& old, Generation& next) {
  for (const auto& generation : holdings.generations) {
    if (generation.get() == &old || generation->state() == GenerationState::kDraining) {
      generation->HandOver(next);
    }
  }
}

// Until all that can move has been offered, or the time is over. Nothing is told of workers that do
// not know how.
Task<void> TellHandOver(Holdings& holdings, Generation& old, Narrator& narrator) {
  TimePoint until = holdings.loop.now() + static_cast<TimePoint>(kHandOverLimit.count());
  bool begun = false;
  while (true) {
    if (old.tells_hand_over() && !std::exchange(begun, true)) {
      narrator.Begin("hand over", 9);
    }
    TimePoint now = holdings.loop.now();
    if (!old.hands_over() || now >= until) {
      break;
    }
    if (begun) {
      narrator.Running(HandOverText(old.handed_over()));
    }
    co_await old.WaitChange(std::min(kProgressEvery, Duration(until - now)));
  }
  if (begun) {
    narrator.Ok(HandOverText(old.handed_over()));
  }
}

// The oldest that drain are cut short, once the one that needs their room is ready.
void CutOldest(Holdings& holdings, std::uint64_t max_generations, Narrator& narrator) {
  auto alive = [&] {
    return std::count_if(
        holdings.generations.begin(), holdings.generations.end(),
        [](const auto& generation) { return generation->state() != GenerationState::kExited; });
  };
  std::int64_t surplus =
      alive() - static_cast<std::int64_t>(std::max<std::uint64_t>(max_generations, 2));
  for (const auto& generation : holdings.generations) {
    if (surplus > 0 && generation->state() == GenerationState::kDraining) {
      narrator.Warn(fmt::format("generation {} is cut short: at most {} may exist",
                                generation->number(), max_generations));
      generation->Kill("upgrade.max_generations");
      --surplus;
    }
  }
}

// Tells the guard that we are alive, while it lasts.
class Heartbeat {
 public:
  explicit Heartbeat(Loop& loop) : due_(loop.timers(), Bind<&Heartbeat::Beat>(this)) { Beat(); }

 private:
  void Beat() {
    StillAlive();
    due_.Arm(std::chrono::seconds(1));
  }
  Deadline due_;
};

}  // namespace

// Roll-back and commit do not both take all they may; what comes twice is there twice.
Duration LongestUpgrade(const UpgradeConfig& limits) {
  const Duration roll_back = 2 * kRollBackDrain + kCommitLimit + kProbeLimit;
  return 2 * std::min(kPreflightLimit, limits.ready_timeout) + 2 * kFlushLimit +
         limits.ready_timeout + 2 * kCommitLimit + limits.probation + kProbeLimit + roll_back;
}

// The first half, in the old image. Whatever fails here has changed nothing.
Task<Outcome> Upgrade(Holdings& holdings, const Operation& operation) {
  Narrator narrator(holdings.loop, holdings.server, operation.clients);

  // 1. Request. The clients stay connected; who calls the upgrade off leaves, it goes on.
  narrator.Begin("request", 1);
  narrator.Ok(operation.kind == OperationKind::kRollback ? "roll-back" : "upgrade");

  // 2. Snapshot. Fails: answer; nothing was touched.
  narrator.Begin("snapshot", 2);
  Snapshot plan = TakeSnapshot(holdings, operation, narrator);
  if (!plan) {
    if (plan.error().exit_code != 0) {
      narrator.Failed(TextOf(plan.error().more, "reason"));
    }
    co_return plan.error();
  }
  narrator.Ok(fmt::format("{}, {} in the configuration", plan->supervisor_program.path,
                          CountOf(plan->changes.size(), "change")));

  // 3. Preflight. Fails or times out: what the new program wrote is the answer.
  narrator.Begin("preflight", 3);
  auto refusal = co_await Preflight(holdings, *plan, narrator);
  if (refusal) {
    narrator.Failed(TextOf(refusal->more, "reason"));
    co_return *refusal;
  }
  if (holdings.stopping) {
    narrator.Failed(kStopping);
    co_return Refusal(holdings, 1, narrator, kStopping);
  }
  narrator.Ok("new binaries accept the running state and configuration");

  // 4. Supervisor first. execve fails: we are still here. The new image cannot adopt the state, or
  // hangs: it executes this one again (way_back.h), and OutcomeOfReturn answers.
  narrator.Begin("supervisor", 4, fmt::format("{} -> {}", holdings.version, plan->version));
  co_await Flush(holdings);
  if (holdings.stopping) {
    narrator.Failed(kStopping);
    co_return Refusal(holdings, 1, narrator, kStopping);
  }
  Outcome failed = EnterNewImage(holdings, operation, *plan, narrator);
  narrator.Failed(TextOf(failed.more, "reason"));
  co_return failed;
}

// The second half, in the new image. Until the commit every failure goes back to the old image, and
// the old generation has not noticed anything.
Task<UpgradeEnd> ContinueUpgrade(Holdings& holdings, const Operation& operation,
                                 const json& state) {
  Narrator narrator(holdings.loop, holdings.server, operation.clients);
  std::optional<Heartbeat> heartbeat(holdings.loop);
  UpgradePlan plan = PlanFrom(state.at("upgrade"));
  if (holdings.current() == nullptr) {
    // Nothing to replace, and nothing to go back to that would be better.
    EndGuard();
    narrator.Tell("supervisor", 4, "failed", "no generation serves", 0);
    co_return UpgradeEnd{.outcome = Refusal(holdings, 1, narrator, "no generation serves")};
  }
  Generation& old = *holdings.current();
  const UpgradeConfig& limits = plan.config->config.upgrade;
  // The new configuration's are others than those that the old image knew.
  holdings.notify.MayTake(LongestUpgrade(limits));
  const std::string old_version = holdings.version;
  narrator.Tell("supervisor", 4, "ok", fmt::format("{} -> {}", old_version, plan.version),
                UnixTime() - plan.began);

  // 5. Bind only what is new. Address in use: close what was opened, answer.
  narrator.Begin("bind", 5);
  unsigned workers = WorkerCountOf(plan.config->config);
  Result<> bound = holdings.listeners.Prepare(plan.config->config, workers);
  if (bound) {
    bound = holdings.logs.Prepare(plan.config->config.logging);
  }
  if (bound && FaultAt("supervisor", "bind") != Fault::kNone) {
    bound = Fail(ErrorKind::kSystem, "a test asked for this fault");
  }
  if (!bound) {
    holdings.listeners.Abandon();
    holdings.logs.Abandon();
    narrator.Failed(bound.error().ToString());
    auto back = co_await GoBack(holdings, operation,
                                Refusal(holdings, 1, narrator, bound.error().ToString()));
    co_return UpgradeEnd{.outcome = back};
  }
  narrator.Ok(CountOf(holdings.listeners.prepared().size(), "listener"));

  // 6. Spawn generation g+1, prepare. Any rejection, exit or timeout: kill g+1, answer.
  narrator.Begin("prepare", 6);
  Result<std::optional<Identity>> identity = IdentityFor(plan.config->config);
  holdings.generations.push_back(std::make_unique<Generation>(
      holdings.surroundings, Generation::Parts{.number = holdings.next_generation++,
                                               .config = plan.config,
                                               .worker_program = plan.worker_program.Duplicate(),
                                               .version = plan.version,
                                               .workers = workers,
                                               .identity = identity ? *identity : std::nullopt}));
  Generation& next = *holdings.generations.back();
  bool ready = next.Spawn();
  if (ready) {
    auto prepared = co_await next.Prepare(plan.config, limits.ready_timeout);
    ready = prepared;
  }
  Result<> listening;
  if (ready) {
    listening = holdings.listeners.Listen();
    if (FaultAt("supervisor", "prepare") != Fault::kNone) {
      listening = Fail(ErrorKind::kSystem, "a test asked for this fault");
    } else if (holdings.stopping) {
      listening = Fail(ErrorKind::kShutdown, kStopping);
    }
  }
  if (!ready || !listening) {
    Outcome outcome = ready ? Refusal(holdings, 1, narrator, listening.error().ToString())
                            : RefusalOf(holdings, narrator, next.failure());
    narrator.Failed(TextOf(outcome.more, "reason"));
    next.Kill("it is not needed");
    co_await next.WaitExited(kCommitLimit);
    holdings.RemoveGeneration(next.number());
    holdings.listeners.Abandon();
    holdings.logs.Abandon();
    --holdings.next_generation;
    auto back = co_await GoBack(holdings, operation, std::move(outcome));
    co_return UpgradeEnd{.outcome = back};
  }
  narrator.Ok(fmt::format("generation {}: {} ready", next.number(), CountOf(workers, "worker")));
  CutOldest(holdings, limits.max_generations, narrator);

  // 7. Commit: g+1 accepts beside g. From here g+1 is current. Not confirmed in time: as in 8.
  narrator.Begin("commit", 7);
  Fault commit_fault = FaultAt("supervisor", "commit");
  EndGuard();
  heartbeat.reset();
  std::vector<std::uint64_t> dropped = holdings.listeners.Commit();
  holdings.store.Follow();
  holdings.logs.Commit();
  if (plan.config->config.logging.error != holdings.config->config.logging.error) {
    // What it has to say when it commits goes there already.
    next.ForEachWorker([](WorkerProcess& worker) { worker.SendReopenLogs(); });
  }
  auto committed = co_await next.Commit(kCommitLimit);
  committed = committed && commit_fault == Fault::kNone;
  std::string reason = committed ? std::string() : next.failure().reason;
  if (committed) {
    narrator.Ok(CountOf(holdings.listeners.in_force().size(), "listener"));
    AnswerEarly(holdings, operation, AnswerAt::kCommit, plan, next,
                fmt::format("generation {} serves and is watched; generation {} drains then",
                            next.number(), old.number()));

    // 8. Probation: g stops accepting but keeps its listeners. If workers of g+1 crash within it, g
    // resumes accepting, g+1 is ended: rolled back, also to the old image.
    narrator.Begin("probation", 8);
    old.StopAccepting();
    auto fault = co_await WatchProbation(holdings, next, limits.probation, narrator);
    reason = std::move(fault);
  }
  if (holdings.stopping) {
    // Everyone drains by the limits of the stop, now or after its delay; till then somebody serves.
    if (!reason.empty() && old.state() == GenerationState::kServing) {
      old.ResumeAccepting();
    }
    narrator.Failed(reason.empty() ? kStopping : reason);
    co_return UpgradeEnd{.outcome = Refusal(holdings, 1, narrator, kStopping)};
  }
  if (!committed || !reason.empty()) {
    narrator.Failed(reason);
    Outcome outcome = Refusal(holdings, 8, narrator, reason);
    if (!next.failure().output.empty()) {
      outcome.more["output"] = next.failure().output;
    }
    co_await RollBack(holdings, old, next);
    if (holdings.stopping) {
      co_return UpgradeEnd{.outcome = Refusal(holdings, 1, narrator, kStopping)};
    }
    outcome.message = holdings.StillServing();
    auto back = co_await GoBack(holdings, operation, std::move(outcome));
    co_return UpgradeEnd{.outcome = back};
  }
  narrator.Ok(fmt::format("generation {} is stable", next.number()));
  AnswerEarly(
      holdings, operation, AnswerAt::kStable, plan, next,
      fmt::format("generation {} is stable; generation {} drains", next.number(), old.number()));

  // 9. Hand over, drain the rest (FinishUpgrade tells how it goes). There is no way back from here,
  // but `rollback`: forwards again.
  holdings.previous = Previous{.supervisor_program = std::move(holdings.supervisor_program),
                               .worker_program = std::move(holdings.worker_program),
                               .version = old_version,
                               .config = holdings.config};
  holdings.supervisor_program = std::move(plan.supervisor_program);
  holdings.worker_program = std::move(plan.worker_program);
  holdings.version = plan.version;
  holdings.config = plan.config;
  holdings.counters.Add(CounterId::kUpgradesOk);
  (void)FaultAt("supervisor", "drain");
  holdings.store.Follow(dropped);
  co_await old.DropListeners(dropped);
  co_await holdings.CloseListeners(dropped);
  bool hands_over = limits.hand_over && !holdings.stopping;
  if (hands_over) {
    HandOver(holdings, old, next);
  }
  // A roll-back within the drain could need them: the limit may be the request's own.
  old.Drain(operation.drain.value_or(limits.drain), limits.drain_tunnels);
  auto tail = std::make_shared<Tail>();
  tail->generation = old.number();
  tail->began = plan.began;
  tail->outcome.data = {{"generation", next.number()},
                        {"version", plan.version},
                        {"previous_version", old_version},
                        {"became_upgrade", operation.became_upgrade},
                        {"changed", true}};
  tail->outcome.more["changes"] = plan.changes;
  TellWhatItBecame(operation, tail->outcome);
  tail->hands_over = hands_over;
  std::ranges::copy_if(
      operation.clients, std::back_inserter(tail->clients),
      [](const Operation::Client& client) { return client.answer_at == AnswerAt::kDrained; });
  holdings.tails.push_back(tail);
  co_return UpgradeEnd{.outcome = std::nullopt, .tail = tail};
}

Task<void> FinishUpgrade(Holdings& holdings, std::shared_ptr<Tail> tail) {
  Narrator narrator(holdings.loop, holdings.server, tail->clients);
  Generation* old = holdings.FindGeneration(tail->generation);
  std::uint64_t total = 0;
  std::uint64_t cut = 0;
  std::uint64_t killed_workers = 0;
  HandOverCounts handed_over;
  if (old != nullptr) {
    // 9. Hand over: the workers are at it, and others may begin another operation meanwhile.
    if (tail->hands_over) {
      co_await TellHandOver(holdings, *old, narrator);
      tail->hands_over = false;
    }

    // 10. Deadline: workers close what is left at their limits; who does not exit then is killed,
    // counted and reported (Generation::Drain).
    narrator.Begin("drain", 9);
    while (old->alive_count() > 0) {
      DrainReport report = old->drain_report();
      narrator.Running(
          fmt::format("generation {}: {} of {} left, oldest {:.1f}s", old->number(), report.left,
                      std::max(old->drain_total(), report.left), report.oldest_seconds),
          {{"generation", old->number()},
           {"left", report.left},
           {"of", std::max(old->drain_total(), report.left)},
           {"tunnels", report.tunnels},
           {"oldest_seconds", report.oldest_seconds},
           {"limit_seconds", static_cast<double>(old->drain_limit().count()) / 1000.0}});
      co_await old->WaitChange(kProgressEvery);
    }
    // Some of them may have come after the count, with a worker that was started again.
    cut = old->cut();
    handed_over = old->handed_over();
    total = std::max(old->drain_total(), cut + handed_over.moved_connections());
    killed_workers = old->killed_workers();
    if (killed_workers > 0) {
      narrator.Warn(
          fmt::format("{} of generation {} outlived the drain and had to be killed (forced)",
                      CountOf(killed_workers, "worker"), old->number()));
    }
    std::string text =
        fmt::format("generation {}: {} drained", old->number(),
                    CountOf(total - cut - handed_over.moved_connections(), "connection"));
    if (cut > 0) {
      narrator.Warn(fmt::format("generation {}: {} cut: {}", old->number(),
                                CountOf(cut, "connection"),
                                killed_workers > 0 ? "the worker was killed" : "the deadline"));
    }
    narrator.Ok(text);
  }

  // 11. Retire: everyone is reaped and counted; the answer.
  (void)FaultAt("supervisor", "retire");
  narrator.Begin("retire", 11);
  holdings.RemoveGeneration(tail->generation);
  narrator.Ok(fmt::format("generation {} is gone", tail->generation));
  Outcome outcome = tail->outcome;
  outcome.data["drained"] = total - cut - handed_over.moved_connections();
  outcome.data["forced"] = cut;
  outcome.data["handed_over"] = MovedJson(handed_over);
  outcome.data["declined"] = DeclinedJson(handed_over);
  outcome.data["killed_workers"] = killed_workers;
  outcome.data["seconds"] = UnixTime() - tail->began;
  FinishAll(holdings.server, tail->clients, outcome);
  std::erase(holdings.tails, tail);
}

}  // namespace tidegate
