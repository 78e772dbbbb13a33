#pragma once

// A write that has to get on: the peer takes something in each interval, however slow it is.

#include <coroutine>
#include <cstddef>

#include "common/timers.h"
#include "proxy/http/stream.h"

namespace tidegate {

class WriteWatch {
 public:
  // `on_stall` is called when nothing was taken for a whole interval; the write is still pending
  // then.
  WriteWatch(TimerWheel& wheel, Callback on_stall)
      : deadline_(wheel, Bind<&WriteWatch::OnTimeout>(this)), on_stall_(on_stall) {}

  struct Awaiter {
    WriteWatch& watch;
    MessageStream::WriteAwaiter write;
    Duration interval;
    bool await_ready() const { return write.await_ready(); }
    void await_suspend(std::coroutine_handle<> waiter) {
      watch.Begin(write.stream, interval);
      write.await_suspend(waiter);
    }
    Result<> await_resume() {
      watch.deadline_.Disarm();
      return write.await_resume();
    }
  };
  // Waits for `write`. One at a time.
  Awaiter Wait(MessageStream::WriteAwaiter write, Duration interval) {
    return {*this, write, interval};
  }

 private:
  void Begin(MessageStream& stream, Duration interval) {
    stream_ = &stream;
    interval_ = interval;
    unwritten_ = stream.unwritten();
    deadline_.Arm(interval);
  }
  void OnTimeout() {
    std::size_t unwritten = stream_->unwritten();
    if (unwritten >= unwritten_) {
      on_stall_();
      return;
    }
    unwritten_ = unwritten;
    deadline_.Arm(interval_);
  }

  Deadline deadline_;
  Callback on_stall_;
  MessageStream* stream_ = nullptr;
  Duration interval_{};
  // When deadline_ was armed.
  std::size_t unwritten_ = 0;
};

}  // namespace tidegate
