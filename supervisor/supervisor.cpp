#include "supervisor/supervisor.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include <fmt/format.h>

#include "common/config_files.h"
#include "common/process_name.h"
#include "common/test_fault.h"
#include "common/text.h"
#include "supervisor/event_log.h"
#include "supervisor/preflight.h"
#include "supervisor/reload.h"
#include "supervisor/start.h"
#include "supervisor/state.h"
#include "supervisor/supervisor_body.h"
#include "supervisor/upgrade.h"
#include "supervisor/upgrade_plan.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr Duration kStopPoll = std::chrono::milliseconds(20);
constexpr Duration kFlushLimit = std::chrono::milliseconds(500);
// Between looks at files that could not be taken.
constexpr Duration kFirstFilesWait = std::chrono::seconds(10);
constexpr Duration kMostFilesWait = std::chrono::minutes(10);

}  // namespace

Supervisor::Supervisor()
    : holdings_(loop_, [this](ClientId client, const std::string& command,
                              const json& args) { OnCommand(client, command, args); }),
      file_watch_(loop_, Bind<&Supervisor::OnFilesChanged>(this)),
      look_at_files_due_(loop_.timers(), Bind<&Supervisor::OnLookAtFiles>(this)),
      log_level_due_(loop_.timers(), Bind<&Supervisor::OnLogLevelOver>(this)),
      keys_due_(loop_.timers(), Bind<&Supervisor::TendKeys>(this)),
      name_files_due_(loop_.timers(), Bind<&Supervisor::TendNameFiles>(this)) {}

// --- entering

int Supervisor::Start(RunOptions options) {
  holdings_.options = std::move(options);
  int exit_code = OpenAll(holdings_);
  if (exit_code != 0) {
    // Whoever we took over is an orphan again, and waits behind the new socket.
    if (holdings_.generations.empty()) {
      holdings_.server.StopListening();
      holdings_.listeners.Abandon();
    }
    return exit_code;
  }
  scope_.Start(StartStory());
  return Run();
}

int Supervisor::Resume(const json& state, Entrance entrance) {
  Result<> restored = RestoreState(holdings_, state);
  if (!restored) {
    ReturnToOldImage(restored.error().ToString());
    std::fputs(fmt::format("tidegate: {}\n", restored.error().ToString()).c_str(), stderr);
    return 1;
  }
  scope_.Start(ResumeStory(state, std::move(entrance)));
  return Run();
}

int Supervisor::Run() {
  ListenToSignals();
  holdings_.children.Reap();
  const UpgradeConfig& limits = holdings_.config->config.upgrade;
  holdings_.stragglers.Look(holdings_.options.socket_path, limits.drain, limits.drain_tunnels);
  if (const auto& weakness = holdings_.keys.ring().weakness()) {
    LogEvent(LogLevel::kWarn,
             fmt::format("the keys of session tickets are not well protected here: {}",
                         weakness->ToString()));
  }
  // Also to workers that we have found here: what was sent last may have been lost on the way.
  holdings_.SendKeys();
  TendKeys();
  TendNameFiles();
  loop_.Run();
  return exit_code_;
}

void Supervisor::TendKeys() {
  const Duration rotation = holdings_.config->config.tls.ticket_rotation;
  std::uint64_t now = KeyRing::Now();
  if (holdings_.keys.RotateIfDue(now, rotation)) {
    holdings_.SendKeys();
    // What has come back stays as it is until we serve: another start may want it. Before the
    // commit of an upgrade another image may, which would use our names for something else; the
    // commit follows, or the end of the operation there.
    if (state_ != State::kStarting && !WayBackIsOpen()) {
      holdings_.store.Follow();
    }
    LogEvent(LogLevel::kInfo, "the keys of session tickets have rotated");
  }
  keys_due_.Arm(holdings_.keys.Wait(now, rotation));
}

// A configuration with nothing but addresses lets us sleep.
void Supervisor::TendNameFiles() {
  if (holdings_.UpstreamNames().empty()) {
    name_files_due_.Disarm();
    return;
  }
  holdings_.LookAtNameFiles();
  name_files_due_.Arm(NameFilesOwner::kLookEvery);
}

void Supervisor::ListenToSignals() {
  std::signal(SIGPIPE, SIG_IGN);
  signals_.emplace(loop_, [this](int number) { OnSignal(number); });
  if (WayBackIsOpen()) {
    // Nothing is begun before the operation ends, perhaps in the old image, which has them then.
    signals_->Leave({SIGHUP, SIGUSR2});
  }
}

void Supervisor::OnSignal(int number) {
  switch (number) {
    case SIGHUP:
      Enqueue(Operation{.kind = OperationKind::kReload});
      break;
    case SIGUSR2:
      Enqueue(Operation{.kind = OperationKind::kUpgrade});
      break;
    case SIGUSR1: {
      Result<> reopened = ReopenLogs();
      if (!reopened) {
        LogEvent(LogLevel::kError, reopened.error().ToString());
      }
      break;
    }
    case SIGQUIT:
      Stop(false, 0);
      break;
    default:
      // The second one stops now.
      Stop(holdings_.stopping, 0);
  }
}

// --- start

Task<void> Supervisor::StartStory() {
  auto exit_code = co_await StartServing(holdings_);
  if (exit_code != 0 || holdings_.stopping) {
    if (!holdings_.stopping) {
      // Adopted workers serve on, orphans again, and wait for another supervisor behind the socket.
      bool has_adopted = false;
      for (const auto& generation : holdings_.generations) {
        bool adopted = generation->state() == GenerationState::kProbation;
        has_adopted = has_adopted || adopted;
        if (!adopted) {
          generation->Kill("the start has failed");
        }
      }
      if (!has_adopted) {
        holdings_.server.StopListening();
      }
      Exit(exit_code);
    }
    co_return;
  }
  state_ = State::kServing;
  StartTails();
  holdings_.notify.Ready(StatusLine());
  holdings_.notify.StartWatchdog();
  WatchFiles();
}

// --- after execve

Task<void> Supervisor::ResumeStory(json state, Entrance entrance) {
  const json& upgrade = state.at("upgrade");
  bool returned = upgrade.contains("outcome") || !entrance.returned_because.empty();
  Operation operation = RestoreOperation(upgrade.at("operation"), holdings_.server, state);
  running_ = operation;
  ArmLogLevel();
  holdings_.notify.StartWatchdog();
  StartTails();
  if (returned) {
    EndGuard();
    state_ = State::kServing;
    Outcome outcome = OutcomeOfReturn(holdings_, state, entrance.returned_because);
    // The other image may have rotated the logs, and told nobody yet.
    TellOfLogs();
    LogEvent(LogLevel::kError,
             fmt::format("back in the old program: {}", TextOf(outcome.more, "reason")));
    holdings_.counters.Add(outcome.exit_code == 8 ? CounterId::kUpgradesRolledBack
                                                  : CounterId::kUpgradesFailed);
    holdings_.keys.EndWayBack();
    EndOperation(operation, outcome);
    co_return;
  }
  state_ = State::kUpgrading;
  auto end = co_await ContinueUpgrade(holdings_, operation, state);
  holdings_.keys.EndWayBack();
  if (end.outcome) {
    holdings_.counters.Add(end.outcome->exit_code == 8 ? CounterId::kUpgradesRolledBack
                                                       : CounterId::kUpgradesFailed);
    EndOperation(operation, *end.outcome);
  } else {
    scope_.Start(FinishUpgrade(holdings_, end.tail));
    operation.clients.clear();
    EndOperation(operation, Outcome{});
  }
}

void Supervisor::StartTails() {
  for (const auto& tail : holdings_.tails) {
    scope_.Start(FinishUpgrade(holdings_, tail));
  }
}

// --- operations: one runs, one waits

void Supervisor::Enqueue(Operation operation) {
  if (holdings_.stopping || state_ == State::kStarting) {
    FinishAll(holdings_.server, operation.clients,
              Outcome{.exit_code = 6,
                      .message = holdings_.stopping ? "the daemon is stopping"
                                                    : "the daemon is still starting"});
    return;
  }
  if (!running_) {
    Operate(std::move(operation));
    return;
  }
  std::optional<Operation>& waiting = holdings_.waiting;
  if (!waiting) {
    waiting = std::move(operation);
    return;
  }
  if (!Join(*waiting, operation)) {
    FinishAll(holdings_.server, operation.clients,
              Outcome{.exit_code = 6, .message = "another operation is waiting already"});
  }
}

void Supervisor::Operate(Operation operation) {
  if (operation.automatic && !ProgramsHaveChanged(holdings_)) {
    operation.kind = OperationKind::kReload;
  }
  running_ = std::move(operation);
  bool reload = running_->kind == OperationKind::kReload;
  state_ = reload ? State::kReloading : State::kUpgrading;
  holdings_.notify.Reloading(reload ? "reloading" : "upgrading");
  holdings_.notify.MayTake(LongestUpgrade(holdings_.config->config.upgrade));
  scope_.Start(OperateStory());
}

Task<void> Supervisor::OperateStory() {
  Operation operation = *running_;
  if (operation.kind == OperationKind::kReload) {
    auto end = co_await tidegate::Reload(holdings_, operation);
    if (!end.needs_upgrade) {
      holdings_.counters.Add(end.outcome.exit_code == 0 ? CounterId::kReloadsOk
                                                        : CounterId::kReloadsFailed);
      EndOperation(operation, end.outcome);
      co_return;
    }
    LogEvent(LogLevel::kInfo, "running workers cannot take this change: the reload is an upgrade");
    operation.kind = OperationKind::kUpgrade;
    operation.became_upgrade = true;
    running_ = operation;
    state_ = State::kUpgrading;
  }
  auto outcome = co_await tidegate::Upgrade(holdings_, operation);
  if (outcome.exit_code != 0) {
    holdings_.counters.Add(CounterId::kUpgradesFailed);
  }
  EndOperation(operation, outcome);
}

void Supervisor::EndOperation(const Operation& operation, Outcome outcome) {
  TellWhatItBecame(operation, outcome);
  if (!operation.files_only) {
    holdings_.last_operation = RecordOf(operation, outcome, UnixTime());
  }
  if (HasReadTheFile(operation, outcome)) {
    holdings_.config_fault.clear();
  }
  FinishAll(holdings_.server, operation.clients, outcome);
  running_.reset();
  if (holdings_.stopping) {
    return;
  }
  state_ = State::kServing;
  if (signals_) {
    signals_->Leave({});
  }
  // No image comes back any more.
  holdings_.counters.GiveBack();
  holdings_.notify.Ready(StatusLine());
  if (HasReloaded(operation, outcome)) {
    holdings_.store.SendAll();
  } else {
    holdings_.store.Follow();
  }
  if (operation.files_only) {
    JudgeFiles(outcome);
  }
  if (holdings_.waiting) {
    Operation next = std::move(*holdings_.waiting);
    holdings_.waiting.reset();
    Operate(std::move(next));
    return;
  }
  WatchFiles();
  TendNameFiles();
}

// --- files that change by themselves

void Supervisor::WatchFiles() {
  const Config& config = holdings_.config->config;
  file_watch_.Watch(config.watch ? NamedFilesOf(config) : std::vector<std::string>());
}

// Nothing is lost while an operation runs: its end looks again. What a worker has refused is not
// tried again until it changes, and what cannot be used is not told again.
void Supervisor::OnFilesChanged() {
  const Config& config = holdings_.config->config;
  if (!config.watch || running_ || holdings_.stopping || state_ != State::kServing) {
    return;
  }
  Result<Config> fresh = RereadNamedFiles(config);
  if (fresh && *fresh == config) {
    told_files_ = 0;
    files_wait_ = {};
    look_at_files_due_.Disarm();
    return;
  }
  if (!fresh && !look_at_files_due_.armed()) {
    // No event comes where it was not the file that was at fault: no descriptor was left, say.
    LookAtFilesLater();
  }
  const std::size_t told =
      std::hash<std::string>()(fresh ? EffectiveJson(*fresh) : std::string(fresh.error().detail()));
  if (std::exchange(told_files_, told) == told) {
    return;
  }
  try_files_again_ = false;
  if (!fresh) {
    LogEvent(LogLevel::kError,
             fmt::format("certificate files have changed and cannot be used, those in force stay: "
                         "{}",
                         InOneLine(fresh.error().detail())));
    return;
  }
  std::vector<std::string> changes = DiffConfig(config, *fresh);
  const std::string first = changes.empty() ? std::string() : changes.front();
  const std::string more =
      changes.size() > 1 ? fmt::format(" and {}", CountOf(changes.size() - 1, "other")) : "";
  LogEvent(LogLevel::kInfo,
           fmt::format("certificate files have changed, loading them: {}{}", first, more));
  Enqueue(Operation{.kind = OperationKind::kReload, .files_only = true});
}

void Supervisor::JudgeFiles(const Outcome& outcome) {
  const bool refused = outcome.exit_code == 1 && outcome.more.contains("diagnostics_text");
  try_files_again_ = outcome.exit_code != 0 && !refused;
  look_at_files_due_.Disarm();
  if (try_files_again_) {
    LookAtFilesLater();
    LogEvent(LogLevel::kWarn,
             fmt::format("the certificate files are not loaded, trying again in {}",
                         FormatDuration(files_wait_)));
  } else {
    files_wait_ = {};
  }
}

void Supervisor::LookAtFilesLater() {
  files_wait_ = std::clamp(files_wait_ * 2, kFirstFilesWait, kMostFilesWait);
  look_at_files_due_.Arm(files_wait_);
}

// If an operation runs, its end looks again.
void Supervisor::OnLookAtFiles() {
  if (std::exchange(try_files_again_, false)) {
    told_files_ = 0;
  }
  OnFilesChanged();
}

std::string Supervisor::StatusLine() {
  Generation* generation = holdings_.current();
  return generation == nullptr
             ? std::string("nothing serves")
             : fmt::format("serving {}, generation {}, {}", generation->version(),
                           generation->number(), CountOf(generation->serving_count(), "worker"));
}

// --- stop

void Supervisor::Stop(bool now, ClientId client) {
  if (client != 0) {
    stop_clients_.push_back(Operation::Client{.id = client});
  }
  stop_now_ = stop_now_ || now;
  if (!holdings_.stopping) {
    holdings_.stopping = true;
    state_ = State::kStopping;
    // The image before us would not know of it.
    EndGuard();
    // While systemd still hears us: whoever starts us again means the file.
    holdings_.store.ForgetConfig();
    holdings_.notify.Stopping();
    const ShutdownConfig& limits = holdings_.config->config.shutdown;
    holdings_.notify.MayTake(limits.timeout == kNever ? kNever : limits.delay + limits.timeout);
    LogEvent(LogLevel::kInfo, now ? "stopping now" : "stopping");
    if (holdings_.waiting) {
      FinishAll(holdings_.server, holdings_.waiting->clients,
                Outcome{.exit_code = 6, .message = "the daemon is stopping"});
      holdings_.waiting.reset();
    }
    scope_.Start(StopStory());
  }
}

Task<void> Supervisor::StopStory() {
  Narrator narrator(loop_, holdings_.server, stop_clients_);
  const ShutdownConfig& limits = holdings_.config->config.shutdown;
  if (limits.delay.count() > 0) {
    narrator.Begin("delay", 0);
    TimePoint until = loop_.now() + static_cast<TimePoint>(limits.delay.count());
    while (!stop_now_ && loop_.now() < until) {
      co_await Sleep(loop_.timers(), kStopPoll);
    }
    narrator.Ok("health checks have had their time");
  }
  narrator.Begin("drain", 0);
  for (const auto& generation : holdings_.generations) {
    if (generation->state() != GenerationState::kExited) {
      generation->Drain(limits.timeout, limits.timeout, true);
    }
  }
  // Who comes now is refused, and not left waiting in a queue; but where systemd keeps the sockets
  // and stops us it may start us again, and who has come meanwhile is served then. A unix socket
  // loses its path with us.
  std::vector<std::uint64_t> ids;
  std::vector<std::uint64_t> with_path;
  for (const ListenerSockets& sockets : holdings_.listeners.all()) {
    ids.push_back(sockets.id);
    if (sockets.bound.starts_with("unix:")) {
      with_path.push_back(sockets.id);
    }
  }
  if (stop_clients_.empty()) {
    holdings_.store.Follow(with_path);
  } else {
    holdings_.store.Empty();
  }
  TimePoint told_by = loop_.now() + static_cast<TimePoint>(kFlushLimit.count());
  while (!holdings_.store.is_flushed() && loop_.now() < told_by) {
    co_await Sleep(loop_.timers(), kStopPoll);
  }
  holdings_.store.Freeze();
  holdings_.listeners.Close(ids);
  auto left = [this] {
    unsigned count = 0;
    for (const auto& generation : holdings_.generations) {
      count += generation->alive_count();
    }
    return count;
  };
  TimePoint told = loop_.now();
  bool killed = false;
  while (left() > 0) {
    if (stop_now_ && !killed) {
      killed = true;
      for (const auto& generation : holdings_.generations) {
        generation->Kill("stop now");
      }
    }
    if (loop_.now() - told >= 500) {
      told = loop_.now();
      std::uint64_t connections = 0;
      for (const auto& generation : holdings_.generations) {
        connections += generation->drain_report().left;
      }
      narrator.Running(fmt::format("{} connections left", connections), {{"left", connections}});
    }
    co_await Sleep(loop_.timers(), kStopPoll);
  }
  narrator.Ok("all workers have ended");
  FinishAll(holdings_.server, stop_clients_, Outcome{.message = "stopped"});
  if (running_) {
    FinishAll(holdings_.server, running_->clients,
              Outcome{.exit_code = 1, .message = "the daemon was stopped"});
  }
  TimePoint until = loop_.now() + static_cast<TimePoint>(kFlushLimit.count());
  while (!(holdings_.server.is_flushed() && holdings_.store.is_flushed()) && loop_.now() < until) {
    co_await Sleep(loop_.timers(), kStopPoll);
  }
  holdings_.server.StopListening();
  if (!holdings_.options.pidfile.empty()) {
    ::unlink(holdings_.options.pidfile.c_str());
  }
  Exit(0);
}

void Supervisor::Exit(int exit_code) {
  exit_code_ = exit_code;
  loop_.Stop();
}

// --- what main() calls

int RunSupervisor(RunOptions options) {
  if (!options.config_text) {
    options.config_path = std::filesystem::absolute(options.config_path).string();
  }
  options.socket_path = std::filesystem::absolute(options.socket_path).string();
  auto supervisor = std::make_unique<Supervisor>();
  int exit_code = supervisor->Start(std::move(options));
  // Stories may be in the middle, and everything ends with the process: no destructors.
  std::fflush(nullptr);
  std::_Exit(exit_code);
}

std::optional<int> RunInternalMode(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--preflight-state") {
    int exit_code = PreflightState(std::atoi(argv[2]));
    std::fflush(nullptr);
    return exit_code;
  }
  std::optional<Entrance> entrance = TakeEntrance();
  if (!entrance) {
    return std::nullopt;
  }
  NameProcess("tidegate");
  // Before anything is read: as long as nothing closes them, all descriptors go back, too.
  GuardWayBack(*entrance, std::vector<std::string>(argv, argv + argc));
  Result<json> state = ReadState(entrance->state.get());
  Result<std::vector<int>> fds = state ? DescriptorsOf(*state) : Fail(state.error());
  if (fds) {
    GuardDescriptors(*fds);
  }
  // The old image again does not trip over what was meant for the new one.
  if (entrance->way_back) {
    Fault exec = FaultAt("supervisor", "exec");
    Fault adopt = FaultAt("supervisor", "adopt");
    if (exec != Fault::kNone || adopt != Fault::kNone) {
      ReturnToOldImage("a test asked for this fault");
    }
  }
  Result<> there = fds ? CheckDescriptors(*state) : Fail(fds.error());
  if (!there) {
    ReturnToOldImage(there.error().ToString());
    std::fputs(fmt::format("tidegate: {}\n", there.error().ToString()).c_str(), stderr);
    return 1;
  }
  KeepAcrossExec(*fds, false);
  auto supervisor = std::make_unique<Supervisor>();
  int exit_code = supervisor->Resume(*state, std::move(*entrance));
  std::fflush(nullptr);
  std::_Exit(exit_code);
}

}  // namespace tidegate
