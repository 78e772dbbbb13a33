#pragma once

#include <coroutine>
#include <utility>

#include "common/timers.h"

namespace tidegate {

// Waits for `inner`, with `deadline` armed only if there is something to wait for:
// `auto head = co_await TimedWait(deadline, timeout, stream.ReadHead());`. What the deadline does
// is its own business: it must make `inner` complete.
template <class Inner>
class TimedWait {
 public:
  TimedWait(Deadline& deadline, Duration timeout, Inner inner)
      : deadline_(deadline), timeout_(timeout), inner_(std::move(inner)) {}

  bool await_ready() { return inner_.await_ready(); }
  void await_suspend(std::coroutine_handle<> waiter) {
    deadline_.Arm(timeout_);
    inner_.await_suspend(waiter);
  }
  decltype(auto) await_resume() {
    deadline_.Disarm();
    return inner_.await_resume();
  }

 private:
  Deadline& deadline_;
  Duration timeout_;
  Inner inner_;
};

}  // namespace tidegate
