#pragma once

// The old worker's side of a hand-over: live connections go to a newer one, in batches, over a
// channel that the supervisor made (common/control_messages.h, section 3; DESIGN section 5).
//
//   1. What is offered is read by nobody. Before it is read here again, the other side knows, by an
//   octet in the lifeline, that it will not be committed.
//   2. What is committed has no descriptor here.
//   3. One batch is under way, and nobody waits for the next one: a session that ends its exchange
//   meanwhile goes on here until it is asked.
//   4. If the successor is gone, everything goes on here. If another one comes soon, nobody has
//   noticed; otherwise the drain is the ordinary one.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/control.h"
#include "proxy/handover_record.h"
#include "proxy/net/posted_callback.h"
#include "proxy/session.h"

namespace tidegate {

class HandOver final : public SessionMover, public ControlChannel::Handler {
 public:
  class Owner {
   public:
    // One that was taken out and is ours after all.
    virtual void TakeBack(MovingConnection connection) = 0;
    // A connection of this client is the other worker's now.
    virtual void OnMoved(const ClientInfo& client) = 0;
    // handing_over() has become false.
    virtual void OnSwept() = 0;

   protected:
    ~Owner() = default;
  };
  using Moved = std::array<std::uint64_t, kMoveKinds.size()>;
  using Declined = std::array<std::uint64_t, kDeclines.size()>;

  // All outlive this.
  HandOver(Services& services, SessionList& sessions, Owner& owner);
  ~HandOver();

  // Where connections go from Begin on; before or after it. Takes the place of one before.
  void SetSuccessor(UniqueFd channel, UniqueFd lifeline);
  bool has_successor() const { return channel_ != nullptr; }
  // The drain has begun: the sessions are told what becomes of them.
  void Begin();
  // Connections may have come to where they can move.
  void Poke();
  // The deadline of the drain: what a silent successor was offered is taken back now.
  void Expire();
  // At a stop: nothing moves any more.
  void Stop();

  // What could move at the beginning has not been offered yet.
  bool handing_over() const { return begun_ && !swept_; }
  const Moved& moved() const { return moved_; }
  const Declined& declined() const { return declined_; }

  bool HasRoom() const override;
  void Take(MovingConnection connection, bool was_asked) override;
  void OnRefused() override;

 private:
  void OnControlMessage(ControlChannel& channel, ControlMessage message) override;
  void OnControlClosed(ControlChannel& channel, const Error& reason) override;
  bool offering() const { return begun_ && ready_ && in_flight_.empty(); }
  void Collect();
  void CollectPooled();
  void Offer();
  void OnAnswer(const nlohmann::json& answer);
  // They stay in flight if the successor is gone.
  void Commit(std::vector<Moving> accepted);
  // Its place in the descriptors that the successor has; one that does not fit stays.
  bool Fits(const Moving& moving, std::size_t taken) const;
  void Keep(Moving moving, Decline why);
  void Return(Moving moving);
  // The channel ends: everything that was not committed is ours.
  void GiveUp();
  void LoseSuccessor();
  void OnPatienceOver();
  // The drain is the ordinary one, unless another successor comes.
  void Settle();
  void Sweep();

  Services& services_;
  SessionList& sessions_;
  Owner& owner_;
  std::unique_ptr<ControlChannel> channel_;
  UniqueFd lifeline_;
  // Sends what has been taken out, when those who were asked to leave have done so.
  PostedCallback offer_due_;
  // Between two batches that we ask for.
  Deadline pause_;
  // The successor says it is ready, answers, or is replaced by then.
  Deadline patience_;
  std::vector<Moving> next_;
  std::vector<Moving> in_flight_;
  // Sessions that were asked to leave and have not said whether they do.
  std::size_t asked_ = 0;
  // How often an offer has waited for them.
  unsigned waits_ = 0;
  std::uint64_t batch_ = 0;
  std::uint64_t room_ = 0;
  Moved moved_{};
  Declined declined_{};
  bool ready_ = false;
  bool begun_ = false;
  bool swept_ = false;
  bool stopped_ = false;
};

}  // namespace tidegate
