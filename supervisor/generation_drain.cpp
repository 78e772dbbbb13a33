// The end of a generation: what its workers have begun is finished within the limits, who does not
// exit is killed and counted.

#include <fmt/format.h>

#include "supervisor/event_log.h"
#include "supervisor/generation.h"

namespace tidegate {

void Generation::Drain(Duration drain, Duration drain_tunnels, bool close_idle) {
  accepting_ = false;
  drain_limit_ = drain;
  drain_tunnels_limit_ = drain_tunnels;
  drain_began_ = surroundings_.loop.now();
  if (alive_count() == 0) {
    Become(GenerationState::kExited);
    Changed();
    return;
  }
  if (state_ == GenerationState::kServing || state_ == GenerationState::kProbation) {
    Become(GenerationState::kDraining);
    drain_total_ = 0;
    for (Slot& slot : slots_) {
      if (slot.worker) {
        drain_total_ +=
            surroundings_.counters.Get(slot.worker->row(), CounterId::kConnectionsActive);
      }
    }
  }
  for (Slot& slot : slots_) {
    if (slot.worker && slot.worker->state() == WorkerState::kServing) {
      slot.worker->Become(WorkerState::kDraining);
    } else if (slot.worker && slot.worker->state() < WorkerState::kServing) {
      slot.worker->Kill();
    }
    if (slot.worker) {
      slot.worker->SendDrain(drain, drain_tunnels, close_idle);
    }
  }
  if (drain != kNever) {
    drain_deadline_.Arm(drain + kDrainGrace);
  }
}

// Tunnels have a longer limit: who still has some, and says so, may go on.
void Generation::OnDrainDeadline() {
  Duration passed(static_cast<std::int64_t>(surroundings_.loop.now() - drain_began_));
  bool tunnels_over =
      drain_tunnels_limit_ != kNever && passed >= drain_tunnels_limit_ + kDrainGrace;
  bool some_left = false;
  for (Slot& slot : slots_) {
    if (!slot.worker) {
      continue;
    }
    const DrainReport& report = slot.worker->drain_report();
    if (!tunnels_over && report.known && report.tunnels > 0) {
      some_left = true;
      continue;
    }
    LogEvent(LogLevel::kWarn,
             fmt::format("{} has outlived its drain and is killed", NameOfWorker(*slot.worker)));
    surroundings_.counters.Add(CounterId::kDrainForced);
    ++killed_workers_;
    slot.worker->Kill();
  }
  if (some_left) {
    drain_deadline_.Arm(std::chrono::milliseconds(500));
  }
}

void Generation::CountGone(const DrainReport& report) {
  // What it had when it was heard of last ended with it.
  cut_ += report.cut + report.left;
  handed_over_ += report.handed_over;
  told_hand_over_ = told_hand_over_ || report.tells_hand_over;
}

void Generation::Kill(std::string_view because) {
  accepting_ = false;
  for (Slot& slot : slots_) {
    slot.restart_due.reset();
    if (slot.worker) {
      LogEvent(LogLevel::kInfo,
               fmt::format("{} is killed: {}", NameOfWorker(*slot.worker), because));
      slot.worker->Kill();
    }
  }
  if (state_ != GenerationState::kDraining && state_ != GenerationState::kExited &&
      alive_count() > 0 && state_ != GenerationState::kStarting &&
      state_ != GenerationState::kReady) {
    Become(GenerationState::kDraining);
  }
  if (alive_count() == 0 && state_ != GenerationState::kExited) {
    Become(GenerationState::kExited);
  }
}

void Generation::OnDraining(WorkerProcess&) {
  Changed();
}

Task<bool> Generation::WaitExited(Duration timeout) {
  auto none_left = [this] { return alive_count() == 0; };
  auto gone = co_await WaitUntil(none_left, timeout);
  co_return gone;
}

}  // namespace tidegate
