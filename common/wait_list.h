#pragma once

#include <coroutine>
#include <cstddef>

#include "common/task.h"
#include "common/timers.h"

namespace tidegate {

// Coroutines that wait in line, first come, first woken, each with its own timeout. Must outlive
// those that wait.
class WaitList {
 public:
  WaitList() = default;
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;
  ~WaitList() { TG_CHECK(head_ == nullptr && woken_ == 0); }

  class Awaiter {
   public:
    Awaiter(WaitList& list, TimerWheel& wheel, Duration timeout)
        : list_(list), deadline_(wheel, Bind<&Awaiter::OnTimeout>(this)), timeout_(timeout) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      waiter_ = waiter;
      waiting_ = true;
      list_.Append(*this);
      deadline_.Arm(timeout_);
    }
    // Ends the wait as if the timeout had come; nothing happens if it has ended.
    void Cancel() {
      if (waiting_) {
        deadline_.Disarm();
        OnTimeout();
      }
    }
    // True: woken; false: the timeout came first.
    bool await_resume() {
      list_.woken_ -= woken_ ? 1 : 0;
      return woken_;
    }

   private:
    friend class WaitList;
    void OnTimeout() {
      list_.Remove(*this);
      ReadyQueue::Post(waiter_);
    }

    WaitList& list_;
    Deadline deadline_;
    Duration timeout_;
    std::coroutine_handle<> waiter_;
    Awaiter* next_ = nullptr;
    Awaiter* previous_ = nullptr;
    bool waiting_ = false;
    bool woken_ = false;
  };

  Awaiter Wait(TimerWheel& wheel, Duration timeout) { return {*this, wheel, timeout}; }

  // Who waits, and who was woken but has not run yet.
  std::size_t size() const { return waiting_ + woken_; }

  void WakeOne() {
    if (Awaiter* first = head_; first != nullptr) {
      Remove(*first);
      first->woken_ = true;
      first->deadline_.Disarm();
      ++woken_;
      ReadyQueue::Post(first->waiter_);
    }
  }
  void WakeAll() {
    while (head_ != nullptr) {
      WakeOne();
    }
  }

 private:
  void Append(Awaiter& awaiter) {
    awaiter.previous_ = tail_;
    (tail_ != nullptr ? tail_->next_ : head_) = &awaiter;
    tail_ = &awaiter;
    ++waiting_;
  }
  void Remove(Awaiter& awaiter) {
    (awaiter.previous_ != nullptr ? awaiter.previous_->next_ : head_) = awaiter.next_;
    (awaiter.next_ != nullptr ? awaiter.next_->previous_ : tail_) = awaiter.previous_;
    awaiter.next_ = awaiter.previous_ = nullptr;
    awaiter.waiting_ = false;
    --waiting_;
  }

  Awaiter* head_ = nullptr;
  Awaiter* tail_ = nullptr;
  std::size_t waiting_ = 0;
  std::size_t woken_ = 0;
};

}  // namespace tidegate
