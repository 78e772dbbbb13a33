#include "common/loop.h"

#include "common/check.h"

namespace tidegate {

Loop::Loop() : wheel_(Initialise(&loop_), &Loop::Clock, &loop_) {
  loop_.data = this;
  uv_check_init(&loop_, &check_);
  uv_prepare_init(&loop_, &prepare_);
  uv_timer_init(&loop_, &timer_);
  check_.data = prepare_.data = timer_.data = this;
  uv_check_start(&check_, &Loop::OnCheck);
  uv_prepare_start(&prepare_, &Loop::OnPrepare);
  // The timer keeps no loop alive: Run ends by Stop, RunUntilClosed by the last closed handle.
  for (uv_handle_t* handle :
       {reinterpret_cast<uv_handle_t*>(&check_), reinterpret_cast<uv_handle_t*>(&prepare_),
        reinterpret_cast<uv_handle_t*>(&timer_)}) {
    uv_unref(handle);
  }
}

Loop::~Loop() {
  uv_close(reinterpret_cast<uv_handle_t*>(&check_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&prepare_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&timer_), nullptr);
  while (uv_run(&loop_, UV_RUN_NOWAIT) != 0) {
  }
  TG_CHECK(uv_loop_close(&loop_) == 0);
}

TimePoint Loop::Initialise(uv_loop_t* loop) {
  TG_CHECK(uv_loop_init(loop) == 0);
  return uv_now(loop);
}

TimePoint Loop::Clock(void* loop) {
  return uv_now(static_cast<uv_loop_t*>(loop));
}

void Loop::Run() {
  // A handle that counts as alive, so that Run goes on when nothing is open but listeners-to-be.
  uv_ref(reinterpret_cast<uv_handle_t*>(&check_));
  uv_run(&loop_, UV_RUN_DEFAULT);
  uv_unref(reinterpret_cast<uv_handle_t*>(&check_));
}

void Loop::RunNoWait() {
  uv_ref(reinterpret_cast<uv_handle_t*>(&check_));
  uv_run(&loop_, UV_RUN_NOWAIT);
  uv_unref(reinterpret_cast<uv_handle_t*>(&check_));
}

void Loop::Stop() {
  uv_stop(&loop_);
}

void Loop::RunUntilClosed() {
  uv_run(&loop_, UV_RUN_DEFAULT);
}

// What the poll brought comes first, then the deadlines: after a stall, octets that wait in the
// kernel still disarm the deadline that has passed meanwhile.
void Loop::OnCheck(uv_check_t* handle) {
  auto* loop = static_cast<Loop*>(handle->data);
  ++loop->turn_;
  // libuv's time does not move while callbacks run.
  const TimePoint now = uv_now(&loop->loop_);
  loop->wheel_.Hold(now);
  ReadyQueue::Drain();
  loop->wheel_.Advance(now);
  ReadyQueue::Drain();
  loop->wheel_.Release();
}

void Loop::OnPrepare(uv_prepare_t* handle) {
  auto* loop = static_cast<Loop*>(handle->data);
  ReadyQueue::Drain();
  loop->ArmTimer();
}

void Loop::OnTimer(uv_timer_t* handle) {
  auto* loop = static_cast<Loop*>(handle->data);
  loop->timer_at_ = TimerWheel::kNothing;
}

void Loop::ArmTimer() {
  TimePoint next = wheel_.NextTick();
  // An earlier wake-up than needed is left alone: it costs one empty turn, moving it costs a heap
  // operation each request.
  if (next >= timer_at_) {
    return;
  }
  TimePoint now = wheel_.now();
  uv_timer_start(&timer_, &Loop::OnTimer, next > now ? next - now : 0, 0);
  timer_at_ = next;
}

}  // namespace tidegate
