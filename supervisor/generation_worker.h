#pragma once

// One worker process, seen from the supervisor: its channel, its output, what it was told and what
// it answered. Decides nothing; its generation does.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/confinement_report.h"
#include "common/control.h"
#include "common/log_level.h"
#include "supervisor/address_book.h"
#include "supervisor/counters_owner.h"
#include "supervisor/hand_over_counts.h"
#include "supervisor/key_ring.h"
#include "supervisor/listeners.h"
#include "supervisor/log_files.h"
#include "supervisor/name_files_owner.h"
#include "supervisor/process.h"

namespace tidegate {

// What every generation of one supervisor shares.
struct WorkerSurroundings {
  Loop& loop;
  Children& children;
  CountersOwner& counters;
  Listeners& listeners;
  LogFiles& logs;
  AddressBook& addresses;
  KeyRing& keys;
  NameFilesOwner& name_files;
  // The control socket, for a worker that outlives us.
  int control_listener = -1;
  // Called when a worker serves that was started in the place of a lost one, by its generation and
  // slot. It may be empty.
  std::function<void(std::uint64_t generation, unsigned slot)> on_replaced;
};

//   from       may become
//   kStarting  kPrepared, kExited            started; hello may have come
//   kPrepared  kServing, kExited             would take the configuration
//   kServing   kDraining, kExited            committed
//   kDraining  kExited
//   kExited    -                             its process is gone
enum class WorkerState : std::uint8_t { kStarting, kPrepared, kServing, kDraining, kExited };
std::string_view NameOf(WorkerState state);

struct DrainReport {
  std::uint64_t left = 0;
  std::uint64_t tunnels = 0;
  double oldest_seconds = 0;
  // Ended at a deadline inside an exchange or a tunnel.
  std::uint64_t cut = 0;
  // A report has come.
  bool known = false;
  // It says what it hands over: a worker of before the hand-over does not.
  bool tells_hand_over = false;
  // Some of what can move has not been offered yet.
  bool handing_over = false;
  // So far.
  HandOverCounts handed_over;
};

// Of WorkerProcess::Save's "drain".
DrainReport RestoreDrainReport(const nlohmann::json& saved);

// One prepare, as it is sent to every worker of a generation.
struct PrepareRound {
  std::uint64_t id = 0;
  int config_memfd = -1;
  int access_fd = -1;
  std::vector<ListenerInForce> listeners;
  // What is known of the names in the configuration.
  KnownAddresses known_addresses;
  // Sockets that do not listen yet go along: the round is for what will be in force.
  bool with_new_sockets = false;
};

class WorkerProcess final : public ControlChannel::Handler {
 public:
  // What the generation hears, from the loop. None may destroy the worker, but OnWorkerGone, as its
  // last act.
  class Owner {
   public:
    virtual void OnHello(WorkerProcess& worker) = 0;
    virtual void OnPrepared(WorkerProcess& worker, std::uint64_t id) = 0;
    virtual void OnRejected(WorkerProcess& worker, const std::string& diagnostics) = 0;
    virtual void OnCommitted(WorkerProcess& worker, std::uint64_t id) = 0;
    virtual void OnReleased(WorkerProcess& worker, const std::vector<std::uint64_t>& listeners) = 0;
    virtual void OnDraining(WorkerProcess& worker) = 0;
    // gate_open() has changed.
    virtual void OnGate(WorkerProcess& worker) = 0;
    // Within the bounds of KnownAddresses, and no more is certain: `addresses` may name anything.
    virtual void OnResolved(WorkerProcess& worker, const KnownAddresses& addresses) = 0;
    // `how` completes "worker 3 (pid 71) ...". `clean`: exited with 0.
    virtual void OnWorkerGone(WorkerProcess& worker, const std::string& how, bool clean) = 0;

   protected:
    ~Owner() = default;
  };
  using Answer = std::function<void(const nlohmann::json& data)>;

  WorkerProcess(WorkerSurroundings& surroundings, Owner& owner, unsigned slot, CountersRow row);
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;
  // Does not end the process.
  ~WorkerProcess();

  // Error: kSystem. Once.
  Result<> Start(const Program& program, const Identity* identity);
  // A process that is there already: of the image before us (our child), or of a dead supervisor
  // (`is_child` false).
  void Adopt(pid_t pid, UniqueFd channel, UniqueFd output, WorkerState state, double started,
             bool is_child);
  // Of one that said hello to another supervisor.
  void SetConfinement(std::optional<ConfinementReport> confinement) {
    confinement_ = std::move(confinement);
  }

  void SendInit(std::uint64_t generation, unsigned workers);
  // The ticket keys of now; who has not said hello gets them after it.
  void SendKeys();
  // resolv.conf and /etc/hosts as they were last looked at; nothing if it has them, or if nobody
  // has looked yet.
  void SendNameFiles();
  // With the name files of now before it.
  void SendPrepare(const PrepareRound& round);
  void SendCommit(std::uint64_t id);
  void SendAbandon(std::uint64_t id);
  // Nothing is sent if nothing has changed.
  void SendAccept(const std::vector<unsigned>& slots);
  void SendDropListeners(const std::vector<std::uint64_t>& listeners);
  // `close_idle`: connections without an exchange are closed at once.
  void SendDrain(Duration drain, Duration drain_tunnels, bool close_idle);
  // `channel` and `lifeline` (control_messages.h, section 3) stay the caller's, who must close
  // them: each end is the worker's alone. `from` and `to` say who is at the other end, as "7.0".
  void SendAdoptFrom(std::string_view from, int channel, int lifeline);
  void SendHandOver(std::string_view to, int channel, int lifeline);
  void SendReopenLogs();
  // The level that was set by hand, or again the configuration's.
  void SendLogLevel();
  // `answer` is called once; with null if the worker is gone or refuses.
  void Ask(std::string_view what, std::string_view argument, Answer answer);
  void Kill();

  WorkerState state() const { return state_; }
  // Only along the table above.
  void Become(WorkerState next);
  bool hello_seen() const { return hello_seen_; }
  unsigned slot() const { return slot_; }
  pid_t pid() const { return pid_; }
  CountersRow row() const { return row_; }
  // Unix time.
  double started() const { return started_; }
  // By the monotonic clock; across images as well.
  Duration age() const;
  const DrainReport& drain_report() const { return drain_report_; }
  // False while it has all connections that it may have.
  // In its own words; nothing: it is of a version that does not say.
  const std::optional<ConfinementReport>& confinement() const { return confinement_; }
  bool gate_open() const { return gate_open_; }
  std::uint64_t prepared_id() const { return prepared_id_; }
  bool is_flushed() const { return channel_ == nullptr || channel_->is_flushed(); }
  std::string OutputTail() { return output_ ? output_->Tail() : std::string(); }

  nlohmann::json Save(std::vector<int>& fds) const;
  // What was sent before, from Save.
  void RestoreSent(const nlohmann::json& state);

 private:
  void OnControlMessage(ControlChannel& channel, ControlMessage message) override;
  void OnControlClosed(ControlChannel& channel, const Error& reason) override;
  void OnExit(int status);
  void OnExitDue();
  void Gone(const std::string& how, bool clean);
  void CountWhatMovedUnsaid();
  void SendEnds(std::string_view type, const char* peer_field, std::string_view peer, int channel,
                int lifeline);
  void SendSockets(const PrepareRound& round);

  WorkerSurroundings& surroundings_;
  Owner& owner_;
  unsigned slot_;
  CountersRow row_;
  WorkerState state_ = WorkerState::kStarting;
  pid_t pid_ = -1;
  bool is_child_ = true;
  bool hello_seen_ = false;
  bool gate_open_ = true;
  std::optional<ConfinementReport> confinement_;
  double started_ = 0;
  TimePoint born_ = 0;
  std::uint64_t prepared_id_ = 0;
  // Its channel has ended: it has until then to exit.
  Deadline exit_due_;
  // Why we ended it, if we did.
  std::string killed_because_;
  std::unique_ptr<ControlChannel> channel_;
  std::unique_ptr<ChildOutput> output_;
  std::set<std::pair<std::uint64_t, unsigned>> sent_sockets_;
  std::optional<std::vector<unsigned>> sent_slots_;
  // NameFilesOwner::version() of what was sent.
  std::uint64_t sent_name_files_ = 0;
  DrainReport drain_report_;
  std::map<std::uint64_t, Answer> questions_;
  std::uint64_t next_question_ = 1;
};

}  // namespace tidegate
