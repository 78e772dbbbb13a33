// A generation as others see it: for `status`, for the image that takes over, and for generations
// to come, which profit from what its workers have resolved.

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "supervisor/event_log.h"
#include "supervisor/generation.h"

namespace tidegate {

using nlohmann::json;

namespace {

json DrainingJson(const DrainReport& report) {
  json draining = {{"left", report.left},
                   {"tunnels", report.tunnels},
                   {"oldest_seconds", report.oldest_seconds}};
  if (report.tells_hand_over) {
    draining["moved"] = MovedJson(report.handed_over);
    draining["declined"] = DeclinedJson(report.handed_over);
  }
  return draining;
}

}  // namespace

json Generation::Status() const {
  json workers = json::array();
  for (const Slot& slot : slots_) {
    if (!slot.worker) {
      continue;
    }
    const WorkerProcess& worker = *slot.worker;
    const CountersOwner& counters = surroundings_.counters;
    json entry = {{"slot", worker.slot()},
                  {"pid", worker.pid()},
                  {"state", NameOf(worker.state())},
                  {"restarts", slot.restarts},
                  {"started", FormatTime(worker.started())},
                  {"uptime_seconds", UnixTime() - worker.started()},
                  {"requests", counters.Get(worker.row(), CounterId::kRequests)},
                  {"connections", counters.Get(worker.row(), CounterId::kConnectionsActive)},
                  {"tunnels", counters.Get(worker.row(), CounterId::kTunnelsActive)}};
    if (worker.confinement()) {
      entry["confinement"] = ConfinementJson(*worker.confinement());
    }
    if (worker.drain_report().known) {
      entry["draining"] = DrainingJson(worker.drain_report());
    }
    workers.push_back(entry);
  }
  json status = {{"number", number_},
                 {"state", NameOf(state_)},
                 {"version", version_},
                 {"since", FormatTime(since_)},
                 {"workers", workers}};
  if (state_ == GenerationState::kDraining) {
    DrainReport sum = drain_report();
    sum.tells_hand_over = tells_hand_over();
    sum.handed_over = handed_over();
    if (sum.known || sum.tells_hand_over) {
      status["draining"] = DrainingJson(sum);
    }
  }
  return status;
}

// Its workers are alike: one speaks for all.
void Generation::TellConfinement(const WorkerProcess& worker) {
  const auto& confinement = worker.confinement();
  if (confinement && !confinement->is_complete() && !std::exchange(told_confinement_, true)) {
    LogEvent(LogLevel::kWarn, fmt::format("workers of generation {} are not wholly confined: {}",
                                          number_, ConfinementText(*confinement)));
  }
}

std::string Generation::NamesOfUnprepared() const {
  std::string names;
  unsigned count = 0;
  for (const Slot& slot : slots_) {
    if (slot.worker && round_slots_.contains(slot.worker->slot()) &&
        slot.worker->prepared_id() != round_id_) {
      names += fmt::format("{}{} (pid {})", count++ == 0 ? "" : ", ", slot.worker->slot(),
                           slot.worker->pid());
    }
  }
  return fmt::format("{} {} of generation {} {}", count == 1 ? "worker" : "workers", names, number_,
                     count == 1 ? "is" : "are");
}

json Generation::Save(std::vector<int>& fds) const {
  json state = {{"number", number_},
                {"next_round_id", next_round_id_},
                {"state", static_cast<int>(state_)},
                {"since", since_},
                {"version", version_},
                {"worker_path", worker_program_.path},
                {"worker_fd", worker_program_.fd.get()},
                {"slots", json::array()},
                {"accepting", accepting_},
                {"cut", cut_},
                {"moved", MovedJson(handed_over_)},
                {"declined", DeclinedJson(handed_over_)},
                {"told_hand_over", told_hand_over_},
                {"told_confinement", told_confinement_},
                {"killed_workers", killed_workers_},
                {"drain_total", drain_total_},
                {"drain_ms", drain_limit_.count()}};
  fds.push_back(worker_program_.fd.get());
  if (successor_) {
    state["successor"] = *successor_;
  }
  for (const Slot& slot : slots_) {
    json entry = {{"restarts", slot.restarts}};
    if (slot.heir) {
      entry["heir"] = *slot.heir;
    }
    if (slot.worker) {
      entry["worker"] = slot.worker->Save(fds);
    }
    state["slots"].push_back(entry);
  }
  return state;
}

void Generation::Restore(const json& state) {
  state_ = static_cast<GenerationState>(state.at("state").get<int>());
  since_ = state.at("since").get<double>();
  next_round_id_ = std::max(next_round_id_, NumberOf(state, "next_round_id"));
  accepting_ = state.at("accepting").get<bool>();
  cut_ = NumberOf(state, "cut");
  handed_over_ = HandOverCountsIn(state);
  told_hand_over_ = FlagOf(state, "told_hand_over");
  told_confinement_ = FlagOf(state, "told_confinement");
  if (state.contains("successor")) {
    successor_ = NumberOf(state, "successor");
  }
  killed_workers_ = NumberOf(state, "killed_workers");
  drain_total_ = state.at("drain_total").get<std::uint64_t>();
  drain_limit_ = Duration(state.at("drain_ms").get<std::int64_t>());
  const json& slots = state.at("slots");
  slots_.resize(slots.size());
  for (unsigned number = 0; number < slots_.size(); ++number) {
    Slot& slot = slots_[number];
    slot.restarts = slots[number].at("restarts").get<std::uint64_t>();
    if (slots[number].contains("heir")) {
      slot.heir = static_cast<unsigned>(NumberOf(slots[number], "heir"));
    }
    if (slots[number].contains("gone")) {
      CountGone(RestoreDrainReport(slots[number]["gone"]));
    }
    if (!slots[number].contains("worker")) {
      if (state_ == GenerationState::kServing) {
        ScheduleRestart(number);
      }
      continue;
    }
    const json& saved = slots[number]["worker"];
    CountersRow row{.memory_id = saved.at("memory").get<std::uint64_t>(),
                    .row = saved.at("row").get<unsigned>()};
    slot.worker = std::make_unique<WorkerProcess>(surroundings_, *this, number, row);
    slot.worker->Adopt(saved.at("pid").get<pid_t>(), UniqueFd(saved.at("channel").get<int>()),
                       UniqueFd(saved.at("output").get<int>()),
                       static_cast<WorkerState>(saved.at("state").get<int>()),
                       saved.at("started").get<double>(), saved.at("child").get<bool>());
    slot.worker->RestoreSent(saved);
    // Asked before, answered to us or to nobody: ask again.
    if (slot.worker->state() < WorkerState::kServing) {
      slot.worker->Kill();
    }
  }
  if (state_ == GenerationState::kDraining) {
    // The limits of a drain that is under way count anew.
    drain_began_ = surroundings_.loop.now();
    drain_tunnels_limit_ = config_->config.upgrade.drain_tunnels;
    if (drain_limit_ != kNever) {
      drain_deadline_.Arm(drain_limit_ + kDrainGrace);
    }
  }
}

void Generation::AdoptWorker(unsigned slot_number, pid_t pid, UniqueFd channel, CountersRow row,
                             std::optional<ConfinementReport> confinement) {
  // Two may claim one slot: a worker that did not notice that another had replaced it.
  if (slot_number < slots_.size() && slots_[slot_number].worker) {
    slot_number = static_cast<unsigned>(slots_.size());
  }
  if (slot_number >= slots_.size()) {
    slots_.resize(slot_number + 1);
  }
  Slot& slot = slots_[slot_number];
  slot.worker = std::make_unique<WorkerProcess>(surroundings_, *this, slot_number, row);
  slot.worker->Adopt(pid, std::move(channel), UniqueFd(), WorkerState::kServing, UnixTime(), false);
  slot.worker->SetConfinement(std::move(confinement));
  // It is not started again if it dies: it is to be replaced.
  state_ = GenerationState::kProbation;
}

unsigned Generation::serving_count() const {
  return static_cast<unsigned>(std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) {
    return slot.worker && slot.worker->state() == WorkerState::kServing;
  }));
}

unsigned Generation::alive_count() const {
  return static_cast<unsigned>(std::count_if(
      slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.worker != nullptr; }));
}

DrainReport Generation::drain_report() const {
  DrainReport sum;
  for (const Slot& slot : slots_) {
    if (slot.worker) {
      const DrainReport& report = slot.worker->drain_report();
      sum.left += report.left;
      sum.tunnels += report.tunnels;
      sum.cut += report.cut;
      sum.oldest_seconds = std::max(sum.oldest_seconds, report.oldest_seconds);
      sum.known = sum.known || report.known;
      sum.tells_hand_over = sum.tells_hand_over || report.tells_hand_over;
      sum.handing_over = sum.handing_over || report.handing_over;
      sum.handed_over += report.handed_over;
    }
  }
  return sum;
}

std::uint64_t Generation::cut() const {
  return cut_ + drain_report().cut;
}

bool Generation::is_flushed() const {
  return std::all_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return !slot.worker || slot.worker->is_flushed(); });
}

void Generation::AddNames(NameSet& names) const {
  for (const ActiveConfigPtr& config : {config_, round_config_}) {
    if (config != nullptr) {
      AddUpstreamNames(config->config, names);
    }
  }
}

void Generation::OnResolved(WorkerProcess&, const KnownAddresses& addresses) {
  NameSet names;
  AddNames(names);
  surroundings_.addresses.Learn(addresses, names);
}

void Generation::ForEachWorker(const std::function<void(WorkerProcess&)>& visit) {
  for (Slot& slot : slots_) {
    if (slot.worker) {
      visit(*slot.worker);
    }
  }
}

}  // namespace tidegate
