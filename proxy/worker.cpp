#include "proxy/worker.h"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <utility>

#include <fmt/format.h>

#include "common/config_load.h"
#include "common/frame_pool.h"
#include "common/log.h"
#include "common/slabs.h"
#include "common/test_fault.h"

namespace tidegate {
namespace {

// A dropped listener is closed when nobody came for so long; at the latest after the second time.
constexpr Duration kDropQuiet = std::chrono::milliseconds(200);
constexpr Duration kDropLimit = std::chrono::seconds(2);
constexpr Duration kDrainTick = std::chrono::milliseconds(500);
// Milliseconds between two log lines about refused connections.
constexpr TimePoint kSayRefusedEvery = 60'000;
// A gate that flutters at its limit is not worth a message each time.
constexpr Duration kGateOpenForLong = std::chrono::milliseconds(200);
constexpr const char* kDrainTooLong = "the drain took longer than allowed";
// Names that resolve together are told together: at a start there may be thousands. No longer than
// that takes, because we may be the only one that knows.
constexpr Duration kResolvedDelay = std::chrono::milliseconds(1);

}  // namespace

Worker::Worker(Loop& loop, UniqueFd channel)
    : loop_(loop),
      resolver_(loop),
      services_{.loop = loop, .buffers = buffers_, .counters = counters_},
      sessions_(services_, *this),
      gate_(loop, Bind<&Worker::OnGate>(this)),
      trim_(loop, counters_, Bind<&Worker::ReleaseFreeLists>(this)),
      gate_open_due_(loop.timers(), Bind<&Worker::OnGateOpenForLong>(this)),
      hand_over_(services_, sessions_, *this),
      control_(loop, std::move(channel), *this),
      drop_tick_(loop.timers(), Bind<&Worker::CheckDropped>(this)),
      drain_tick_(loop.timers(), Bind<&Worker::OnDrainTick>(this)),
      drain_deadline_(loop.timers(), Bind<&Worker::OnDrainDeadline>(this)),
      tunnel_deadline_(loop.timers(), Bind<&Worker::OnTunnelDeadline>(this)),
      log_level_deadline_(loop.timers(), Bind<&Worker::OnLogLevelOver>(this)),
      resolved_due_(loop.timers(), Bind<&Worker::OnResolvedDue>(this)),
      moved_due_(loop.timers(), Bind<&Worker::CheckDrained>(this)) {
  services_.on_many_streams = Bind<&Worker::CountForTrim>(this);
  services_.on_more_streams = Bind<&Worker::CountForGate>(this);
  resolver_.memory().SetOnChange(Bind<&Worker::OnAddressChange>(this));
}

Worker::~Worker() = default;

int Worker::Run(const ConfinementReport& confinement) {
  control_.Start(confinement);
  loop_.Run();
  listeners_.clear();
  prepared_.reset();
  adoptions_.clear();
  control_.Close();
  services_.access_log.reset();
  services_.snapshot.reset();
  return 0;
}

Result<> Worker::Init(WorkerInit init) {
  slot_ = init.slot;
  workers_ = std::max(1U, init.workers);
  services_.generation = init.generation;
  if (init.error_log) {
    SetErrorLog(loop_, std::move(init.error_log));
  }
  auto counters = Counters::Map(init.counters.get(), init.row);
  if (!counters) {
    return Fail(std::move(counters).error());
  }
  counters_ = std::move(*counters);
  return {};
}

Result<> Worker::Prepare(PrepareRequest request) {
  if (FaultAt("worker", "prepare") == Fault::kFail) {
    return Fail(ErrorKind::kConfig, "refused by a test");
  }
  auto config = ParseEffectiveConfig(request.config);
  if (!config) {
    return Fail(std::move(config).error());
  }
  if (config->listeners.size() != request.listeners.size()) {
    return Fail(ErrorKind::kProtocol, "the number of listeners differs from the configuration's");
  }
  if (!std::exchange(knows_of_name_files_, true) && slot_ == 0) {
    LogInfo(
        "this supervisor does not tell of resolv.conf and /etc/hosts: they stay as they are now "
        "until the next upgrade");
  }
  const Snapshot* in_force = services_.snapshot.get();
  auto tls = TlsContexts::Make(*config, in_force != nullptr ? &in_force->tls() : nullptr, tickets_);
  if (!tls) {
    return Fail(std::move(tls).error());
  }
  auto client_tls =
      ClientTlsContexts::Make(*config, in_force != nullptr ? &in_force->client_tls() : nullptr);
  if (!client_tls) {
    return Fail(std::move(client_tls).error());
  }
  ForgetFileContents(*config);
  for (ListenerSocket& socket : request.sockets) {
    listeners_[socket.listener_id].sockets.push_back(
        std::make_unique<AcceptingSocket>(loop_, gate_, *this, std::move(socket.fd), socket.slot));
  }
  Snapshot::Parts parts{.loop = loop_,
                        .buffers = buffers_,
                        .resolver = resolver_,
                        .counters = counters_,
                        .workers = workers_,
                        .tls = std::move(*tls),
                        .client_tls = std::move(*client_tls),
                        .https_ports = HttpsPorts(*config, request.listeners)};
  // Until the endpoints hold what they want of it.
  std::vector<AddressMemory::Holder> offered = resolver_.memory().Offer(request.known_addresses);
  Prepared prepared;
  prepared.id = request.id;
  prepared.snapshot = std::make_shared<const Snapshot>(parts, std::move(*config), in_force);
  prepared.listeners = std::move(request.listeners);
  prepared.access_log = std::move(request.access_log);
  prepared_ = std::move(prepared);
  return {};
}

std::set<std::uint16_t> Worker::HttpsPorts(const Config& config,
                                           const std::vector<PreparedListener>& prepared) const {
  std::set<std::uint16_t> ports;
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    auto listener = listeners_.find(prepared[i].listener_id);
    if (config.listeners[i].tls && listener != listeners_.end()) {
      for (const auto& socket : listener->second.sockets) {
        ports.insert(socket->port());
      }
    }
  }
  return ports;
}

void Worker::Commit(std::uint64_t id) {
  if (!prepared_ || prepared_->id != id) {
    LogError("commit {} without its prepare", id);
    return;
  }
  FaultAt("worker", "commit");
  Prepared prepared = std::move(*prepared_);
  prepared_.reset();
  services_.snapshot = std::move(prepared.snapshot);
  const Config& config = services_.snapshot->config();
  services_.snapshot->PutInForce();
  if (slot_ == 0) {
    for (const std::string& warning : services_.snapshot->tls().Warnings(std::time(nullptr))) {
      LogWarn("{}", warning);
    }
    for (const std::string& warning :
         services_.snapshot->client_tls().Warnings(std::time(nullptr))) {
      LogWarn("{}", warning);
    }
  }
  SetErrorLogLevel(config.logging.level);
  log_level_deadline_.Disarm();
  if (!config.logging.access) {
    services_.access_log.reset();
  } else if (services_.access_log == nullptr) {
    services_.access_log =
        std::make_unique<LogSink>(loop_, std::move(prepared.access_log), "access log");
  } else if (prepared.access_log) {
    services_.access_log->Replace(std::move(prepared.access_log));
  }
  for (std::size_t i = 0; i < prepared.listeners.size(); ++i) {
    Listener& listener = listeners_[prepared.listeners[i].listener_id];
    listener.shared = config.listeners[i].accept == AcceptMode::kShared;
    listener.in_force = true;
    listener.dropped_at.reset();
    for (auto& socket : listener.sockets) {
      socket->SetListener(config.listeners[i], services_.snapshot->tls().Of(config.listeners[i]));
    }
  }
  gate_.Configure(config.limits.max_connections, workers_);
  CountForGate();
  peers_.Configure(config.limits.max_connections_per_ip, workers_);
  services_.handshakes.SetMost((config.limits.max_handshakes + workers_ - 1) / workers_);
  UpdateAccepting();
  FaultAt("worker", "serving");
}

void Worker::Abandon(std::uint64_t id) {
  if (!prepared_ || prepared_->id != id) {
    return;
  }
  // Its new sockets go too: the supervisor sends them again if it tries again.
  for (const PreparedListener& prepared : prepared_->listeners) {
    auto listener = listeners_.find(prepared.listener_id);
    bool in_force = listener != listeners_.end() && listener->second.in_force;
    if (listener != listeners_.end() && !in_force) {
      listeners_.erase(listener);
    }
  }
  prepared_.reset();
}

void Worker::Accept(const std::vector<unsigned>& slots) {
  if (!draining_) {
    slots_ = slots;
    UpdateAccepting();
  }
}

bool Worker::ShouldAccept(const Listener& listener, const AcceptingSocket& socket) const {
  if (!listener.in_force || services_.snapshot == nullptr) {
    return false;
  }
  if (listener.dropped_at) {
    return true;
  }
  if (listener.shared) {
    return !slots_.empty();
  }
  return std::find(slots_.begin(), slots_.end(), socket.slot()) != slots_.end();
}

void Worker::UpdateAccepting() {
  for (auto& [id, listener] : listeners_) {
    for (auto& socket : listener.sockets) {
      socket->Update(ShouldAccept(listener, *socket));
    }
  }
}

// With a shut gate our queues are nobody's: the supervisor lets a neighbour accept on them, too.
void Worker::OnGate() {
  UpdateAccepting();
  if (!gate_.open() && !said_shut_) {
    said_shut_ = true;
    control_.ReportGate(false);
  }
  gate_open_due_.Arm(gate_.open() && said_shut_ ? kGateOpenForLong : kNever);
}

void Worker::OnGateOpenForLong() {
  said_shut_ = false;
  control_.ReportGate(true);
}

void Worker::DropListeners(const std::vector<std::uint64_t>& listener_ids) {
  for (std::uint64_t id : listener_ids) {
    auto listener = listeners_.find(id);
    if (listener != listeners_.end()) {
      listener->second.dropped_at = loop_.now();
    }
  }
  UpdateAccepting();
  drop_tick_.Arm(kDropQuiet);
}

void Worker::CheckDropped() {
  std::vector<std::uint64_t> released;
  bool waiting = false;
  for (auto& [id, listener] : listeners_) {
    if (!listener.dropped_at) {
      continue;
    }
    TimePoint last = *listener.dropped_at;
    for (auto& socket : listener.sockets) {
      last = std::max(last, socket->last_accept());
    }
    bool quiet = loop_.now() >= last + static_cast<TimePoint>(kDropQuiet.count());
    bool over = loop_.now() >= *listener.dropped_at + static_cast<TimePoint>(kDropLimit.count());
    if (quiet || over) {
      released.push_back(id);
    } else {
      waiting = true;
    }
  }
  for (std::uint64_t id : released) {
    listeners_.erase(id);
  }
  if (!released.empty()) {
    control_.Released(released);
  }
  if (waiting) {
    drop_tick_.Arm(kDropQuiet);
  }
}

void Worker::StartSession(UniqueFd fd, ClientInfo client,
                          const std::shared_ptr<const ServerTls>& tls) {
  if (!peers_.Enter(client.network)) {
    // Closed without a word: an answer would cost what the limit is to save.
    counters_.Add(CounterId::kConnectionsRefused);
    if (!said_refused_ || loop_.now() >= *said_refused_ + kSayRefusedEvery) {
      said_refused_ = loop_.now();
      LogWarn("refusing a connection of {}: it has its share of limits.max_connections_per_ip",
              client.ip.view());
    }
    return;
  }
  scope_.Start(
      RunSession(std::make_unique<Session>(services_, sessions_, std::move(fd), client, tls)));
  CountForGate();
  CountForTrim();
}

void Worker::ResumeSession(IdleConnection connection) {
  scope_.Start(RunSession(std::make_unique<Session>(services_, sessions_, std::move(connection))));
  CountForTrim();
}

void Worker::CountForTrim() {
  trim_.Count(sessions_.session_count() + services_.h2_streams, sessions_.parking().size());
}

void Worker::CountForGate() {
  gate_.Count(sessions_.size(), services_.h2_more_streams);
  services_.most_h2_more_streams = gate_.most_more_streams();
}

void Worker::ReleaseFreeLists() {
  sessions_.ReleaseUnused();
  buffers_.Release();
  ReleaseFreeFrames();
  ReleaseFreeSlabs();
}

Task<void> Worker::RunSession(std::unique_ptr<Session> session) {
  std::uint64_t network = session->client().network;
  co_await session->Run();
  bool parked = session->state() == Session::State::kParked;
  session.reset();
  CountForTrim();
  if (parked) {
    co_return;
  }
  peers_.Leave(network);
  CountForGate();
  if (draining_) {
    CheckDrained();
  }
}

void Worker::Drain(DrainLimits limits) {
  FaultAt("worker", "drain");
  if (!draining_) {
    draining_ = true;
    slots_.clear();
    // The descriptors go now: connections that wait in the queues belong to whoever else holds
    // them.
    listeners_.clear();
    hand_over_.Begin();
    if (hand_over_.handing_over()) {
      ReportDraining();
    }
    drain_tick_.Arm(kDrainTick);
  }
  if (limits.close_idle) {
    hand_over_.Stop();
    sessions_.CloseIdle();
  }
  drain_over_ = tunnels_over_ = false;
  drain_deadline_.Arm(limits.drain);
  tunnel_deadline_.Arm(limits.drain_tunnels);
  CheckDrained();
}

void Worker::DrainBySignal() {
  DrainLimits limits{.drain = std::chrono::seconds(30),
                     .drain_tunnels = std::chrono::seconds(30),
                     .close_idle = true};
  if (services_.snapshot != nullptr) {
    const Config& config = services_.snapshot->config();
    limits.drain = limits.drain_tunnels = config.shutdown.timeout;
  }
  Drain(limits);
}

void Worker::CheckDrained() {
  // Pooled connections go even where no client's is left.
  if (sessions_.size() == 0 && !hand_over_.handing_over()) {
    ReportDraining();
    loop_.Stop();
  }
}

void Worker::Cut(Ending what) {
  sessions_.ForEach([&](Session& session) {
    cut_ += session.ForceEnd(Error(ErrorKind::kDrainDeadline, kDrainTooLong), what);
  });
}

void Worker::CutLate(Session& session) {
  for (const auto& [is_over, what] :
       {std::pair(drain_over_, Ending::kExchanges), std::pair(tunnels_over_, Ending::kTunnels)}) {
    if (is_over) {
      cut_ += session.ForceEnd(Error(ErrorKind::kDrainDeadline, kDrainTooLong), what);
    }
  }
}

void Worker::OnDrainDeadline() {
  drain_over_ = true;
  hand_over_.Expire();
  sessions_.parking().ResumeAll();
  Cut(Ending::kExchanges);
}

void Worker::OnTunnelDeadline() {
  tunnels_over_ = true;
  Cut(Ending::kTunnels);
}

void Worker::OnDrainTick() {
  hand_over_.Poke();
  ReportDraining();
  drain_tick_.Arm(kDrainTick);
}

void Worker::ReportDraining() {
  DrainProgress progress{.left = sessions_.size(),
                         .cut = cut_,
                         .handing_over = hand_over_.handing_over(),
                         .moved = hand_over_.moved(),
                         .declined = hand_over_.declined()};
  TimePoint oldest = loop_.now();
  sessions_.ForEach([&](Session& session) {
    progress.tunnels += session.state() == Session::State::kTunnel ? 1 : 0;
    oldest = std::min(oldest, session.opened());
  });
  sessions_.parking().ForEach(
      [&](const IdleConnection& idle) { oldest = std::min(oldest, idle.opened); });
  progress.oldest = Duration(loop_.now() - oldest);
  control_.ReportDraining(progress);
}

void Worker::RotateKeys(TicketRing keys) {
  // One of us says it for all: they have the same limits.
  if (keys.weakness() && slot_ == 0 && !said_unprotected_) {
    said_unprotected_ = true;
    LogWarn("the keys of session tickets are not well protected here: {}",
            keys.weakness()->ToString());
  }
  tickets_.Install(std::move(keys));
}

void Worker::BeginWithNameFiles(NameFiles files) {
  resolver_.SetFiles(std::move(files));
}

void Worker::UseNameFiles(NameFiles files) {
  knows_of_name_files_ = true;
  resolver_.SetFiles(std::move(files));
}

void Worker::ReopenLogs(UniqueFd error_log, UniqueFd access_log) {
  if (error_log) {
    SetErrorLog(loop_, std::move(error_log));
  }
  if (services_.access_log != nullptr && access_log) {
    services_.access_log->Replace(std::move(access_log));
  }
}

void Worker::SetLogLevel(LogLevel level, Duration duration) {
  SetErrorLogLevel(level);
  if (duration > Duration::zero()) {
    log_level_deadline_.Arm(duration);
  } else {
    log_level_deadline_.Disarm();
  }
}

void Worker::OnLogLevelOver() {
  if (services_.snapshot != nullptr) {
    SetErrorLogLevel(services_.snapshot->config().logging.level);
  }
}

KnownAddresses Worker::LastAddresses() {
  return resolver_.memory().All();
}

void Worker::OnAddressChange() {
  resolved_due_.Arm(kResolvedDelay);
}

void Worker::OnResolvedDue() {
  KnownAddresses changes = resolver_.memory().TakeChanges();
  if (!changes.empty()) {
    control_.Resolved(changes);
  }
}

void Worker::OnOrphaned() {
  LogWarn("the supervisor is gone: serving on, waiting for another");
}

void Worker::OnAdopted() {
  LogInfo("a new supervisor has taken over");
}

}  // namespace tidegate
