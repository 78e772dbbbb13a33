#include "proxy/control_client.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <list>
#include <map>
#include <set>
#include <utility>

#include <uv.h>

#include "common/check.h"
#include "common/control.h"
#include "common/control_wire.h"
#include "common/log.h"
#include "common/test_fault.h"

namespace tidegate {
namespace {

using nlohmann::json;

// What an orphan gives its connections when nobody came for it.
constexpr DrainLimits kOrphanDrain{.drain = std::chrono::seconds(30),
                                   .drain_tunnels = std::chrono::minutes(5)};
// From commit to the fault point `serving`, so that a generation dies within its probation.
constexpr Duration kServingFault = std::chrono::milliseconds(300);

UniqueFd Duplicate(const UniqueFd& fd) {
  return fd ? UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)) : UniqueFd();
}

Duration LimitOf(const json& body, const char* name) {
  auto found = body.find(name);
  if (found == body.end() || !found->is_number()) {
    return kNever;
  }
  return Duration(static_cast<std::int64_t>(found->get<double>() * 1000));
}

std::vector<unsigned> SlotsOf(const json& body) {
  std::vector<unsigned> slots;
  for (const json& slot : body.value("slots", json::array())) {
    if (slot.is_number_unsigned()) {
      slots.push_back(slot.get<unsigned>());
    }
  }
  return slots;
}

std::vector<std::uint64_t> ListenersOf(const json& body) {
  std::vector<std::uint64_t> ids;
  for (const json& id : body.value("listeners", json::array())) {
    if (id.is_number_unsigned()) {
      ids.push_back(id.get<std::uint64_t>());
    }
  }
  return ids;
}

}  // namespace

class ControlClient::Body final : public ControlChannel::Handler {
 public:
  Body(Loop& loop, UniqueFd channel, WorkerHandler& handler)
      : loop_(loop),
        handler_(handler),
        channel_(std::make_unique<ControlChannel>(loop, std::move(channel), *this)),
        orphan_limit_(loop.timers(), Bind<&Body::OnOrphanLimit>(this)),
        serving_fault_(loop.timers(), Bind<&Body::OnServingFault>(this)) {}
  ~Body() { Close(); }

  void Start(const ConfinementReport& confinement) {
    Inject("start");
    confinement_ = ConfinementJson(confinement);
    json hello = MakeControlMessage("hello");
    hello["pid"] = ::getpid();
    hello["version"] = TIDEGATE_VERSION;
    hello["protocol"] = kControlVersion;
    hello["confinement"] = confinement_;
    channel_->Send(hello);
  }

  void Close() {
    StopWaiting();
    control_listener_.Reset();
    keys_.Reset();
    channel_.reset();
    sockets_.clear();
    orphan_limit_.Disarm();
  }

  void Send(const json& body) {
    if (channel_) {
      channel_->Send(body);
    }
  }

  void ForgetListeners(const std::vector<std::uint64_t>& ids) {
    std::erase_if(sockets_, [&](const auto& entry) {
      return std::find(ids.begin(), ids.end(), entry.first.first) != ids.end();
    });
  }

  bool orphaned() const { return channel_ == nullptr; }

 private:
  using Method = void (Body::*)(ControlMessage&);

  void OnControlMessage(ControlChannel& channel, ControlMessage message) override {
    if (&channel != channel_.get()) {
      OnCandidate(channel, message);
      return;
    }
    static const std::map<std::string, Method, std::less<>> kMethods = {
        {"init", &Body::OnInit},
        {"control_listener", &Body::OnControlListener},
        {"sockets", &Body::OnSockets},
        {"prepare", &Body::OnPrepare},
        {"commit", &Body::OnCommit},
        {"abandon", &Body::OnAbandon},
        {"accept", &Body::OnAccept},
        {"drop_listeners", &Body::OnDropListeners},
        {"drain", &Body::OnDrain},
        {"query", &Body::OnQuery},
        {"ping", &Body::OnPing},
        {"reopen_logs", &Body::OnReopenLogs},
        {"loglevel", &Body::OnLogLevel},
        {"rotate_keys", &Body::OnRotateKeys},
        {"hand_over", &Body::OnHandOver},
        {"adopt_from", &Body::OnAdoptFrom},
        {"name_files", &Body::OnNameFiles},
    };
    auto method = kMethods.find(message.type());
    if (method != kMethods.end()) {
      (this->*method->second)(message);
    }
  }

  void OnControlClosed(ControlChannel& channel, const Error&) override {
    if (&channel != channel_.get()) {
      std::erase_if(candidates_, [&](const auto& held) { return held.get() == &channel; });
      return;
    }
    channel_.reset();
    // Nobody counts on a worker that was never committed, and its generation is not the current
    // one.
    if (!committed_) {
      std::_Exit(1);
    }
    handler_.OnOrphaned();
    if (accepting_) {
      AcceptOnAllSlots();
    }
    StartWaiting();
    orphan_limit_.Arm(kOrphanLimit);
  }

  void Inject(std::string_view point) {
    if (FaultAt("worker", point) != Fault::kNone && channel_) {
      (void)TrySendRecord(channel_->fd(), "garbage", {});
    }
  }

  void OnInit(ControlMessage& message) {
    if (message.fds.size() != 3) {
      return;
    }
    WorkerInit init;
    init.generation = generation_ = NumberOf(message.body, "generation");
    init.slot = slot_ = static_cast<unsigned>(NumberOf(message.body, "slot"));
    init.workers = workers_ = static_cast<unsigned>(NumberOf(message.body, "workers", 1));
    init.row = row_ = static_cast<unsigned>(NumberOf(message.body, "row"));
    counters_ = Duplicate(message.fds[0]);
    init.counters = std::move(message.fds[0]);
    control_listener_ = std::move(message.fds[1]);
    init.error_log = std::move(message.fds[2]);
    Result<> done = handler_.Init(std::move(init));
    if (!done) {
      json answer = MakeControlMessage("rejected");
      answer["id"] = 0;
      answer["diagnostics"] = done.error().ToString() + "\n";
      channel_->Send(answer);
      std::exit(1);
    }
  }

  // After a takeover. Once nobody holds the socket before, a connect there is refused: that tells
  // the successor that it has found all of us.
  void OnControlListener(ControlMessage& message) {
    control_listener_ = message.fds.empty() ? UniqueFd() : std::move(message.fds[0]);
  }

  void OnSockets(ControlMessage& message) {
    const json names = message.body.value("sockets", json::array());
    for (std::size_t i = 0; i < message.fds.size() && i < names.size(); ++i) {
      ListenerSocket socket;
      socket.listener_id = NumberOf(names[i], "listener");
      socket.slot = static_cast<unsigned>(NumberOf(names[i], "slot"));
      socket.fd = std::move(message.fds[i]);
      sockets_[{socket.listener_id, socket.slot}] = Duplicate(socket.fd);
      of_this_round_.emplace_back(socket.listener_id, socket.slot);
      arrived_.push_back(std::move(socket));
    }
  }

  void OnPrepare(ControlMessage& message) {
    PrepareRequest request;
    request.id = NumberOf(message.body, "id");
    for (const json& entry : message.body.value("listeners", json::array())) {
      request.listeners.push_back(PreparedListener{.name = TextOf(entry, "name"),
                                                   .listener_id = NumberOf(entry, "id"),
                                                   .bound = TextOf(entry, "bound"),
                                                   .key = TextOf(entry, "key")});
    }
    request.known_addresses = KnownAddressesOf(message.body, "known_addresses");
    std::vector<PreparedListener> listeners = request.listeners;
    request.sockets = std::exchange(arrived_, {});
    if (message.fds.size() > 1) {
      request.access_log = std::move(message.fds[1]);
    }
    Result<std::string> config =
        message.fds.empty() ? Fail(ErrorKind::kProtocol, "prepare came without a configuration")
                            : ReadMemfd(message.fds[0].get());
    Result<> done;
    if (!config) {
      done = Fail(config.error());
    } else if (Fault fault = FaultAt("worker", "prepare"); fault != Fault::kNone) {
      if (fault == Fault::kGarbage) {
        (void)TrySendRecord(channel_->fd(), "garbage", {});
      }
      done = Fail(ErrorKind::kConfig, "a test asked for this fault");
    } else {
      request.config = std::move(*config);
      done = handler_.Prepare(std::move(request));
    }
    json answer = MakeControlMessage(done ? "prepared" : "rejected");
    answer["id"] = NumberOf(message.body, "id");
    if (done) {
      prepared_listeners_ = std::move(listeners);
    } else {
      answer["diagnostics"] = done.error().ToString() + "\n";
    }
    Send(answer);
  }

  void OnCommit(ControlMessage& message) {
    Inject("commit");
    listeners_ = std::exchange(prepared_listeners_, {});
    of_this_round_.clear();
    committed_ = true;
    handler_.Commit(NumberOf(message.body, "id"));
    json answer = MakeControlMessage("committed");
    answer["id"] = NumberOf(message.body, "id");
    Send(answer);
    serving_fault_.Arm(kServingFault);
  }

  void OnAbandon(ControlMessage& message) {
    // A duplicate would keep an address bound that is not in force.
    for (const auto& key : std::exchange(of_this_round_, {})) {
      sockets_.erase(key);
    }
    arrived_.clear();
    handler_.Abandon(NumberOf(message.body, "id"));
  }
  void OnAccept(ControlMessage& message) {
    accepting_ = !SlotsOf(message.body).empty();
    handler_.Accept(SlotsOf(message.body));
  }
  // Nobody shares slots out while there is no supervisor: should another orphan die, its queues are
  // not left alone.
  void AcceptOnAllSlots() {
    std::set<unsigned> slots;
    for (const auto& [key, fd] : sockets_) {
      slots.insert(key.second);
    }
    handler_.Accept(std::vector<unsigned>(slots.begin(), slots.end()));
  }
  void OnDropListeners(ControlMessage& message) {
    handler_.DropListeners(ListenersOf(message.body));
  }

  void OnDrain(ControlMessage& message) {
    Inject("drain");
    // Nobody accepts here any more: a duplicate would keep the queue of a listener open that all
    // others have closed.
    sockets_.clear();
    handler_.Drain(DrainLimits{.drain = LimitOf(message.body, "drain_seconds"),
                               .drain_tunnels = LimitOf(message.body, "drain_tunnels_seconds"),
                               .close_idle = FlagOf(message.body, "close_idle")});
  }

  void OnHandOver(ControlMessage& message) {
    if (message.fds.size() == 2) {
      handler_.HandOverTo(std::move(message.fds[0]), std::move(message.fds[1]));
    }
  }
  void OnAdoptFrom(ControlMessage& message) {
    const bool knows_of_it = FaultAt("worker", "adopt_from") != Fault::kFail;
    if (message.fds.size() == 2 && knows_of_it) {
      handler_.AdoptFrom(std::move(message.fds[0]), std::move(message.fds[1]));
    }
  }

  void OnQuery(ControlMessage& message) {
    Result<std::string> data =
        handler_.Query(TextOf(message.body, "what"), TextOf(message.body, "argument"));
    json answer = MakeControlMessage("answer");
    answer["id"] = NumberOf(message.body, "id");
    if (data) {
      answer["data"] = json::parse(*data, nullptr, false);
    } else {
      answer["error"] = data.error().ToString();
    }
    Send(answer);
  }

  void OnPing(ControlMessage& message) {
    json answer = MakeControlMessage("pong");
    answer["id"] = NumberOf(message.body, "id");
    Send(answer);
  }

  void OnRotateKeys(ControlMessage& message) {
    Result<TicketRing> keys = message.fds.size() == 1
                                  ? TicketRing::Unpack(message.fds[0].get())
                                  : Fail(ErrorKind::kProtocol, "no ticket keys came");
    if (!keys) {
      LogWarn("the ticket keys stay as they are: {}", keys.error().ToString());
      return;
    }
    keys_ = std::move(message.fds[0]);
    handler_.RotateKeys(std::move(*keys));
  }

  void OnNameFiles(ControlMessage& message) {
    if (message.fds.size() != 2) {
      return;
    }
    Result<std::string> resolv_conf = ReadMemfd(message.fds[0].get());
    Result<std::string> hosts = ReadMemfd(message.fds[1].get());
    if (!resolv_conf || !hosts) {
      LogWarn("resolv.conf and /etc/hosts stay as they were: {}",
              (resolv_conf ? hosts : resolv_conf).error().ToString());
      return;
    }
    handler_.UseNameFiles(
        NameFiles{.resolv_conf = std::move(*resolv_conf), .hosts = std::move(*hosts)});
  }

  void OnReopenLogs(ControlMessage& message) {
    if (!message.fds.empty()) {
      handler_.ReopenLogs(std::move(message.fds[0]),
                          message.fds.size() > 1 ? std::move(message.fds[1]) : UniqueFd());
    }
  }

  void OnLogLevel(ControlMessage& message) {
    double seconds = SecondsOf(message.body, "seconds");
    handler_.SetLogLevel(LogLevelOf(TextOf(message.body, "level")).value_or(LogLevel::kInfo),
                         Duration(static_cast<std::int64_t>(seconds * 1000)));
  }

  // The supervisor is gone. From here on we answer at its address.
  void StartWaiting() {
    if (!control_listener_ || waiting_ != nullptr) {
      return;
    }
    waiting_ = new uv_poll_t;
    waiting_->data = this;
    TG_CHECK(uv_poll_init(loop_.uv(), waiting_, control_listener_.get()) == 0);
    uv_poll_start(waiting_, UV_READABLE, [](uv_poll_t* handle, int, int) {
      static_cast<Body*>(handle->data)->AcceptCandidates();
    });
  }

  void StopWaiting() {
    if (waiting_ != nullptr) {
      uv_close(reinterpret_cast<uv_handle_t*>(std::exchange(waiting_, nullptr)),
               [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
    }
    candidates_.clear();
  }

  // One at a time: other orphans wait on the same socket.
  void AcceptCandidates() {
    UniqueFd fd(::accept4(control_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
      return;
    }
    Result<PeerCredentials> peer = PeerOf(fd.get());
    if (peer && (peer->uid == 0 || peer->uid == ::geteuid())) {
      candidates_.push_back(std::make_unique<ControlChannel>(loop_, std::move(fd), *this));
    }
  }

  void OnCandidate(ControlChannel& channel, const ControlMessage& message) {
    auto held = std::find_if(candidates_.begin(), candidates_.end(),
                             [&](const auto& candidate) { return candidate.get() == &channel; });
    if (held == candidates_.end()) {
      return;
    }
    if (message.type() != "takeover") {
      json result = MakeControlMessage("result");
      result["exit_code"] = 4;
      result["message"] =
          "the supervisor is gone; its workers still serve. Start tidegate again: it takes over";
      result["data"] = json::object();
      channel.Send(result);
      return;
    }
    channel_ = std::move(*held);
    candidates_.erase(held);
    // The socket is kept until the successor has named another: it may die before it has.
    StopWaiting();
    orphan_limit_.Disarm();
    SendAdopted();
    handler_.OnAdopted();
  }

  void SendAdopted() {
    json answer = MakeControlMessage("adopted");
    answer["pid"] = ::getpid();
    answer["version"] = TIDEGATE_VERSION;
    answer["generation"] = generation_;
    answer["slot"] = slot_;
    answer["workers"] = workers_;
    answer["row"] = row_;
    answer["confinement"] = confinement_;
    answer["sockets"] = sockets_.size();
    answer["listeners"] = json::array();
    for (const PreparedListener& listener : listeners_) {
      answer["listeners"].push_back({{"name", listener.name},
                                     {"id", listener.listener_id},
                                     {"bound", listener.bound},
                                     {"key", listener.key}});
    }
    answer["known_addresses"] = handler_.LastAddresses();
    answer["ticket_keys"] = static_cast<bool>(keys_);
    int counters[] = {counters_.get()};
    channel_->Send(answer, counters);
    json batch = json::array();
    std::vector<int> fds;
    auto flush = [&] {
      if (!fds.empty()) {
        json message = MakeControlMessage("sockets");
        message["sockets"] = std::exchange(batch, json::array());
        channel_->Send(message, std::exchange(fds, {}));
      }
    };
    for (const auto& [key, fd] : sockets_) {
      batch.push_back({{"listener", key.first}, {"slot", key.second}});
      fds.push_back(fd.get());
      if (fds.size() == kControlMaxFds - 1) {
        flush();
      }
    }
    flush();
    if (keys_) {
      int keys[] = {keys_.get()};
      channel_->Send(MakeControlMessage("ticket_keys"), keys);
    }
  }

  void OnOrphanLimit() { handler_.Drain(kOrphanDrain); }
  void OnServingFault() { Inject("serving"); }

  Loop& loop_;
  WorkerHandler& handler_;
  // Null while orphaned.
  std::unique_ptr<ControlChannel> channel_;
  std::uint64_t generation_ = 0;
  unsigned slot_ = 0;
  unsigned workers_ = 1;
  unsigned row_ = 0;
  json confinement_;
  bool committed_ = false;
  std::vector<PreparedListener> prepared_listeners_;
  std::vector<PreparedListener> listeners_;
  // Sockets that came and that no Prepare has taken yet.
  std::vector<ListenerSocket> arrived_;
  // Kept for a successor of the supervisor: duplicates of everything that we listen on.
  std::map<std::pair<std::uint64_t, unsigned>, UniqueFd> sockets_;
  // Keys of sockets_ that no commit has confirmed.
  std::vector<std::pair<std::uint64_t, unsigned>> of_this_round_;
  // The last accept named some slots.
  bool accepting_ = false;
  UniqueFd counters_;
  // Packed as they came.
  UniqueFd keys_;
  UniqueFd control_listener_;
  uv_poll_t* waiting_ = nullptr;
  std::list<std::unique_ptr<ControlChannel>> candidates_;
  Deadline orphan_limit_;
  Deadline serving_fault_;
};

ControlClient::ControlClient(Loop& loop, UniqueFd channel, WorkerHandler& handler)
    : body_(std::make_unique<Body>(loop, std::move(channel), handler)) {}

ControlClient::~ControlClient() = default;

void ControlClient::Start(const ConfinementReport& confinement) {
  body_->Start(confinement);
}

void ControlClient::ReportDraining(const DrainProgress& progress) {
  json report = MakeControlMessage("draining");
  report["left"] = progress.left;
  report["tunnels"] = progress.tunnels;
  report["cut"] = progress.cut;
  report["oldest_seconds"] = static_cast<double>(progress.oldest.count()) / 1000.0;
  report["handing_over"] = progress.handing_over;
  for (std::size_t i = 0; i < kMoveKinds.size(); ++i) {
    report["moved"][kMoveKinds[i].word] = progress.moved[i];
  }
  report["declined"] = json::object();
  for (std::size_t i = 0; i < kDeclines.size(); ++i) {
    if (progress.declined[i] > 0) {
      report["declined"][kDeclines[i].word] = progress.declined[i];
    }
  }
  body_->Send(report);
}

void ControlClient::ReportGate(bool open) {
  json report = MakeControlMessage("gate");
  report["open"] = open;
  body_->Send(report);
}

void ControlClient::Released(const std::vector<std::uint64_t>& listener_ids) {
  body_->ForgetListeners(listener_ids);
  json report = MakeControlMessage("released");
  report["listeners"] = listener_ids;
  body_->Send(report);
}

void ControlClient::Resolved(const KnownAddresses& changes) {
  json report = MakeControlMessage("resolved");
  report["addresses"] = changes;
  body_->Send(report);
}

bool ControlClient::orphaned() const {
  return body_->orphaned();
}

void ControlClient::Close() {
  body_->Close();
}

}  // namespace tidegate
