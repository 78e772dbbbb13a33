#pragma once

// Two workers in one loop: the old one is a ProxyRig, and the new one stands beside it.

#include <fcntl.h>

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "proxy/adoption.h"
#include "proxy/handover.h"
#include "tests/support/proxy_rig.h"

namespace tidegate {

class HandOverRig : public ProxyRig, public HandOver::Owner {
 protected:
  // What a newer worker does with what it adopts.
  struct NewWorker final : SessionResumer, Adoption::Owner {
    explicit NewWorker(Loop& loop, BufferPool& buffers)
        : services{.loop = loop, .buffers = buffers, .counters = counters},
          sessions(services, *this) {}
    void ResumeSession(IdleConnection connection) override {
      Start(std::make_unique<Session>(services, sessions, std::move(connection)));
    }
    std::uint64_t DescriptorRoom() const override { return room; }
    std::optional<Decline> Admit(const ClientInfo&) override {
      if (why) {
        return why;
      }
      sessions.AddMoving();
      ++admitted;
      return std::nullopt;
    }
    void Adopt(MovingConnection connection) override {
      sessions.RemoveMoving();
      ++adopted;
      if (connection.parks) {
        sessions.parking().Park(std::move(connection.idle));
      } else {
        Start(std::make_unique<Session>(services, sessions, std::move(connection)));
      }
    }
    void OnDropped(const ClientInfo&) override {
      sessions.RemoveMoving();
      ++dropped;
    }
    void OnAdoptionOver(Adoption&) override { over = true; }
    void Start(std::unique_ptr<Session> session) { scope.Start(Run(std::move(session))); }
    static Task<void> Run(std::unique_ptr<Session> session) { co_await session->Run(); }

    Counters counters;
    Services services;
    SessionList sessions;
    TaskScope scope;
    std::uint64_t room = 1000;
    std::optional<Decline> why;
    int admitted = 0;
    int adopted = 0;
    int dropped = 0;
    bool over = false;
  };

  void SetUp() override {
    Configure(R"({"listeners": [{"name": "default", "bind": "127.0.0.1:1"}],
                  "upstreams": {"app": {"endpoints": ["ORIGIN"]}},
                  "routes": [{"name": "site", "path": "/", "upstream": "app"}]})");
    ConfigureNew();
  }
  // The new worker gets what was configured last, with upstreams of its own.
  void ConfigureNew() { newer.services.snapshot = std::exchange(services.snapshot, nullptr); }

  static std::pair<UniqueFd, UniqueFd> Lifeline() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
  }
  // Makes the pair and begins.
  void HandItOver() {
    auto channel = MakeControlPair();
    auto [reading, writing] = Lifeline();
    adoption.emplace(newer.services, newer.sessions, newer, std::move(channel->first),
                     std::move(reading));
    handover.SetSuccessor(std::move(channel->second), std::move(writing));
    handover.Begin();
  }

  void TakeBack(MovingConnection connection) override {
    ++taken_back;
    if (connection.parks) {
      sessions.parking().Park(std::move(connection.idle));
    } else {
      scope.Start(RunResumed(std::make_unique<Session>(services, sessions, std::move(connection))));
    }
  }
  void OnMoved(const ClientInfo&) override { ++moved; }
  void OnSwept() override { swept = true; }

  std::uint64_t Moved(MoveKind kind) { return handover.moved()[static_cast<std::size_t>(kind)]; }
  std::uint64_t Declined(Decline why) { return handover.declined()[static_cast<std::size_t>(why)]; }

  NewWorker newer{loop, buffers};
  HandOver handover{services, sessions, *this};
  std::optional<Adoption> adoption;
  int taken_back = 0;
  int moved = 0;
  bool swept = false;
};

}  // namespace tidegate
