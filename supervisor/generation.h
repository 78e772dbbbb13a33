#pragma once

// All workers of one start, numbered. Prepares and commits them together, starts a crashed one
// again, shares the slots of a missing one among its neighbours, drains.
//
// Invariants:
//   1. Nothing is committed unless every worker has prepared it.
//   2. While a generation accepts, every slot is accepted on by one of its serving workers, if it
//   has any; and by one that has room, if there is one.
//   3. A generation that is not Serving starts no worker again.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/task.h"
#include "supervisor/active_config.h"
#include "supervisor/generation_worker.h"

namespace tidegate {

//   from        may become
//   kStarting   kReady, kExited               spawned; workers prepare
//   kReady      kServing, kExited             all have prepared
//   kServing    kProbation, kDraining, kExited
//   kProbation  kServing, kDraining, kExited  accepts no more, could again: its successor is being
//   watched kDraining   kExited
enum class GenerationState : std::uint8_t {
  kStarting,
  kReady,
  kServing,
  kProbation,
  kDraining,
  kExited
};
std::string_view NameOf(GenerationState state);

// Why a prepare or commit failed, for people.
struct GenerationFailure {
  std::string reason;
  // What a worker said against the configuration.
  std::string diagnostics;
  // What a worker wrote before it died.
  std::string output;
};

class Generation final : public WorkerProcess::Owner {
 public:
  struct Parts {
    std::uint64_t number = 0;
    ActiveConfigPtr config;
    Program worker_program;
    std::string version;
    unsigned workers = 1;
    // Null: workers run as we do.
    std::optional<Identity> identity;
  };

  Generation(WorkerSurroundings& surroundings, Parts parts);
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;
  // Kills what is left.
  ~Generation();

  // Starts every worker. False: failure() says why; some may run.
  bool Spawn();
  // Every worker takes `config` and the prepared listeners and logs, without changing anything. Of
  // a generation that serves: a reload. False: failure(); what was prepared is abandoned.
  Task<bool> Prepare(ActiveConfigPtr config, Duration timeout);
  // Forgets what was prepared and not committed.
  void Abandon();
  // What was prepared is in force: sent to all at once, and accepting with it. False: some have not
  // answered, or died.
  Task<bool> Commit(Duration timeout);
  // Every worker answers a question within `timeout`: none hangs.
  Task<bool> Probe(Duration timeout);
  void StopAccepting();
  // After StopAccepting; also starts workers that were lost meanwhile.
  void ResumeAccepting();
  // `listeners` are not in force any more: workers empty them. Completes when all have, at most 3 s
  // later.
  Task<void> DropListeners(std::vector<std::uint64_t> listeners);
  // Stops accepting and finishes. Workers that outlive the limits by more than a moment are killed
  // and counted.
  // `close_idle`: at a stop, where no successor takes an idle connection's next request.
  void Drain(Duration drain, Duration drain_tunnels, bool close_idle = false);
  // Live connections go to `to`, which serves: every worker is connected with one of its workers.
  // Before Drain, or again when `to` is the next one. What cannot be connected drains.
  void HandOver(Generation& to);
  // Worker `slot` of `to` serves in the place of a lost one: what was connected with that one is
  // connected with it. Does nothing if the connections do not go to `to`.
  void HandOverAgain(Generation& to, unsigned slot);
  // Every worker is gone, or `timeout` is over (false).
  Task<bool> WaitExited(Duration timeout);
  void Kill(std::string_view because);
  // Something happened to a worker; or `timeout` is over.
  Task<void> WaitChange(Duration timeout);

  std::uint64_t number() const { return number_; }
  GenerationState state() const { return state_; }
  const ActiveConfigPtr& config() const { return config_; }
  const std::string& version() const { return version_; }
  const Program& worker_program() const { return worker_program_; }
  unsigned workers() const { return static_cast<unsigned>(slots_.size()); }
  const GenerationFailure& failure() const { return failure_; }
  // Workers that died in a way that they should not, since the generation serves.
  std::uint64_t crashes() const { return crashes_; }
  unsigned serving_count() const;
  unsigned alive_count() const;
  // Sum over draining workers.
  DrainReport drain_report() const;
  // Connections when the drain began.
  std::uint64_t drain_total() const { return drain_total_; }
  // By all its workers, also those that are gone.
  HandOverCounts handed_over() const;
  // Some worker has said what it hands over.
  bool tells_hand_over() const;
  // Some worker has not offered yet what could move, or not been heard of.
  bool hands_over() const;
  // Connections that did not end by themselves, and workers that had to be killed for it.
  std::uint64_t cut() const;
  std::uint64_t killed_workers() const { return killed_workers_; }
  Duration drain_limit() const { return drain_limit_; }
  bool is_flushed() const;
  std::string last_crash() const { return last_crash_; }
  // Called when something changed that somebody else may wait for (a worker gone, ready, drained).
  void SetOnChange(std::function<void()> on_change) { on_change_ = std::move(on_change); }

  // Names that its workers may have to resolve, into `names`.
  void AddNames(NameSet& names) const;
  void ForEachWorker(const std::function<void(WorkerProcess&)>& visit);
  nlohmann::json Status() const;
  nlohmann::json Save(std::vector<int>& fds) const;
  // `parts` agrees with the state. Workers that are gone are noticed by their channels.
  void Restore(const nlohmann::json& state);
  // A worker of a dead supervisor.
  void AdoptWorker(unsigned slot, pid_t pid, UniqueFd channel, CountersRow row,
                   std::optional<ConfinementReport> confinement = std::nullopt);

 private:
  // What a worker may need beyond its limit to close what is left and exit: longer than it listens
  // to a client that it has closed (proxy/session.cpp).
  static constexpr Duration kDrainGrace = std::chrono::seconds(3);

  // One worker slot.
  struct Slot {
    std::unique_ptr<WorkerProcess> worker;
    std::uint64_t restarts = 0;
    Duration backoff{};
    std::unique_ptr<Deadline> restart_due;
    // A restarted worker must be ready by then.
    std::unique_ptr<Deadline> ready_due;
    // The slot of the successor that its connections go to.
    std::optional<unsigned> heir;
  };

  void OnHello(WorkerProcess& worker) override;
  void OnPrepared(WorkerProcess& worker, std::uint64_t id) override;
  void OnRejected(WorkerProcess& worker, const std::string& diagnostics) override;
  void OnCommitted(WorkerProcess& worker, std::uint64_t id) override;
  void OnReleased(WorkerProcess& worker, const std::vector<std::uint64_t>& listeners) override;
  void OnDraining(WorkerProcess& worker) override;
  void OnGate(WorkerProcess& worker) override;
  void OnResolved(WorkerProcess& worker, const KnownAddresses& addresses) override;
  void OnWorkerGone(WorkerProcess& worker, const std::string& how, bool clean) override;

  void Become(GenerationState next);
  bool SpawnSlot(unsigned slot);
  void ScheduleRestart(unsigned slot);
  void RestartDue();
  void ReadyDue();
  PrepareRound RoundUnderWay() const;
  PrepareRound RoundInForce();
  void CommitOne(WorkerProcess& worker);
  void ShareSlots();
  void TellConfinement(const WorkerProcess& worker);
  void FailRound(std::string reason, std::string diagnostics, std::string output);
  void OnDrainDeadline();
  // The last report of a worker that is gone.
  void CountGone(const DrainReport& report);
  void Connect(Slot& slot, Generation& to, unsigned heir);
  void Changed();
  Task<bool> WaitUntil(std::function<bool()> done, Duration timeout);
  bool RoundDone() const;
  // "workers 0 (pid 7), 2 (pid 9) of generation 1 are"
  std::string NamesOfUnprepared() const;
  std::string NameOfWorker(const WorkerProcess& worker) const;

  WorkerSurroundings& surroundings_;
  std::uint64_t number_;
  ActiveConfigPtr config_;
  Program worker_program_;
  std::string version_;
  std::optional<Identity> identity_;
  GenerationState state_ = GenerationState::kStarting;
  double since_ = 0;
  std::vector<Slot> slots_;
  bool accepting_ = false;

  // Also across images: a worker may answer what the image before has asked.
  std::uint64_t next_round_id_ = 1;
  // The prepare under way: who has to answer, and for what.
  std::uint64_t round_id_ = 0;
  ActiveConfigPtr round_config_;
  std::set<unsigned> round_slots_;
  std::set<unsigned> uncommitted_;
  bool round_failed_ = false;
  // Prepares of single workers, and what they are to prepare.
  std::map<std::uint64_t, ActiveConfigPtr> catching_up_;
  GenerationFailure failure_;
  std::set<std::pair<unsigned, std::uint64_t>> unreleased_;

  std::uint64_t crashes_ = 0;
  std::string last_crash_;
  // That its workers are not confined was logged.
  bool told_confinement_ = false;
  std::uint64_t drain_total_ = 0;
  // Of workers that are gone.
  std::uint64_t cut_ = 0;
  HandOverCounts handed_over_;
  bool told_hand_over_ = false;
  // The generation that connections go to.
  std::optional<std::uint64_t> successor_;
  std::uint64_t killed_workers_ = 0;
  Duration drain_limit_{};
  Duration drain_tunnels_limit_{};
  TimePoint drain_began_ = 0;
  Deadline drain_deadline_;
  Event changed_;
  std::function<void()> on_change_;
};

}  // namespace tidegate
