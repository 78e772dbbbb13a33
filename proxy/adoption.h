#pragma once

// The new worker's side of a hand-over: what one old worker offers is taken, or declined (see
// proxy/handover.h for the other side).
//
//   1. What was taken is not read before the old worker commits it, or has died.
//   2. If the old worker gives up, what it has not committed is closed here, and it goes on there.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <uv.h>

#include "common/control.h"
#include "proxy/handover_record.h"
#include "proxy/services.h"
#include "proxy/session.h"

namespace tidegate {

class Adoption final : public ControlChannel::Handler {
 public:
  class Owner {
   public:
    // Descriptors that connections may take here.
    virtual std::uint64_t DescriptorRoom() const = 0;
    // Why no connection of this client is taken now; if there is no reason, it counts from now on.
    virtual std::optional<Decline> Admit(const ClientInfo& client) = 0;
    // One that was admitted begins here; or does not, after all.
    virtual void Adopt(MovingConnection connection) = 0;
    virtual void OnDropped(const ClientInfo& client) = 0;
    // Nothing comes any more. May destroy the adoption.
    virtual void OnAdoptionOver(Adoption& adoption) = 0;

   protected:
    ~Owner() = default;
  };

  // `services`, `sessions` and `owner` outlive this. Says that it is ready.
  Adoption(Services& services, SessionList& sessions, Owner& owner, UniqueFd channel,
           UniqueFd lifeline);
  Adoption(const Adoption&) = delete;
  Adoption& operator=(const Adoption&) = delete;
  ~Adoption();

 private:
  // What becomes of what was not committed, once the channel has ended.
  enum class Lifeline : std::uint8_t { kOpen, kGaveUp, kDied };
  struct Watch {
    uv_poll_t handle;
    Adoption* adoption;
    UniqueFd fd;
  };

  void OnControlMessage(ControlChannel& channel, ControlMessage message) override;
  void OnControlClosed(ControlChannel& channel, const Error& reason) override;
  void OnOffer(ControlMessage& message);
  std::optional<Decline> TakeOne(OfferedConnection& offered);
  std::optional<Decline> TakeConnection(OfferedConnection& offered);
  std::optional<Decline> TakePooled(OfferedConnection& offered);
  void OnLifeline();
  void Begin();
  void Drop();
  void EndIfOver();

  Services& services_;
  SessionList& sessions_;
  Owner& owner_;
  std::unique_ptr<ControlChannel> channel_;
  // Freed by its close callback.
  Watch* watch_;
  Lifeline lifeline_ = Lifeline::kOpen;
  // Taken and not committed.
  std::vector<Moving> held_;
  std::uint64_t batch_ = 0;
};

}  // namespace tidegate
