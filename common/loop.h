#pragma once

#include <uv.h>

#include "common/hangup_watch.h"
#include "common/task.h"
#include "common/timers.h"

namespace tidegate {

// One libuv loop with the coroutine kernel and the deadlines in it. The ready queue is drained
// after the poll phase and before the next one, so whatever a callback posts runs in the same turn.
// One a thread.
class Loop {
 public:
  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  // All handles of others must be closed, their close callbacks run: see RunUntilClosed.
  ~Loop();

  uv_loop_t* uv() { return &loop_; }
  TimerWheel& timers() { return wheel_; }
  HangupWatch& hangups() { return hangups_; }
  // That `loop` belongs to.
  static Loop& Of(uv_loop_t* loop) { return *static_cast<Loop*>(loop->data); }
  // Milliseconds, monotonic, as of the last poll.
  TimePoint now() { return wheel_.now(); }

  // Grows with every poll: what is known of sockets is as new as the turn.
  std::uint64_t turn() const { return turn_; }

  // Turns until Stop.
  void Run();
  void Stop();
  // One turn that waits for nothing, also when no handle is open: what a test drives time with.
  void RunNoWait();
  // Turns until nothing but the loop's own handles is open: after everything has been closed,
  // before the destructor.
  void RunUntilClosed();

 private:
  static TimePoint Initialise(uv_loop_t* loop);
  static TimePoint Clock(void* loop);
  static void OnCheck(uv_check_t* handle);
  static void OnPrepare(uv_prepare_t* handle);
  static void OnTimer(uv_timer_t* handle);
  void ArmTimer();

  uv_loop_t loop_;
  uv_check_t check_;
  uv_prepare_t prepare_;
  uv_timer_t timer_;
  TimerWheel wheel_;
  HangupWatch hangups_{wheel_};
  std::uint64_t turn_ = 0;
  // What timer_ is armed for; kNothing if it is not.
  TimePoint timer_at_ = TimerWheel::kNothing;
};

// Waits without holding the loop. `auto done = co_await Sleep(...)` is never used in request paths:
// those have deadlines.
class Sleep {
 public:
  Sleep(TimerWheel& wheel, Duration duration)
      : deadline_(wheel, Bind<&Event::Set>(&expired_)), duration_(duration) {}

  bool await_ready() const noexcept { return duration_.count() <= 0; }
  void await_suspend(std::coroutine_handle<> waiter) {
    deadline_.Arm(duration_);
    expired_.Wait().await_suspend(waiter);
  }
  void await_resume() const noexcept {}

 private:
  Event expired_;
  Deadline deadline_;
  Duration duration_;
};

}  // namespace tidegate
