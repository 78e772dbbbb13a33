#include "supervisor/generation.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "common/check.h"
#include "common/test_fault.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr Duration kFirstBackoff = std::chrono::milliseconds(100);
constexpr Duration kLongestBackoff = std::chrono::seconds(10);
// Who has served this long starts again at once.
constexpr Duration kStable = std::chrono::seconds(10);
constexpr Duration kReleaseLimit = std::chrono::seconds(3);

constexpr std::array<std::string_view, 6> kStateNames = {"starting",  "ready",    "serving",
                                                         "probation", "draining", "exited"};

// Row: from; column: to.
constexpr bool kMayBecome[6][6] = {
    {false, true, false, false, false, true},   // kStarting
    {false, false, true, false, false, true},   // kReady
    {false, false, false, true, true, true},    // kServing
    {false, false, true, false, true, true},    // kProbation
    {false, false, false, false, false, true},  // kDraining
    {false, false, false, false, false, false}  // kExited
};

}  // namespace

std::string_view NameOf(GenerationState state) {
  return kStateNames[static_cast<std::size_t>(state)];
}

Generation::Generation(WorkerSurroundings& surroundings, Parts parts)
    : surroundings_(surroundings),
      number_(parts.number),
      config_(std::move(parts.config)),
      worker_program_(std::move(parts.worker_program)),
      version_(std::move(parts.version)),
      identity_(std::move(parts.identity)),
      since_(UnixTime()),
      slots_(parts.workers),
      drain_deadline_(surroundings.loop.timers(), Bind<&Generation::OnDrainDeadline>(this)) {}

Generation::~Generation() {
  for (Slot& slot : slots_) {
    if (slot.worker) {
      slot.worker->Kill();
    }
  }
}

void Generation::Become(GenerationState next) {
  if (state_ == next) {
    return;
  }
  TG_CHECK(kMayBecome[static_cast<std::size_t>(state_)][static_cast<std::size_t>(next)]);
  state_ = next;
  since_ = UnixTime();
}

std::string Generation::NameOfWorker(const WorkerProcess& worker) const {
  return fmt::format("worker {} of generation {} (pid {})", worker.slot(), number_, worker.pid());
}

void Generation::Changed() {
  changed_.Set();
  if (on_change_) {
    on_change_();
  }
}

// --- start

bool Generation::SpawnSlot(unsigned slot) {
  Result<CountersRow> row = surroundings_.counters.Allocate();
  if (!row) {
    FailRound(row.error().ToString(), {}, {});
    return false;
  }
  auto worker = std::make_unique<WorkerProcess>(surroundings_, *this, slot, *row);
  Result<> started = worker->Start(worker_program_, identity_ ? &*identity_ : nullptr);
  if (!started) {
    surroundings_.counters.Fold(*row);
    FailRound(started.error().ToString(), {}, {});
    return false;
  }
  slots_[slot].worker = std::move(worker);
  return true;
}

bool Generation::Spawn() {
  failure_ = {};
  if (FaultAt("supervisor", "spawn") != Fault::kNone) {
    FailRound("a test asked for this fault", {}, {});
    return false;
  }
  for (unsigned slot = 0; slot < slots_.size(); ++slot) {
    if (!SpawnSlot(slot)) {
      return false;
    }
  }
  return true;
}

void Generation::OnHello(WorkerProcess& worker) {
  TellConfinement(worker);
  worker.SendInit(number_, workers());
  worker.SendKeys();
  if (round_id_ != 0 && round_slots_.contains(worker.slot())) {
    worker.SendPrepare(RoundUnderWay());
  } else if (state_ == GenerationState::kServing) {
    worker.SendPrepare(RoundInForce());
  }
}

PrepareRound Generation::RoundUnderWay() const {
  return PrepareRound{.id = round_id_,
                      .config_memfd = round_config_->memfd.get(),
                      .access_fd = surroundings_.logs.prepared_access_fd(),
                      .listeners = surroundings_.listeners.prepared(),
                      .known_addresses = surroundings_.addresses.Of(round_config_->config),
                      .with_new_sockets = true};
}

// For one worker, beside the rounds of all: it catches up with what is in force.
PrepareRound Generation::RoundInForce() {
  std::uint64_t id = next_round_id_++;
  catching_up_[id] = config_;
  return PrepareRound{.id = id,
                      .config_memfd = config_->memfd.get(),
                      .access_fd = surroundings_.logs.access_fd(),
                      .listeners = surroundings_.listeners.in_force(),
                      .known_addresses = surroundings_.addresses.Of(config_->config),
                      .with_new_sockets = false};
}

// --- prepare and commit

Task<bool> Generation::Prepare(ActiveConfigPtr config, Duration timeout) {
  failure_ = {};
  round_failed_ = false;
  round_id_ = next_round_id_++;
  round_config_ = std::move(config);
  round_slots_.clear();
  for (Slot& slot : slots_) {
    bool takes_part = slot.worker && (state_ == GenerationState::kStarting ||
                                      slot.worker->state() == WorkerState::kServing);
    if (!takes_part) {
      continue;
    }
    round_slots_.insert(slot.worker->slot());
    if (slot.worker->hello_seen()) {
      slot.worker->SendPrepare(RoundUnderWay());
    }
  }
  auto decided = [this] { return round_failed_ || RoundDone(); };
  auto in_time = co_await WaitUntil(decided, timeout);
  if (!in_time) {
    FailRound(fmt::format("{} not ready within {}", NamesOfUnprepared(), FormatDuration(timeout)),
              {}, {});
  }
  if (round_failed_) {
    Abandon();
    co_return false;
  }
  if (state_ == GenerationState::kStarting) {
    Become(GenerationState::kReady);
  }
  co_return true;
}

void Generation::Abandon() {
  for (Slot& slot : slots_) {
    if (slot.worker && round_slots_.contains(slot.worker->slot())) {
      slot.worker->SendAbandon(round_id_);
    }
  }
  round_id_ = 0;
  round_config_ = nullptr;
}

bool Generation::RoundDone() const {
  return std::all_of(slots_.begin(), slots_.end(), [this](const Slot& slot) {
    return !slot.worker || !round_slots_.contains(slot.worker->slot()) ||
           slot.worker->prepared_id() == round_id_;
  });
}

void Generation::FailRound(std::string reason, std::string diagnostics, std::string output) {
  if (!std::exchange(round_failed_, true)) {
    failure_ = GenerationFailure{.reason = std::move(reason),
                                 .diagnostics = std::move(diagnostics),
                                 .output = std::move(output)};
  }
  Changed();
}

void Generation::OnPrepared(WorkerProcess& worker, std::uint64_t id) {
  if (worker.state() == WorkerState::kStarting) {
    worker.Become(WorkerState::kPrepared);
  }
  auto caught_up = catching_up_.extract(id);
  // Unless a reload has been faster: then another prepare is under way to this worker.
  if (!caught_up.empty() && caught_up.mapped() == config_ && state_ == GenerationState::kServing) {
    slots_[worker.slot()].ready_due.reset();
    bool is_new = worker.state() == WorkerState::kPrepared;
    CommitOne(worker);
    ShareSlots();
    if (is_new && surroundings_.on_replaced) {
      surroundings_.on_replaced(number_, worker.slot());
    }
  }
  Changed();
}

void Generation::OnRejected(WorkerProcess& worker, const std::string& diagnostics) {
  FailRound(fmt::format("{} refuses the configuration", NameOfWorker(worker)), diagnostics, {});
  if (worker.state() == WorkerState::kStarting && state_ == GenerationState::kServing) {
    LogEvent(LogLevel::kError,
             fmt::format("{} refuses the configuration: {}", NameOfWorker(worker), diagnostics));
    worker.Kill();
  }
}

void Generation::CommitOne(WorkerProcess& worker) {
  if (worker.state() == WorkerState::kPrepared) {
    worker.Become(WorkerState::kServing);
  }
  worker.SendCommit(worker.prepared_id());
  // What it has prepared with may have been rotated since.
  worker.SendReopenLogs();
}

Task<bool> Generation::Commit(Duration timeout) {
  bool whole = true;
  config_ = std::exchange(round_config_, nullptr);
  round_id_ = 0;
  Become(GenerationState::kServing);
  accepting_ = true;
  uncommitted_ = round_slots_;
  for (Slot& slot : slots_) {
    if (slot.worker && round_slots_.contains(slot.worker->slot())) {
      CommitOne(*slot.worker);
    }
  }
  ShareSlots();
  // Who was starting meanwhile has prepared what is no longer in force.
  for (Slot& slot : slots_) {
    if (slot.worker && !round_slots_.contains(slot.worker->slot()) && slot.worker->hello_seen() &&
        slot.worker->state() < WorkerState::kDraining) {
      slot.worker->SendPrepare(RoundInForce());
    }
  }
  std::uint64_t crashes = crashes_;
  auto decided = [this, crashes] { return uncommitted_.empty() || crashes_ != crashes; };
  auto answered = co_await WaitUntil(decided, timeout);
  if (!answered) {
    failure_ =
        GenerationFailure{.reason = fmt::format("not committed within {}", FormatDuration(timeout)),
                          .diagnostics = {},
                          .output = {}};
    whole = false;
  } else if (crashes_ != crashes) {
    whole = false;
  }
  co_return whole;
}

void Generation::OnCommitted(WorkerProcess& worker, std::uint64_t) {
  uncommitted_.erase(worker.slot());
  Changed();
}

Task<bool> Generation::Probe(Duration timeout) {
  // Outlives us: an answer may come after the limit.
  auto unanswered = std::make_shared<unsigned>(alive_count());
  for (Slot& slot : slots_) {
    if (slot.worker) {
      slot.worker->Ask("ping", {}, [this, unanswered](const json&) {
        --*unanswered;
        changed_.Set();
      });
    }
  }
  auto all_answered = [unanswered] { return *unanswered == 0; };
  auto answered = co_await WaitUntil(all_answered, timeout);
  if (!answered) {
    failure_ =
        GenerationFailure{.reason = fmt::format("{} of its workers do not answer", *unanswered),
                          .diagnostics = {},
                          .output = {}};
  }
  co_return answered;
}

// --- who accepts on which slots

void Generation::ShareSlots() {
  std::vector<std::vector<unsigned>> shares(slots_.size());
  auto serves = [this](std::size_t slot) {
    return slots_[slot].worker && slots_[slot].worker->state() == WorkerState::kServing;
  };
  unsigned count = accepting_ ? surroundings_.listeners.SlotCount() : 0;
  for (unsigned slot = 0; slot < count; ++slot) {
    bool is_first = true;
    for (std::size_t step = 0; step < slots_.size(); ++step) {
      std::size_t candidate = (slot + step) % slots_.size();
      if (!serves(candidate)) {
        continue;
      }
      // The first that serves keeps the slot also while it has no room: it opens again by itself.
      bool has_room = slots_[candidate].worker->gate_open();
      if (is_first || has_room) {
        shares[candidate].push_back(slot);
      }
      is_first = false;
      if (has_room) {
        break;
      }
    }
  }
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    if (serves(slot)) {
      slots_[slot].worker->SendAccept(shares[slot]);
    }
  }
}

void Generation::OnGate(WorkerProcess&) {
  ShareSlots();
}

void Generation::StopAccepting() {
  accepting_ = false;
  ShareSlots();
  if (state_ == GenerationState::kServing) {
    Become(GenerationState::kProbation);
  }
}

void Generation::ResumeAccepting() {
  accepting_ = true;
  if (state_ == GenerationState::kProbation) {
    Become(GenerationState::kServing);
  }
  // Sockets that were added for the generation that failed are ours to serve now.
  for (Slot& slot : slots_) {
    if (slot.worker && slot.worker->state() == WorkerState::kServing) {
      slot.worker->SendPrepare(RoundInForce());
    }
  }
  ShareSlots();
  for (unsigned slot = 0; slot < slots_.size(); ++slot) {
    if (!slots_[slot].worker) {
      ScheduleRestart(slot);
    }
  }
}

Task<void> Generation::DropListeners(std::vector<std::uint64_t> listeners) {
  if (!listeners.empty()) {
    for (Slot& slot : slots_) {
      if (slot.worker && slot.worker->state() == WorkerState::kServing) {
        slot.worker->SendDropListeners(listeners);
        for (std::uint64_t listener : listeners) {
          unreleased_.emplace(slot.worker->slot(), listener);
        }
      }
    }
    auto all_released = [this] { return unreleased_.empty(); };
    auto released = co_await WaitUntil(all_released, kReleaseLimit);
    if (!released) {
      LogEvent(LogLevel::kWarn, "a worker did not release the sockets of a dropped listener");
      unreleased_.clear();
    }
  }
}

void Generation::OnReleased(WorkerProcess& worker, const std::vector<std::uint64_t>& listeners) {
  for (std::uint64_t listener : listeners) {
    unreleased_.erase({worker.slot(), listener});
  }
  Changed();
}

// --- crashes

void Generation::OnWorkerGone(WorkerProcess& worker, const std::string& how, bool clean) {
  Slot& slot = slots_[worker.slot()];
  unsigned number = worker.slot();
  bool was_drained = state_ == GenerationState::kDraining;
  std::string output = clean ? std::string() : worker.OutputTail();
  std::string what = fmt::format("{} {}", NameOfWorker(worker), how);
  Duration age = worker.age();
  std::erase_if(unreleased_, [&](const auto& entry) { return entry.first == number; });
  uncommitted_.erase(number);
  if (was_drained) {
    CountGone(worker.drain_report());
  }
  if (!clean) {
    LogEvent(was_drained ? LogLevel::kWarn : LogLevel::kError, what);
  }
  slot.ready_due.reset();
  std::unique_ptr<WorkerProcess> gone = std::move(slot.worker);
  if (state_ == GenerationState::kServing || state_ == GenerationState::kProbation) {
    ++crashes_;
    last_crash_ = what;
    failure_ = GenerationFailure{.reason = what, .diagnostics = {}, .output = output};
  }
  if (round_id_ != 0 && round_slots_.contains(number)) {
    FailRound(what, {}, output);
  }
  if (state_ == GenerationState::kServing) {
    if (age >= kStable) {
      slot.backoff = Duration::zero();
    }
    ShareSlots();
    ScheduleRestart(number);
  } else if (alive_count() == 0 && state_ != GenerationState::kExited &&
             state_ != GenerationState::kProbation) {
    Become(GenerationState::kExited);
    drain_deadline_.Disarm();
  }
  Changed();
}

void Generation::ScheduleRestart(unsigned slot_number) {
  Slot& slot = slots_[slot_number];
  Duration delay = slot.backoff;
  slot.backoff = std::clamp(slot.backoff * 2, kFirstBackoff, kLongestBackoff);
  slot.restart_due = std::make_unique<Deadline>(
      surroundings_.loop.timers(),
      Callback{[](void* argument) { static_cast<Generation*>(argument)->RestartDue(); }, this});
  slot.restart_due->Arm(delay);
}

// Whichever slot is due: a deadline carries no more than us.
void Generation::RestartDue() {
  for (unsigned number = 0; number < slots_.size(); ++number) {
    Slot& slot = slots_[number];
    if (!slot.restart_due || slot.restart_due->armed()) {
      continue;
    }
    slot.restart_due.reset();
    if (state_ != GenerationState::kServing || slot.worker) {
      continue;
    }
    round_failed_ = false;
    ++slot.restarts;
    surroundings_.counters.Add(CounterId::kWorkerRestarts);
    if (!SpawnSlot(number)) {
      LogEvent(LogLevel::kError, fmt::format("cannot start worker {} of generation {} again: {}",
                                             number, number_, failure_.reason));
      ScheduleRestart(number);
      continue;
    }
    LogEvent(LogLevel::kInfo, fmt::format("{} started", NameOfWorker(*slot.worker)));
    slot.ready_due = std::make_unique<Deadline>(
        surroundings_.loop.timers(),
        Callback{[](void* argument) { static_cast<Generation*>(argument)->ReadyDue(); }, this});
    slot.ready_due->Arm(config_->config.upgrade.ready_timeout);
  }
}

void Generation::ReadyDue() {
  for (Slot& slot : slots_) {
    if (slot.ready_due && !slot.ready_due->armed() && slot.worker) {
      LogEvent(LogLevel::kError,
               fmt::format("{} is not ready in time", NameOfWorker(*slot.worker)));
      slot.ready_due.reset();
      slot.worker->Kill();
    }
  }
}

// --- waiting

Task<bool> Generation::WaitUntil(std::function<bool()> done, Duration timeout) {
  TimePoint until = surroundings_.loop.now() + static_cast<TimePoint>(timeout.count());
  Deadline limit(surroundings_.loop.timers(), Bind<&Event::Set>(&changed_));
  limit.Arm(timeout);
  while (!done()) {
    if (timeout != kNever && surroundings_.loop.now() >= until) {
      co_return false;
    }
    changed_.Reset();
    co_await changed_.Wait();
  }
  co_return true;
}

Task<void> Generation::WaitChange(Duration timeout) {
  changed_.Reset();
  bool first = true;
  auto changed = [&first] { return !std::exchange(first, false); };
  co_await WaitUntil(changed, timeout);
}

}  // namespace tidegate
