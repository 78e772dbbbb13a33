// Live connections that go to a newer worker, or come from an older one.

#include <utility>

#include "proxy/worker.h"

namespace tidegate {

void Worker::HandOverTo(UniqueFd channel, UniqueFd lifeline) {
  hand_over_.SetSuccessor(std::move(channel), std::move(lifeline));
}

void Worker::AdoptFrom(UniqueFd channel, UniqueFd lifeline) {
  // Without a configuration there is nobody to serve with.
  if (services_.snapshot != nullptr) {
    adoptions_.push_back(std::make_unique<Adoption>(services_, sessions_, *this, std::move(channel),
                                                    std::move(lifeline)));
  }
}

std::optional<Decline> Worker::Admit(const ClientInfo& client) {
  if (draining_ && (!hand_over_.has_successor() || drain_over_ || sessions_.closes_idle())) {
    return Decline::kDraining;
  }
  if (!gate_.open()) {
    return gate_.at_limit() ? Decline::kLimits : Decline::kDescriptors;
  }
  if (!peers_.Enter(client.network)) {
    return Decline::kLimits;
  }
  sessions_.AddMoving();
  CountForGate();
  return std::nullopt;
}

void Worker::OnDropped(const ClientInfo& client) {
  sessions_.RemoveMoving();
  peers_.Leave(client.network);
  CountForGate();
  if (draining_) {
    CheckDrained();
  }
}

void Worker::Adopt(MovingConnection connection) {
  counters_.Add(CounterId::kConnectionsActive);
  sessions_.RemoveMoving();
  TakeBack(std::move(connection));
}

void Worker::OnAdoptionOver(Adoption& adoption) {
  std::erase_if(adoptions_, [&](const auto& held) { return held.get() == &adoption; });
}

void Worker::TakeBack(MovingConnection connection) {
  const bool must_end = drain_over_ || sessions_.closes_idle();
  if (connection.parks && !must_end) {
    sessions_.parking().Park(std::move(connection.idle));
  } else {
    auto session = std::make_unique<Session>(services_, sessions_, std::move(connection));
    CutLate(*session);
    if (sessions_.closes_idle()) {
      session->CloseNow();
    }
    scope_.Start(RunSession(std::move(session)));
  }
  CountForTrim();
}

void Worker::OnSwept() {
  ReportDraining();
  moved_due_.Arm(Duration::zero());
}

void Worker::OnMoved(const ClientInfo& client) {
  counters_.Subtract(CounterId::kConnectionsActive);
  peers_.Leave(client.network);
  CountForGate();
  // Its end may be that of the drain: later, when the caller is done.
  moved_due_.Arm(Duration::zero());
}

}  // namespace tidegate
