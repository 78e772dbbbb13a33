#pragma once

// The worker's end of the connection to its supervisor: reads messages, calls the WorkerHandler,
// sends the answers. It also outlives the supervisor: an orphaned worker goes on serving and waits
// on the control socket until a new supervisor asks to take it over; that connection is the channel
// from then on. Who is not root or our own user is turned away.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/confinement_report.h"
#include "common/known_addresses.h"
#include "common/log_level.h"
#include "common/loop.h"
#include "common/name_files.h"
#include "common/result.h"
#include "common/ticket_ring.h"
#include "common/unique_fd.h"
#include "common/units.h"
#include "proxy/handover.h"

namespace tidegate {

// Where supervisor and worker meet: the worker's descriptor 3.
inline constexpr int kWorkerChannelFd = 3;
// How long an orphan serves before it drains by itself.
inline constexpr Duration kOrphanLimit = std::chrono::minutes(10);

struct WorkerInit {
  std::uint64_t generation = 0;
  // From 0, below `workers`.
  unsigned slot = 0;
  unsigned workers = 1;
  // For Counters::Map(counters, row).
  unsigned row = 0;
  UniqueFd counters;
  UniqueFd error_log;
};

// A listening socket: bound, non-blocking; perhaps not listening before Commit. Its options and
// flags are shared with every other worker: never set one, never shutdown() it. Closing it is fine.
struct ListenerSocket {
  // Stands for the listener in all messages; never used again for another.
  std::uint64_t listener_id = 0;
  unsigned slot = 0;
  UniqueFd fd;
};

struct PreparedListener {
  // ListenerConfig::name.
  std::string name;
  std::uint64_t listener_id = 0;
  // Where it is bound, e.g. "127.0.0.1:8080" also when the configuration says port 0.
  std::string bound;
  // For the supervisor's successor, should it die: what the listener is known by.
  std::string key;
};

struct PrepareRequest {
  std::uint64_t id = 0;
  // For ParseEffectiveConfig.
  std::string config;
  // One for each of Config::listeners, in that order.
  std::vector<PreparedListener> listeners;
  // Those that this worker does not have yet; it keeps the others from before. Of every slot:
  // accept only on those that Accept named last. With accept: shared there is one socket, of slot
  // 0, and every worker accepts on it unless the last Accept was empty.
  std::vector<ListenerSocket> sockets;
  // None: the configuration has no access log.
  UniqueFd access_log;
  // What the supervisor knows of the names of its upstreams, in full.
  KnownAddresses known_addresses;
};

struct DrainLimits {
  // From now; kNever: no limit.
  Duration drain{};
  Duration drain_tunnels{};
  // Idle connections end at once: at a stop, where nobody takes over from us. Otherwise they stay
  // until their next answer or the deadline, because a request may be on its way.
  bool close_idle = false;
};

struct DrainProgress {
  // Connections, and tunnels among them.
  std::uint64_t left = 0;
  std::uint64_t tunnels = 0;
  // Ended at a deadline inside an exchange or a tunnel, since the drain began.
  std::uint64_t cut = 0;
  // Age of the oldest that is left.
  Duration oldest{};
  bool handing_over = false;
  HandOver::Moved moved{};
  HandOver::Declined declined{};
};

// What the worker does. All are called from the loop, none from within a call of ControlClient.
class WorkerHandler {
 public:
  // Once, before anything else. An error ends the worker (exit 1); the supervisor hears its text.
  virtual Result<> Init(WorkerInit init) = 0;
  // Builds everything from the configuration and accepts nothing. What was prepared before and not
  // committed is dropped. Error: the detail is the diagnostics. Nothing has changed then.
  virtual Result<> Prepare(PrepareRequest request) = 0;
  // What was prepared under `id` is in force.
  virtual void Commit(std::uint64_t id) = 0;
  virtual void Abandon(std::uint64_t id) = 0;
  // Accept on the sockets of these slots, of every listener in force, and on no other. Comes before
  // or after the first Commit. Empty: on none; the sockets stay open. May come at any time, also
  // while draining (then it is ignored).
  virtual void Accept(const std::vector<unsigned>& slots) = 0;
  // These listeners are not in force any more. Accept on them until none has come for 200 ms, at
  // most 2 s, whatever Accept says; then close their sockets and call ControlClient::Released.
  virtual void DropListeners(const std::vector<std::uint64_t>& listener_ids) = 0;
  // Stop accepting, finish, call ReportDraining about every 500 ms, exit with 0. A second call
  // moves the limits.
  virtual void Drain(DrainLimits limits) = 0;
  // From Drain on, before or after it, live connections go to a newer worker at the other end.
  virtual void HandOverTo(UniqueFd channel, UniqueFd lifeline) = 0;
  // They come from an older one at the other end.
  virtual void AdoptFrom(UniqueFd channel, UniqueFd lifeline) = 0;
  // The keys of session tickets from now on: before the first Prepare, and at any time after it.
  virtual void RotateKeys(TicketRing keys) = 0;
  // Before the first Prepare, and at any time after it.
  virtual void UseNameFiles(NameFiles files) = 0;
  // The access log is none if there is none.
  virtual void ReopenLogs(UniqueFd error_log, UniqueFd access_log) = 0;
  // `duration` zero: for good, until a configuration says otherwise.
  virtual void SetLogLevel(LogLevel level, Duration duration) = 0;
  // JSON text. `what`: "connections" ->
  // [{"id":17,"state":"idle|request|response|tunnel","client":..,"listener":..,
  // "age_seconds":..,"bytes_in":..,"bytes_out":..}]; "kill_connection" with an id ->
  // {"killed":bool}; "upstreams" ->
  // [{"upstream":"app","endpoint":"10.0.0.1:80","in_flight":2,"idle":1,"failure":""}], one for each
  // endpoint, "failure" why its name has no address.
  virtual Result<std::string> Query(std::string_view what, std::string_view argument) = 0;
  // For a new supervisor, which knows none.
  virtual KnownAddresses LastAddresses() = 0;
  // The supervisor is gone, or a new one is there. After kOrphanLimit without one Drain is called.
  virtual void OnOrphaned() = 0;
  virtual void OnAdopted() = 0;

 protected:
  ~WorkerHandler() = default;
};

class ControlClient {
 public:
  // `channel` is kWorkerChannelFd, usually. All outlive the client.
  ControlClient(Loop& loop, UniqueFd channel, WorkerHandler& handler);
  ControlClient(const ControlClient&) = delete;
  ControlClient& operator=(const ControlClient&) = delete;
  ~ControlClient();

  // Says hello, with how this worker is confined; messages come from then on.
  void Start(const ConfinementReport& confinement);
  void ReportDraining(const DrainProgress& progress);
  // Whether this worker accepts at all: not while it has all connections that it may have.
  void ReportGate(bool open);
  // The sockets of these dropped listeners are closed.
  void Released(const std::vector<std::uint64_t>& listener_ids);
  // Names that resolve to other addresses than the supervisor knows. It hears of them when it asks
  // for all, if there is none now.
  void Resolved(const KnownAddresses& changes);
  bool orphaned() const;
  // Ends the connection and closes what was kept for a successor. Before Loop::RunUntilClosed.
  void Close();

 private:
  class Body;
  std::unique_ptr<Body> body_;
};

}  // namespace tidegate
