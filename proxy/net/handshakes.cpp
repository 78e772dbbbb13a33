#include "proxy/net/handshakes.h"

#include <utility>

#include "common/check.h"

namespace tidegate {

Handshakes::Handshakes(Loop& loop, Clock clock) : loop_(loop), clock_(clock), idle_(new uv_idle_t) {
  uv_idle_init(loop_.uv(), idle_);
  idle_->data = this;
}

Handshakes::~Handshakes() {
  TG_CHECK(size_ == 0);
  uv_close(reinterpret_cast<uv_handle_t*>(idle_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_idle_t*>(handle); });
}

void Handshakes::Join(Member& member) {
  TG_CHECK(!member.joined_);
  member.joined_ = true;
  member.joined_at_ = loop_.now();
  member.answered_ = false;
  member.older_ = newest_;
  member.newer_ = nullptr;
  (newest_ != nullptr ? newest_->newer_ : oldest_) = &member;
  newest_ = &member;
  ++size_;
  if (size_ > most_ && oldest_ != &member) {
    Member& victim = FindVictim();
    Leave(victim);
    victim.OnEvicted();
  }
}

// The newest joins just now: it is nobody's victim.
Handshakes::Member& Handshakes::FindVictim() const {
  const auto older_than = [&](const Member& member, Duration age) {
    return loop_.now() - member.joined_at_ >= static_cast<TimePoint>(age.count());
  };
  Member* answered = nullptr;
  for (Member* each = oldest_; each != newest_ && older_than(*each, kSilence);
       each = each->newer_) {
    if (!each->answered_ && !each->in_line_) {
      return *each;
    }
    if (each->answered_ && answered == nullptr && older_than(*each, kFarAway)) {
      answered = each;
    }
  }
  if (answered != nullptr) {
    return *answered;
  }
  return last_in_line_ != nullptr ? *last_in_line_ : *oldest_;
}

void Handshakes::Leave(Member& member) {
  if (!std::exchange(member.joined_, false)) {
    return;
  }
  (member.older_ != nullptr ? member.older_->newer_ : oldest_) = member.newer_;
  (member.newer_ != nullptr ? member.newer_->older_ : newest_) = member.older_;
  --size_;
  if (!std::exchange(member.in_line_, false)) {
    return;
  }
  Member* before = nullptr;
  for (Member* each = first_in_line_; each != &member; each = each->next_in_line_) {
    before = each;
  }
  (before != nullptr ? before->next_in_line_ : first_in_line_) = member.next_in_line_;
  if (last_in_line_ == &member) {
    last_in_line_ = before;
  }
}

void Handshakes::GoOn(Member& member) {
  TG_CHECK(member.joined_);
  if (member.in_line_) {
    return;
  }
  if (member.answered_ || (first_in_line_ == nullptr && HasTime())) {
    Work(member);
    return;
  }
  member.in_line_ = true;
  member.next_in_line_ = nullptr;
  (first_in_line_ != nullptr ? last_in_line_->next_in_line_ : first_in_line_) = &member;
  last_in_line_ = &member;
  uv_idle_start(idle_, &Handshakes::OnIdle);
}

bool Handshakes::HasTime() {
  if (std::exchange(turn_, loop_.turn()) != loop_.turn()) {
    spent_ = 0;
  }
  return spent_ < kBudget;
}

void Handshakes::Work(Member& member) {
  std::uint64_t begin = clock_();
  member.OnHandshakeTurn();
  spent_ += clock_() - begin;
}

// Before the poll phase: what was spent in the one before is another turn's.
void Handshakes::OnIdle(uv_idle_t* idle) {
  static_cast<Handshakes*>(idle->data)->TakeFromLine();
}

void Handshakes::TakeFromLine() {
  spent_ = 0;
  turn_ = loop_.turn();
  while (first_in_line_ != nullptr && spent_ < kBudget) {
    Member& member = *first_in_line_;
    first_in_line_ = member.next_in_line_;
    last_in_line_ = first_in_line_ != nullptr ? last_in_line_ : nullptr;
    member.in_line_ = false;
    Work(member);
  }
  if (first_in_line_ == nullptr) {
    uv_idle_stop(idle_);
  }
}

}  // namespace tidegate
