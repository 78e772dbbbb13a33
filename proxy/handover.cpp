#include "proxy/handover.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "common/log.h"
#include "common/test_fault.h"

namespace tidegate {
namespace {

using nlohmann::json;

// How long a successor may take for an answer: connections wait for it, and nobody reads them. And
// how long we wait for another one when it is gone.
constexpr Duration kAnswerLimit = std::chrono::seconds(2);
constexpr Duration kSuccessorLimit = std::chrono::seconds(2);
// Less than there could be: each waits until all of its batch have been taken, and for whatever the
// other worker is busy with. So those who have spoken lately go a few at a time.
constexpr std::size_t kInABatch = kMostInABatch / 2;
constexpr std::size_t kActiveInABatch = 8;
// Clients that have moved need them at once, those that have not still do.
constexpr std::size_t kPooledInABatch = 4;
// The exchanges of both workers, and whoever else shares their cores, get at least as much time as
// a batch takes.
constexpr Duration kPause = std::chrono::milliseconds(1);
// A tunnel is several tasks, which end one after the other.
constexpr unsigned kMostWaits = 16;

}  // namespace

HandOver::HandOver(Services& services, SessionList& sessions, Owner& owner)
    : services_(services),
      sessions_(sessions),
      owner_(owner),
      offer_due_(Bind<&HandOver::Offer>(this)),
      pause_(services.loop.timers(), Bind<&HandOver::Poke>(this)),
      patience_(services.loop.timers(), Bind<&HandOver::OnPatienceOver>(this)) {}

HandOver::~HandOver() = default;

void HandOver::SetSuccessor(UniqueFd channel, UniqueFd lifeline) {
  GiveUp();
  if (stopped_) {
    return;
  }
  channel_ = std::make_unique<ControlChannel>(services_.loop, std::move(channel), *this);
  lifeline_ = std::move(lifeline);
  if (begun_) {
    swept_ = false;
    Begin();
  }
}

void HandOver::Begin() {
  begun_ = true;
  if (channel_ == nullptr) {
    Settle();
    return;
  }
  sessions_.CloseOrMove(*this);
  if (!ready_) {
    patience_.Arm(kAnswerLimit);
  }
  Poke();
}

void HandOver::Expire() {
  if (!in_flight_.empty()) {
    LoseSuccessor();
  }
}

void HandOver::Stop() {
  stopped_ = begun_ = true;
  Settle();
}

void HandOver::Settle() {
  GiveUp();
  sessions_.CloseAfterExchange();
  Sweep();
}

void HandOver::Poke() {
  if (offering() && !offer_due_.posted() && !pause_.armed()) {
    Collect();
  }
}

bool HandOver::HasRoom() const {
  return offering() && next_.size() + asked_ < kInABatch;
}

void HandOver::Take(MovingConnection connection, bool was_asked) {
  asked_ -= std::min<std::size_t>(asked_, was_asked ? 1 : 0);
  sessions_.AddMoving();
  if (!ready_) {
    Return(std::move(connection));
    return;
  }
  next_.emplace_back(std::move(connection));
  offer_due_.Post();
}

void HandOver::OnRefused() {
  asked_ -= std::min<std::size_t>(asked_, 1);
}

// --- a batch

// Sessions leave by their own tasks, before the offer is due.
void HandOver::Collect() {
  CollectPooled();
  sessions_.ForEach([this](Session& session) {
    if (asked_ < kActiveInABatch && session.Leave()) {
      ++asked_;
    }
  });
  // Who waits for nothing does not make others wait longer.
  while (asked_ == 0 && HasRoom()) {
    std::optional<IdleConnection> parked = sessions_.parking().TakeMovable();
    if (!parked) {
      break;
    }
    sessions_.AddMoving();
    next_.emplace_back(
        MovingConnection{.idle = std::move(*parked), .unread = {}, .tunnel = {}, .parks = true});
  }
  offer_due_.Post();
}

void HandOver::CollectPooled() {
  if (services_.snapshot == nullptr) {
    return;
  }
  std::size_t count = 0;
  for (const auto& [name, upstream] : services_.snapshot->upstreams()) {
    while (count < kPooledInABatch && HasRoom()) {
      std::optional<Upstream::IdleUpstream> idle = upstream->DetachIdle();
      if (!idle) {
        break;
      }
      ++count;
      next_.emplace_back(MovingUpstream{.upstream = name,
                                        .endpoint = upstream->endpoint_name(idle->endpoint),
                                        .fd = std::move(idle->fd),
                                        .patience = idle->patience});
    }
  }
}

bool HandOver::Fits(const Moving& moving, std::size_t taken) const {
  return taken + DescriptorsOf(moving) <= room_;
}

void HandOver::Offer() {
  if (!offering()) {
    return;
  }
  if (asked_ > 0 && ++waits_ < kMostWaits) {
    offer_due_.Post();
    return;
  }
  waits_ = 0;
  HandOverWriter writer;
  std::size_t descriptors = 0;
  std::vector<Moving> waiting = std::exchange(next_, {});
  for (Moving& moving : waiting) {
    if (writer.full()) {
      next_.push_back(std::move(moving));
    } else if (!Fits(moving, descriptors)) {
      Keep(std::move(moving), Decline::kDescriptors);
    } else {
      descriptors += DescriptorsOf(moving);
      writer.Add(moving, services_.loop.now());
      in_flight_.push_back(std::move(moving));
    }
  }
  if (in_flight_.empty()) {
    if (!waiting.empty()) {
      pause_.Arm(kPause);
    } else {
      Sweep();
    }
    return;
  }
  json offer = MakeControlMessage("offer");
  offer["batch"] = ++batch_;
  offer["record"] = kHandOverRecord;
  offer["connections"] = writer.connections();
  std::vector<int> fds;
  UniqueFd octets;
  if (!writer.octets().empty()) {
    Result<UniqueFd> memfd = MakeMemfd("tidegate-hand-over", writer.octets());
    if (!memfd) {
      LogWarn("live connections stay here: {}", memfd.error().ToString());
      Settle();
      return;
    }
    octets = std::move(*memfd);
    offer["octets"] = true;
    fds.push_back(octets.get());
  }
  fds.insert(fds.end(), writer.fds().begin(), writer.fds().end());
  FaultAt("worker", "offer");
  patience_.Arm(kAnswerLimit);
  channel_->Send(offer, fds);
  FaultAt("worker", "offered");
}

void HandOver::OnAnswer(const json& answer) {
  if (in_flight_.empty() || NumberOf(answer, "batch") != batch_) {
    LogWarn("the newer worker answers what it was not asked: live connections stay here");
    Settle();
    return;
  }
  patience_.Disarm();
  room_ = NumberOf(answer, "room");
  std::map<std::uint64_t, Decline> declined;
  const json reasons = answer.value("declined", json::array());
  for (const json& entry : reasons) {
    declined.emplace(NumberOf(entry, "index", kMostInABatch), DeclineOf(TextOf(entry, "reason")));
  }
  std::vector<Moving> accepted;
  std::vector<std::pair<Moving, Decline>> kept;
  std::vector<Moving> batch = std::exchange(in_flight_, {});
  for (std::size_t i = 0; i < batch.size(); ++i) {
    auto reason = declined.find(i);
    if (reason == declined.end()) {
      accepted.push_back(std::move(batch[i]));
    } else {
      kept.emplace_back(std::move(batch[i]), reason->second);
    }
  }
  Commit(std::move(accepted));
  for (auto& [moving, why] : kept) {
    Keep(std::move(moving), why);
  }
  if (channel_ == nullptr) {
    return;
  }
  if (!next_.empty()) {
    offer_due_.Post();
  }
  if (!pause_.armed()) {
    pause_.Arm(kPause);
  }
}

void HandOver::Commit(std::vector<Moving> accepted) {
  json commit = MakeControlMessage("commit");
  commit["batch"] = batch_;
  FaultAt("worker", "hand_over");
  const bool is_sent = channel_->Send(commit);
  if (!is_sent || !channel_->is_flushed()) {
    // It has died since it answered, or reads nothing more: it is not to have them.
    in_flight_ = std::move(accepted);
    LoseSuccessor();
    return;
  }
  FaultAt("worker", "handed_over");
  for (const Moving& moving : accepted) {
    const MoveKind kind = KindOf(moving);
    ++moved_[static_cast<std::size_t>(kind)];
    services_.counters.Add(RowOf(kind).counter);
    if (const auto* connection = std::get_if<MovingConnection>(&moving)) {
      sessions_.RemoveMoving();
      owner_.OnMoved(connection->idle.client);
    }
  }
}

void HandOver::Keep(Moving moving, Decline why) {
  ++declined_[static_cast<std::size_t>(why)];
  services_.counters.Add(RowOf(why).counter);
  if (auto* connection = std::get_if<MovingConnection>(&moving)) {
    connection->idle.stays = true;
    Return(std::move(moving));
  }
  // An idle connection of a pool is of no more use here.
}

void HandOver::Return(Moving moving) {
  if (auto* connection = std::get_if<MovingConnection>(&moving)) {
    sessions_.RemoveMoving();
    owner_.TakeBack(std::move(*connection));
    return;
  }
  PutIntoPool(*services_.snapshot, std::move(std::get<MovingUpstream>(moving)));
}

// --- the successor

void HandOver::OnControlMessage(ControlChannel&, ControlMessage message) {
  const std::string type = message.type();
  if (type == "ready") {
    ready_ = true;
    room_ = NumberOf(message.body, "room");
    patience_.Disarm();
    Poke();
  } else if (type == "answer") {
    OnAnswer(message.body);
  }
}

void HandOver::OnControlClosed(ControlChannel&, const Error&) {
  LoseSuccessor();
}

void HandOver::OnPatienceOver() {
  if (channel_ != nullptr) {
    LogWarn("the newer worker does not answer: live connections stay here");
    LoseSuccessor();
  } else {
    Settle();
  }
}

// A worker that died is started again, and the supervisor tells us. One that knows nothing of all
// this goes as well, before it was ready; that we wait then, too, nobody notices.
void HandOver::LoseSuccessor() {
  GiveUp();
  if (begun_) {
    patience_.Arm(kSuccessorLimit);
  }
}

void HandOver::GiveUp() {
  ready_ = false;
  offer_due_.TakeBack();
  pause_.Disarm();
  patience_.Disarm();
  if (lifeline_) {
    // A pipe has room for it, and who reads it may be gone.
    (void)!::write(lifeline_.get(), "x", 1);
    lifeline_.Reset();
  }
  channel_.reset();
  std::vector<Moving> back = std::exchange(in_flight_, {});
  for (Moving& moving : back) {
    // A successor that hangs has its descriptors until it goes on.
    if (auto* connection = std::get_if<MovingConnection>(&moving)) {
      connection->idle.shared = true;
      if (connection->tunnel != nullptr) {
        connection->tunnel->shared = true;
      }
    }
  }
  std::ranges::move(next_, std::back_inserter(back));
  next_.clear();
  for (Moving& moving : back) {
    Return(std::move(moving));
  }
}

void HandOver::Sweep() {
  if (!std::exchange(swept_, true)) {
    owner_.OnSwept();
  }
}

}  // namespace tidegate
