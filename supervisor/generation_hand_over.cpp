// The way of live connections from the workers of one generation to those of the next: who gives
// them to whom, and the channel between the two. What goes over it is theirs
// (control_messages.h, section 3).

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "common/test_fault.h"
#include "supervisor/event_log.h"
#include "supervisor/generation.h"
#include "supervisor/heirs.h"

namespace tidegate {
namespace {

// Both ends of both. None is ours for longer than it takes to send them: who waits for the end of
// one waits for the death of a worker.
struct Ends {
  UniqueFd old_channel;
  UniqueFd new_channel;
  UniqueFd lifeline_in;
  UniqueFd lifeline_out;
};

Result<Ends> MakeEnds() {
  if (FaultAt("supervisor", "pair") != Fault::kNone) {
    return Fail(ErrorKind::kSystem, "a test asked for this fault");
  }
  Result<std::pair<UniqueFd, UniqueFd>> channel = MakeControlPair();
  if (!channel) {
    return Fail(channel.error());
  }
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
    return Fail(ErrorKind::kSystem, fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  }
  return Ends{.old_channel = std::move(channel->first),
              .new_channel = std::move(channel->second),
              .lifeline_in = UniqueFd(pipe[0]),
              .lifeline_out = UniqueFd(pipe[1])};
}

}  // namespace

void Generation::HandOver(Generation& to) {
  successor_ = to.number_;
  std::vector<unsigned> serving;
  for (unsigned slot = 0; slot < to.slots_.size(); ++slot) {
    if (to.slots_[slot].worker && to.slots_[slot].worker->state() == WorkerState::kServing) {
      serving.push_back(slot);
    }
  }
  for (unsigned number = 0; number < slots_.size(); ++number) {
    Slot& slot = slots_[number];
    slot.heir = HeirOf(number, serving, to.workers());
    if (slot.heir) {
      Connect(slot, to, *slot.heir);
    }
  }
}

void Generation::HandOverAgain(Generation& to, unsigned heir) {
  if (successor_ != to.number_ || state_ != GenerationState::kDraining) {
    return;
  }
  for (Slot& slot : slots_) {
    if (slot.heir == heir) {
      Connect(slot, to, heir);
    }
  }
}

// Nothing happens while one of the two is not there: the heir may come (HandOverAgain).
void Generation::Connect(Slot& slot, Generation& to, unsigned heir_slot) {
  auto lives = [](const WorkerProcess* worker) {
    return worker != nullptr &&
           (worker->state() == WorkerState::kServing || worker->state() == WorkerState::kDraining);
  };
  WorkerProcess* heir = heir_slot < to.slots_.size() ? to.slots_[heir_slot].worker.get() : nullptr;
  if (!lives(slot.worker.get()) || !lives(heir)) {
    return;
  }
  Result<Ends> ends = MakeEnds();
  if (!ends) {
    LogEvent(LogLevel::kWarn, fmt::format("the connections of {} do not go to {}, they drain: {}",
                                          NameOfWorker(*slot.worker), to.NameOfWorker(*heir),
                                          ends.error().ToString()));
    return;
  }
  // The one that waits first: what is offered at once is not lost.
  heir->SendAdoptFrom(fmt::format("{}.{}", number_, slot.worker->slot()), ends->new_channel.get(),
                      ends->lifeline_in.get());
  slot.worker->SendHandOver(fmt::format("{}.{}", to.number_, heir_slot), ends->old_channel.get(),
                            ends->lifeline_out.get());
}

HandOverCounts Generation::handed_over() const {
  HandOverCounts sum = handed_over_;
  sum += drain_report().handed_over;
  return sum;
}

bool Generation::tells_hand_over() const {
  return told_hand_over_ || drain_report().tells_hand_over;
}

bool Generation::hands_over() const {
  for (const Slot& slot : slots_) {
    if (slot.worker &&
        (!slot.worker->drain_report().known || slot.worker->drain_report().handing_over)) {
      return true;
    }
  }
  return false;
}

}  // namespace tidegate
