#include "common/hangup_watch.h"

#include <poll.h>

#include <vector>

namespace tidegate {
namespace {

constexpr Duration kTick = std::chrono::seconds(1);

}  // namespace

void WatchedSocket::List(HangupWatch& watch, int fd) {
  if (watch_ != nullptr) {
    return;
  }
  watch_ = &watch;
  fd_ = fd;
  reset_ = false;
  previous_ = nullptr;
  next_ = watch.first_;
  if (next_ != nullptr) {
    next_->previous_ = this;
  } else {
    watch.tick_.Arm(kTick);
  }
  watch.first_ = this;
}

void WatchedSocket::TakeOff() {
  if (watch_ == nullptr) {
    return;
  }
  (previous_ != nullptr ? previous_->next_ : watch_->first_) = next_;
  if (next_ != nullptr) {
    next_->previous_ = previous_;
  }
  if (watch_->first_ == nullptr) {
    watch_->tick_.Disarm();
  }
  watch_ = nullptr;
}

WatchedSocket* HangupWatch::FirstReset() const {
  WatchedSocket* each = first_;
  while (each != nullptr && !each->reset_) {
    each = each->next_;
  }
  return each;
}

void HangupWatch::OnTick() {
  std::vector<pollfd> asked;
  for (const WatchedSocket* each = first_; each != nullptr; each = each->next_) {
    // Errors are told unasked. A hang-up alone is an end on both sides, which is no fault.
    asked.push_back({.fd = each->fd_, .events = 0, .revents = 0});
  }
  bool some = ::poll(asked.data(), asked.size(), 0) > 0;
  auto answer = asked.begin();
  for (WatchedSocket* each = first_; some && each != nullptr; each = each->next_, ++answer) {
    each->reset_ = (answer->revents & POLLERR) != 0;
  }
  // From the beginning each time: a callback may take others off.
  while (WatchedSocket* gone = some ? FirstReset() : nullptr) {
    gone->TakeOff();
    gone->on_reset_();
  }
  if (first_ != nullptr) {
    tick_.Arm(kTick);
  }
}

}  // namespace tidegate
