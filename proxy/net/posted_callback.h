#pragma once

// A callback at the next drain of the ready queue: for a callback adapter that must tell its owner
// something, but not from within the owner's call. A Deadline would come a millisecond later.

#include <coroutine>
#include <cstddef>
#include <exception>
#include <utility>

#include "common/frame_pool.h"
#include "common/task.h"
#include "common/timers.h"

namespace tidegate {

// A value: its destructor takes back what was posted.
class PostedCallback {
 public:
  explicit PostedCallback(Callback callback) : callback_(callback) {}
  PostedCallback(const PostedCallback&) = delete;
  PostedCallback& operator=(const PostedCallback&) = delete;
  ~PostedCallback() { TakeBack(); }

  // `callback` is called once, from the ready queue; it may destroy this. Idempotent until then.
  void Post() {
    if (call_ == nullptr) {
      Call call = Run(*this);
      call_ = &call.handle.promise();
      ReadyQueue::Post(call.handle);
    }
  }
  void TakeBack() {
    if (call_ != nullptr) {
      std::exchange(call_, nullptr)->poster = nullptr;
    }
  }
  bool posted() const { return call_ != nullptr; }

 private:
  // One a Post, because the queue takes nothing back: the frame outlives who posted it, finds that
  // nobody is left, and frees itself.
  struct Call {
    struct promise_type {
      explicit promise_type(PostedCallback& posted_by) : poster(&posted_by) {}
      static void* operator new(std::size_t size) { return AllocateFrame(size); }
      static void operator delete(void* frame, std::size_t size) noexcept {
        FreeFrame(frame, size);
      }
      Call get_return_object() {
        return {std::coroutine_handle<promise_type>::from_promise(*this)};
      }
      std::suspend_always initial_suspend() const noexcept { return {}; }
      std::suspend_never final_suspend() const noexcept { return {}; }
      void return_void() const noexcept {}
      [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }

      PostedCallback* poster;
    };
    std::coroutine_handle<promise_type> handle;
  };

  // What a coroutine awaits to get at its own promise, without being suspended.
  struct OwnPromise {
    Call::promise_type* promise = nullptr;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<Call::promise_type> self) noexcept {
      promise = &self.promise();
      return false;
    }
    Call::promise_type* await_resume() const noexcept { return promise; }
  };

  static Call Run(PostedCallback&) {
    auto* promise = co_await OwnPromise();
    PostedCallback* poster = promise->poster;
    if (poster != nullptr) {
      poster->call_ = nullptr;
      poster->callback_();
    }
  }

  Callback callback_;
  Call::promise_type* call_ = nullptr;
};

}  // namespace tidegate
