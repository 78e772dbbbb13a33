#pragma once

// The coroutine kernel. Invariants, each with a test that bears its number
// (tests/unit/common/task_test.cpp):
//
//   1. What waits is resumed from one place only: ReadyQueue::Drain. Awaiters and callbacks only
//   post. A task that is awaited runs at once in the place of its parent, and at its end its parent
//   goes on in its place (symmetric transfer): between the two there is no queue and no stack.
//   2. A started, unfinished frame is never destroyed.
//   3. Children never outlive their TaskScope.
//   4. Posting is in order: first posted, first resumed.
//
// So nothing is re-entered, the stack has constant depth, and callbacks of libuv may post whatever
// they like.

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/frame_pool.h"

namespace tidegate {

// The coroutines of this thread that may go on.
class ReadyQueue {
 public:
  // `coroutine` is suspended and is posted once; it runs at the next Drain.
  static void Post(std::coroutine_handle<> coroutine);
  // Resumes until nothing is left, including what is posted meanwhile. Not re-entrant.
  static void Drain();
  static bool empty();
};

template <class T>
class Task;
class TaskScope;

namespace task_detail {

class PromiseBase {
 public:
  static void* operator new(std::size_t size) { return AllocateFrame(size); }
  static void operator delete(void* frame, std::size_t size) noexcept { FreeFrame(frame, size); }

  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) const noexcept {
      PromiseBase& promise = self.promise();
      promise.finished_ = true;
      if (promise.scope_ == nullptr) {
        return promise.continuation_;
      }
      TaskScope* scope = promise.scope_;
      self.destroy();
      ChildDone(*scope);
      return std::noop_coroutine();
    }
    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }

  static void ChildDone(TaskScope& scope) noexcept;

  std::coroutine_handle<> continuation_;
  TaskScope* scope_ = nullptr;
  bool started_ = false;
  bool finished_ = false;
};

template <class T>
class Promise : public PromiseBase {
 public:
  Task<T> get_return_object();
  template <class U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T Take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> : public PromiseBase {
 public:
  Task<void> get_return_object();
  void return_void() const noexcept {}
  void Take() const noexcept {}
};

}  // namespace task_detail

// A coroutine that has not begun. `auto r = co_await Work();` runs it to its end; TaskScope::Start
// runs it beside. Arguments taken by reference must outlive the task.
template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = task_detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) {
      TG_CHECK(!handle_.promise().started_ || handle_.promise().finished_);
      handle_.destroy();
    }
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) noexcept {
    handle_.promise().continuation_ = parent;
    handle_.promise().started_ = true;
    return handle_;
  }
  T await_resume() { return handle_.promise().Take(); }

 private:
  friend class TaskScope;
  Handle handle_;
};

template <class T>
Task<T> task_detail::Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> task_detail::Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

// Something that happens. One coroutine waits; Set before Wait is not lost. Set is idempotent until
// Reset.
class Event {
 public:
  void Set() {
    set_ = true;
    if (waiter_) {
      ReadyQueue::Post(std::exchange(waiter_, {}));
    }
  }
  void Reset() { set_ = false; }
  bool is_set() const { return set_; }

  struct Awaiter {
    Event& event;
    bool await_ready() const noexcept { return event.set_; }
    void await_suspend(std::coroutine_handle<> waiter) const {
      TG_CHECK(!event.waiter_);
      event.waiter_ = waiter;
    }
    void await_resume() const noexcept {}
  };
  // Completes at once if the event is set. At most one waiter at a time.
  Awaiter Wait() { return Awaiter{*this}; }

 private:
  std::coroutine_handle<> waiter_;
  bool set_ = false;
};

// Tasks that run beside their parent. The parent joins before the scope ends; a scope destroyed
// with children inside is a failed check.
class TaskScope {
 public:
  TaskScope() = default;
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;
  ~TaskScope() { TG_CHECK(count_ == 0); }

  // Runs from the next Drain on. The frame frees itself at its end.
  void Start(Task<void> task) {
    auto handle = std::exchange(task.handle_, {});
    handle.promise().scope_ = this;
    handle.promise().started_ = true;
    ++count_;
    ReadyQueue::Post(handle);
  }
  std::size_t count() const { return count_; }

  struct Awaiter {
    TaskScope& scope;
    bool await_ready() const noexcept { return scope.count_ == 0; }
    void await_suspend(std::coroutine_handle<> parent) const {
      TG_CHECK(!scope.parent_);
      scope.parent_ = parent;
    }
    void await_resume() const noexcept {}
  };
  // Completes when every child has ended.
  Awaiter Join() { return Awaiter{*this}; }

 private:
  friend class task_detail::PromiseBase;
  std::coroutine_handle<> parent_;
  std::size_t count_ = 0;
};

inline void task_detail::PromiseBase::ChildDone(TaskScope& scope) noexcept {
  --scope.count_;
  if (scope.count_ == 0 && scope.parent_) {
    ReadyQueue::Post(std::exchange(scope.parent_, {}));
  }
}

}  // namespace tidegate
