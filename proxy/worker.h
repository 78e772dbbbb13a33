#pragma once

// A worker: what the supervisor tells it, done. Its states are Starting (nothing in force),
// Serving, Draining.
//
//   1. Nothing is accepted before the first commit, and nothing after drain.
//   2. A prepare that fails changes nothing; a prepare that succeeds changes nothing either, until
//   commit.
//   3. What a session runs keeps the snapshot that it began with.
//   4. It ends by itself only when it is drained; the last session ends the drain.

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/adoption.h"
#include "proxy/control_client.h"
#include "proxy/handover.h"
#include "proxy/listener.h"
#include "proxy/memory_trim.h"
#include "proxy/net/resolver.h"
#include "proxy/peer_limit.h"
#include "proxy/services.h"
#include "proxy/session.h"

namespace tidegate {

class Worker final : public WorkerHandler,
                     public SessionStarter,
                     public SessionResumer,
                     public HandOver::Owner,
                     public Adoption::Owner {
 public:
  Worker(Loop& loop, UniqueFd channel);
  ~Worker();

  // What names go by until the supervisor says something else, which one of an older version does
  // not.
  void BeginWithNameFiles(NameFiles files);
  // Says hello, with `confinement`, and serves until it is drained. The exit status.
  int Run(const ConfinementReport& confinement);
  // The signal TERM: as if the supervisor had said drain, with the limits of the configuration.
  void DrainBySignal();

 private:
  using ListenerId = std::uint64_t;
  // The sockets of one listener, of every slot.
  struct Listener {
    std::vector<std::unique_ptr<AcceptingSocket>> sockets;
    bool shared = false;
    // Some commit named it; before that it accepts nothing.
    bool in_force = false;
    // Dropped from the configuration: accepts until it is quiet, at most until then.
    std::optional<TimePoint> dropped_at;
  };
  struct Prepared {
    std::uint64_t id = 0;
    std::shared_ptr<const Snapshot> snapshot;
    std::vector<PreparedListener> listeners;
    UniqueFd access_log;
  };

  Result<> Init(WorkerInit init) override;
  Result<> Prepare(PrepareRequest request) override;
  void Commit(std::uint64_t id) override;
  void Abandon(std::uint64_t id) override;
  void Accept(const std::vector<unsigned>& slots) override;
  void DropListeners(const std::vector<std::uint64_t>& listener_ids) override;
  void Drain(DrainLimits limits) override;
  void HandOverTo(UniqueFd channel, UniqueFd lifeline) override;
  void AdoptFrom(UniqueFd channel, UniqueFd lifeline) override;
  void RotateKeys(TicketRing keys) override;
  void UseNameFiles(NameFiles files) override;
  void ReopenLogs(UniqueFd error_log, UniqueFd access_log) override;
  void SetLogLevel(LogLevel level, Duration duration) override;
  Result<std::string> Query(std::string_view what, std::string_view argument) override;
  KnownAddresses LastAddresses() override;
  void OnOrphaned() override;
  void OnAdopted() override;

  void StartSession(UniqueFd fd, ClientInfo client,
                    const std::shared_ptr<const ServerTls>& tls) override;
  void ResumeSession(IdleConnection connection) override;
  void TakeBack(MovingConnection connection) override;
  void OnMoved(const ClientInfo& client) override;
  void OnSwept() override;
  std::uint64_t DescriptorRoom() const override { return gate_.room(); }
  std::optional<Decline> Admit(const ClientInfo& client) override;
  void Adopt(MovingConnection connection) override;
  void OnDropped(const ClientInfo& client) override;
  void OnAdoptionOver(Adoption& adoption) override;
  Task<void> RunSession(std::unique_ptr<Session> session);
  void ReleaseFreeLists();
  void CountForTrim();
  // What holds descriptors, after each change.
  void CountForGate();
  // See Snapshot::Parts. `prepared` in the order of the configuration; their sockets are there.
  std::set<std::uint16_t> HttpsPorts(const Config& config,
                                     const std::vector<PreparedListener>& prepared) const;
  void UpdateAccepting();
  void OnGate();
  void OnGateOpenForLong();
  bool ShouldAccept(const Listener& listener, const AcceptingSocket& socket) const;
  void CheckDropped();
  void CheckDrained();
  void Cut(Ending what);
  void CutLate(Session& session);
  void OnDrainDeadline();
  void OnTunnelDeadline();
  void OnDrainTick();
  void ReportDraining();
  void OnLogLevelOver();
  void OnAddressChange();
  void OnResolvedDue();
  std::string ConnectionsJson();
  std::string UpstreamsJson();

  Loop& loop_;
  BufferPool buffers_;
  Counters counters_;
  Resolver resolver_;
  TicketKeys tickets_;
  Services services_;
  SessionList sessions_;
  TaskScope scope_;
  AcceptGate gate_;
  MemoryTrim trim_;
  PeerLimit peers_;
  // When a refused connection was logged last.
  std::optional<TimePoint> said_refused_;
  // The supervisor hears of a shut gate at once, and of an open one when it has been for a moment.
  Deadline gate_open_due_;
  bool said_shut_ = false;
  HandOver hand_over_;
  std::list<std::unique_ptr<Adoption>> adoptions_;
  ControlClient control_;
  Deadline drop_tick_;
  Deadline drain_tick_;
  Deadline drain_deadline_;
  Deadline tunnel_deadline_;
  Deadline log_level_deadline_;
  Deadline resolved_due_;
  Deadline moved_due_;

  std::map<ListenerId, Listener> listeners_;
  std::optional<Prepared> prepared_;
  std::vector<unsigned> slots_;
  unsigned slot_ = 0;
  unsigned workers_ = 1;
  bool draining_ = false;
  // The supervisor has told of name files, or it was logged that it does not.
  bool knows_of_name_files_ = false;
  // That of the ticket keys was logged.
  bool said_unprotected_ = false;
  // Of the drain; what comes back after it ends at once.
  bool drain_over_ = false;
  bool tunnels_over_ = false;
  // Ended at a deadline of the drain, inside an exchange or a tunnel.
  std::uint64_t cut_ = 0;
};

}  // namespace tidegate
