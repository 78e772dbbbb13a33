#pragma once

// The TLS handshakes of a worker that are under way: how many may be, and whose turn it is.
//
// A full handshake costs as much as a hundred requests, and a flood of them comes all at once. So a
// turn of the loop spends no more than kBudget on them; those that are left wait in line, and every
// established connection that has something to say is heard before the next of them.
//
// What has been paid for is not thrown away: who has got our answer, and with it our signature,
// goes on at once, because the rest of its handshake costs little, and is not evicted as long as it
// may be a client that is far away.

#include <cstddef>
#include <cstdint>

#include <uv.h>

#include "common/loop.h"

namespace tidegate {

class Handshakes {
 public:
  // One that is under way. Base of whoever does it.
  class Member {
   public:
    Member() = default;
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;

   protected:
    ~Member() = default;

   private:
    friend class Handshakes;
    // Does what can be done now. May destroy itself.
    virtual void OnHandshakeTurn() = 0;
    // There are too many, and this one has to go. Has left already; may destroy itself.
    virtual void OnEvicted() = 0;

    Member* older_ = nullptr;
    Member* newer_ = nullptr;
    Member* next_in_line_ = nullptr;
    TimePoint joined_at_ = 0;
    bool joined_ = false;
    bool in_line_ = false;
    bool answered_ = false;
  };

  // Nanoseconds that never go back.
  using Clock = std::uint64_t (*)();
  // What a turn of the loop spends before the rest waits; the handshake that goes over it is ended.
  static constexpr std::uint64_t kBudget = 1'000'000;

  // `loop` outlives this, and this its members.
  explicit Handshakes(Loop& loop, Clock clock = &uv_hrtime);
  Handshakes(const Handshakes&) = delete;
  Handshakes& operator=(const Handshakes&) = delete;
  ~Handshakes();

  // What a client that means it takes at most to say its first word, and all others.
  static constexpr Duration kSilence = std::chrono::seconds(1);
  static constexpr Duration kFarAway = std::chrono::seconds(3);

  // From 1 on. More than these under way: one is evicted. The oldest that has not been answered,
  // nor waits in line, after kSilence; else the oldest that has been answered, after kFarAway; else
  // the last in line, whose turn is the furthest away; else the oldest.
  void SetMost(std::size_t most) { most_ = most; }

  // A handshake begins, and is over. Leave also for who has left.
  void Join(Member& member);
  void Leave(Member& member);
  // Something has come for it: it goes on now, within this call, or in line. For who has joined.
  void GoOn(Member& member);
  // It has been answered.
  static void Answered(Member& member) { member.answered_ = true; }

  std::size_t size() const { return size_; }

 private:
  static void OnIdle(uv_idle_t* idle);
  Member& FindVictim() const;
  bool HasTime();
  void Work(Member& member);
  void TakeFromLine();

  Loop& loop_;
  Clock clock_;
  // Runs while somebody waits in line: the loop polls without waiting then. Freed when it is
  // closed.
  uv_idle_t* idle_;
  std::size_t most_ = ~std::size_t{0};
  std::size_t size_ = 0;
  Member* oldest_ = nullptr;
  Member* newest_ = nullptr;
  Member* first_in_line_ = nullptr;
  Member* last_in_line_ = nullptr;
  // Of the turn that spent_ counts in.
  std::uint64_t turn_ = 0;
  std::uint64_t spent_ = 0;
};

}  // namespace tidegate
