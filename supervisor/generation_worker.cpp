#include "supervisor/generation_worker.h"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <utility>

#include <fmt/format.h>

#include "common/check.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

using nlohmann::json;

// The worker's descriptor for its channel (proxy/control_client.h says the same; the two processes
// share only common/).
constexpr int kChannelFd = 3;

constexpr std::array<std::string_view, 5> kStateNames = {"starting", "prepared", "serving",
                                                         "draining", "exited"};

// From the end of its channel to the end of a worker.
constexpr Duration kExitLimit = std::chrono::seconds(2);

// Row: from; column: to.
constexpr bool kMayBecome[5][5] = {
    {false, true, false, false, true},   // kStarting
    {false, false, true, false, true},   // kPrepared
    {false, false, false, true, true},   // kServing
    {false, false, false, false, true},  // kDraining
    {false, false, false, false, false}  // kExited
};

json LimitOf(Duration limit) {
  return limit == kNever ? json(nullptr) : json(static_cast<double>(limit.count()) / 1000.0);
}

// Its word is bounded: sums of it must not wrap.
std::uint64_t BoundedOf(const json& object, const char* name) {
  return std::min(NumberOf(object, name), kMostCounted);
}

DrainReport DrainReportOf(const json& body) {
  return DrainReport{.left = BoundedOf(body, "left"),
                     .tunnels = BoundedOf(body, "tunnels"),
                     .oldest_seconds = SecondsOf(body, "oldest_seconds"),
                     .cut = BoundedOf(body, "cut"),
                     .known = true,
                     .tells_hand_over = body.contains("handing_over"),
                     .handing_over = FlagOf(body, "handing_over"),
                     .handed_over = HandOverCountsOf(body)};
}

json SaveReport(const DrainReport& report) {
  json saved = {{"left", report.left},
                {"tunnels", report.tunnels},
                {"oldest_seconds", report.oldest_seconds},
                {"cut", report.cut},
                {"moved", MovedJson(report.handed_over)},
                {"declined", DeclinedJson(report.handed_over)}};
  if (report.tells_hand_over) {
    saved["handing_over"] = report.handing_over;
  }
  return saved;
}

}  // namespace

DrainReport RestoreDrainReport(const json& saved) {
  DrainReport report = DrainReportOf(saved);
  report.handed_over = HandOverCountsIn(saved);
  return report;
}

std::string_view NameOf(WorkerState state) {
  return kStateNames[static_cast<std::size_t>(state)];
}

WorkerProcess::WorkerProcess(WorkerSurroundings& surroundings, Owner& owner, unsigned slot,
                             CountersRow row)
    : surroundings_(surroundings),
      owner_(owner),
      slot_(slot),
      row_(row),
      born_(surroundings.loop.now()),
      exit_due_(surroundings.loop.timers(), Bind<&WorkerProcess::OnExitDue>(this)) {}

WorkerProcess::~WorkerProcess() {
  surroundings_.children.Forget(pid_);
}

Duration WorkerProcess::age() const {
  return Duration(static_cast<std::int64_t>(surroundings_.loop.now() - born_));
}

void WorkerProcess::Become(WorkerState next) {
  TG_CHECK(kMayBecome[static_cast<std::size_t>(state_)][static_cast<std::size_t>(next)]);
  state_ = next;
}

Result<> WorkerProcess::Start(const Program& program, const Identity* identity) {
  Result<std::pair<UniqueFd, UniqueFd>> channel = MakeControlPair();
  if (!channel) {
    return Fail(channel.error());
  }
  Result<std::pair<UniqueFd, UniqueFd>> output = ChildOutput::MakePipe();
  if (!output) {
    return Fail(output.error());
  }
  Result<pid_t> pid = Spawn(SpawnRequest{.program = &program,
                                         .argv = {program.path},
                                         .fds = {{channel->second.get(), kChannelFd}},
                                         .output = output->second.get(),
                                         .identity = identity});
  if (!pid) {
    return Fail(pid.error());
  }
  Adopt(*pid, std::move(channel->first), std::move(output->first), WorkerState::kStarting,
        UnixTime(), true);
  hello_seen_ = false;
  return {};
}

void WorkerProcess::Adopt(pid_t pid, UniqueFd channel, UniqueFd output, WorkerState state,
                          double started, bool is_child) {
  pid_ = pid;
  state_ = state;
  started_ = started;
  is_child_ = is_child;
  hello_seen_ = true;
  channel_ = std::make_unique<ControlChannel>(surroundings_.loop, std::move(channel), *this);
  if (output) {
    output_ = std::make_unique<ChildOutput>(surroundings_.loop, std::move(output));
  }
  if (is_child) {
    surroundings_.children.Watch(pid, [this](int status) { OnExit(status); });
  }
}

void WorkerProcess::SendInit(std::uint64_t generation, unsigned workers) {
  json message = MakeControlMessage("init");
  message["generation"] = generation;
  message["slot"] = slot_;
  message["workers"] = workers;
  message["row"] = row_.row;
  int fds[] = {surroundings_.counters.memfd(), surroundings_.control_listener,
               surroundings_.logs.error_fd()};
  channel_->Send(message, fds);
}

void WorkerProcess::SendKeys() {
  if (!channel_ || !hello_seen_) {
    return;
  }
  Result<UniqueFd> keys = surroundings_.keys.Pack();
  if (!keys) {
    // It goes on with those that it has.
    LogEvent(LogLevel::kError, keys.error().ToString());
    return;
  }
  int fds[] = {keys->get()};
  channel_->Send(MakeControlMessage("rotate_keys"), fds);
}

void WorkerProcess::SendNameFiles() {
  const NameFilesOwner& files = surroundings_.name_files;
  if (channel_ && hello_seen_ && sent_name_files_ != files.version()) {
    sent_name_files_ = files.version();
    channel_->Send(MakeControlMessage("name_files"), files.fds());
  }
}

void WorkerProcess::SendSockets(const PrepareRound& round) {
  json batch = json::array();
  std::vector<int> fds;
  auto flush = [&] {
    if (!fds.empty()) {
      json message = MakeControlMessage("sockets");
      message["sockets"] = std::exchange(batch, json::array());
      channel_->Send(message, std::exchange(fds, {}));
    }
  };
  for (const ListenerInForce& listener : round.listeners) {
    const ListenerSockets* sockets = surroundings_.listeners.Find(listener.id);
    if (sockets == nullptr) {
      continue;
    }
    unsigned count = surroundings_.listeners.SlotsToSend(*sockets);
    for (unsigned slot = 0; slot < count; ++slot) {
      bool listens = sockets->repeated ? sockets->listening > 0 : slot < sockets->listening;
      if ((!listens && !round.with_new_sockets) ||
          !sent_sockets_.emplace(listener.id, slot).second) {
        continue;
      }
      batch.push_back({{"listener", listener.id}, {"slot", slot}});
      fds.push_back(surroundings_.listeners.SlotFd(*sockets, slot));
      if (fds.size() == kControlMaxFds - 1) {
        flush();
      }
    }
  }
  flush();
}

void WorkerProcess::SendPrepare(const PrepareRound& round) {
  if (!channel_) {
    return;
  }
  // It begins with its names at once.
  surroundings_.name_files.Look();
  SendNameFiles();
  SendSockets(round);
  prepared_id_ = 0;
  json message = MakeControlMessage("prepare");
  message["id"] = round.id;
  message["listeners"] = json::array();
  for (const ListenerInForce& listener : round.listeners) {
    const ListenerSockets* sockets = surroundings_.listeners.Find(listener.id);
    if (sockets != nullptr) {
      message["listeners"].push_back({{"name", listener.name},
                                      {"id", listener.id},
                                      {"bound", sockets->bound},
                                      {"key", sockets->key}});
    }
  }
  message["access_log"] = round.access_fd >= 0;
  message["known_addresses"] = round.known_addresses;
  std::vector<int> fds = {round.config_memfd};
  if (round.access_fd >= 0) {
    fds.push_back(round.access_fd);
  }
  channel_->Send(message, fds);
}

void WorkerProcess::SendCommit(std::uint64_t id) {
  if (channel_) {
    json message = MakeControlMessage("commit");
    message["id"] = id;
    channel_->Send(message);
    // A commit puts the configuration's level in force.
    SendLogLevel();
  }
}

void WorkerProcess::SendAbandon(std::uint64_t id) {
  if (channel_) {
    json message = MakeControlMessage("abandon");
    message["id"] = id;
    channel_->Send(message);
  }
}

void WorkerProcess::SendAccept(const std::vector<unsigned>& slots) {
  if (channel_ && sent_slots_ != slots) {
    json message = MakeControlMessage("accept");
    message["slots"] = slots;
    channel_->Send(message);
    sent_slots_ = slots;
  }
}

void WorkerProcess::SendDropListeners(const std::vector<std::uint64_t>& listeners) {
  if (channel_) {
    json message = MakeControlMessage("drop_listeners");
    message["listeners"] = listeners;
    channel_->Send(message);
    std::erase_if(sent_sockets_, [&](const auto& entry) {
      return std::find(listeners.begin(), listeners.end(), entry.first) != listeners.end();
    });
  }
}

void WorkerProcess::SendDrain(Duration drain, Duration drain_tunnels, bool close_idle) {
  if (channel_) {
    json message = MakeControlMessage("drain");
    message["drain_seconds"] = LimitOf(drain);
    message["drain_tunnels_seconds"] = LimitOf(drain_tunnels);
    message["close_idle"] = close_idle;
    channel_->Send(message);
  }
}

void WorkerProcess::SendEnds(std::string_view type, const char* peer_field, std::string_view peer,
                             int channel, int lifeline) {
  if (channel_) {
    json message = MakeControlMessage(type);
    message[peer_field] = peer;
    int fds[] = {channel, lifeline};
    channel_->Send(message, fds);
  }
}

void WorkerProcess::SendAdoptFrom(std::string_view from, int channel, int lifeline) {
  SendEnds("adopt_from", "from", from, channel, lifeline);
}

void WorkerProcess::SendHandOver(std::string_view to, int channel, int lifeline) {
  SendEnds("hand_over", "to", to, channel, lifeline);
}

void WorkerProcess::SendReopenLogs() {
  if (channel_ && hello_seen_) {
    int access = surroundings_.logs.access_fd();
    json message = MakeControlMessage("reopen_logs");
    message["access_log"] = access >= 0;
    std::vector<int> fds = {surroundings_.logs.error_fd()};
    if (access >= 0) {
      fds.push_back(access);
    }
    channel_->Send(message, fds);
  }
}

void WorkerProcess::SendLogLevel() {
  const auto& by_hand = surroundings_.logs.level_by_hand();
  if (!channel_ || !by_hand) {
    return;
  }
  json message = MakeControlMessage("loglevel");
  message["level"] = NameOf(by_hand->level);
  TimePoint now = surroundings_.loop.now();
  bool ends = by_hand->until != LogFiles::LevelByHand::kNoEnd;
  // Zero means for good.
  TimePoint left = by_hand->until > now ? by_hand->until - now : 1;
  message["seconds"] = ends ? static_cast<double>(left) / 1000.0 : 0.0;
  channel_->Send(message);
}

void WorkerProcess::Ask(std::string_view what, std::string_view argument, Answer answer) {
  if (!channel_ || state_ == WorkerState::kExited) {
    answer(nullptr);
    return;
  }
  json message = MakeControlMessage("query");
  message["id"] = next_question_;
  message["what"] = what;
  message["argument"] = argument;
  questions_[next_question_++] = std::move(answer);
  channel_->Send(message);
}

void WorkerProcess::Kill() {
  // An adopted process is ours to kill only while its end of the channel is open: then it lives.
  if (state_ != WorkerState::kExited && (is_child_ || channel_)) {
    ::kill(pid_, SIGKILL);
  }
}

void WorkerProcess::OnControlMessage(ControlChannel&, ControlMessage message) {
  const json& body = message.body;
  std::string type = message.type();
  if (type == "hello") {
    hello_seen_ = true;
    confinement_ = ConfinementReportOf(body.value("confinement", json()));
    owner_.OnHello(*this);
  } else if (type == "prepared") {
    prepared_id_ = NumberOf(body, "id");
    owner_.OnPrepared(*this, prepared_id_);
  } else if (type == "rejected") {
    owner_.OnRejected(*this, TextOf(body, "diagnostics"));
  } else if (type == "committed") {
    owner_.OnCommitted(*this, NumberOf(body, "id"));
  } else if (type == "released") {
    owner_.OnReleased(*this, NumbersOf(body, "listeners"));
  } else if (type == "draining") {
    drain_report_ = DrainReportOf(body);
    owner_.OnDraining(*this);
  } else if (type == "gate") {
    gate_open_ = FlagOf(body, "open");
    owner_.OnGate(*this);
  } else if (type == "resolved") {
    owner_.OnResolved(*this, KnownAddressesOf(body, "addresses"));
  } else if (type == "answer") {
    auto question = questions_.extract(NumberOf(body, "id"));
    if (!question.empty()) {
      question.mapped()(body.contains("data") ? body["data"] : json(nullptr));
    }
  }
}

void WorkerProcess::OnControlClosed(ControlChannel& channel, const Error& reason) {
  bool spoke_nonsense = reason.kind() == ErrorKind::kProtocol;
  if (!is_child_) {
    std::unique_ptr<ControlChannel> held = std::move(channel_);
    if (spoke_nonsense) {
      ::kill(pid_, SIGKILL);
    }
    Gone("has gone", state_ == WorkerState::kDraining && !spoke_nonsense);
    return;
  }
  (void)channel;
  // It exits, or it does not speak to us any more: either way it has no use.
  if (reason.kind() != ErrorKind::kClosed) {
    killed_because_ = reason.ToString();
    Kill();
  } else {
    exit_due_.Arm(kExitLimit);
  }
}

void WorkerProcess::OnExitDue() {
  killed_because_ = "it closed its channel and did not exit";
  Kill();
}

void WorkerProcess::OnExit(int status) {
  // What it said last may still be unread.
  if (channel_ && channel_->is_open()) {
    UniqueFd fd = channel_->Release();
    while (true) {
      Result<ControlMessage> message = ReceiveControl(fd.get(), Duration::zero());
      if (!message) {
        break;
      }
      OnControlMessage(*channel_, std::move(*message));
    }
  }
  std::string how = DescribeExit(status);
  if (!killed_because_.empty()) {
    how = "was killed: " + killed_because_;
  }
  Gone(how, WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void WorkerProcess::Gone(const std::string& how, bool clean) {
  if (state_ == WorkerState::kExited) {
    return;
  }
  channel_.reset();
  CountWhatMovedUnsaid();
  surroundings_.counters.Fold(row_);
  for (auto& [id, answer] : std::exchange(questions_, {})) {
    answer(nullptr);
  }
  WorkerState before = state_;
  Become(WorkerState::kExited);
  owner_.OnWorkerGone(*this, how, clean && before == WorkerState::kDraining);
}

// Connections of clients that have moved since its last report live on: its counters, which outlive
// it, know of them. No more than were left then can have.
void WorkerProcess::CountWhatMovedUnsaid() {
  DrainReport& report = drain_report_;
  for (std::size_t i = 0; report.tells_hand_over && i < kMoveKinds.size(); ++i) {
    if (kMoveKinds[i].counter == CounterId::kHandedOverUpstream) {
      continue;
    }
    std::uint64_t counted = surroundings_.counters.Get(row_, kMoveKinds[i].counter);
    std::uint64_t& said = report.handed_over.moved[i];
    std::uint64_t unsaid = std::min(counted - std::min(counted, said), report.left);
    said += unsaid;
    report.left -= unsaid;
  }
}

json WorkerProcess::Save(std::vector<int>& fds) const {
  json sockets = json::array();
  for (const auto& [listener, slot] : sent_sockets_) {
    sockets.push_back({listener, slot});
  }
  json state = {{"slot", slot_},
                {"pid", pid_},
                {"child", is_child_},
                {"state", static_cast<int>(state_)},
                {"started", started_},
                {"memory", row_.memory_id},
                {"row", row_.row},
                {"channel", channel_ ? channel_->fd() : -1},
                {"output", output_ ? output_->fd() : -1},
                {"sockets", sockets},
                {"born_ms", born_},
                {"gate_open", gate_open_},
                {"prepared_id", prepared_id_}};
  if (confinement_) {
    state["confinement"] = ConfinementJson(*confinement_);
  }
  if (sent_slots_) {
    state["slots"] = *sent_slots_;
  }
  if (drain_report_.known) {
    state["drain"] = SaveReport(drain_report_);
  }
  for (const char* name : {"channel", "output"}) {
    if (state[name].get<int>() >= 0) {
      fds.push_back(state[name].get<int>());
    }
  }
  return state;
}

void WorkerProcess::RestoreSent(const json& state) {
  for (const json& entry : state.at("sockets")) {
    sent_sockets_.emplace(entry.at(0).get<std::uint64_t>(), entry.at(1).get<unsigned>());
  }
  if (state.contains("slots")) {
    sent_slots_ = state["slots"].get<std::vector<unsigned>>();
  }
  if (state.contains("drain")) {
    drain_report_ = RestoreDrainReport(state["drain"]);
  }
  confinement_ = ConfinementReportOf(state.value("confinement", json()));
  born_ = state.value("born_ms", born_);
  gate_open_ = state.value("gate_open", true);
  prepared_id_ = state.at("prepared_id").get<std::uint64_t>();
}

}  // namespace tidegate
