#include "common/log_sink.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <semaphore>
#include <utility>

#include <fmt/format.h>
#include <uv.h>

#include "common/log_line.h"

namespace tidegate {
namespace {

// A buffer that a burst made larger is given back.
constexpr std::size_t kKeptBytes = 2 * LogSink::kFlushBytes;
// How long the pool's thread waits for a pipe whose reader is slow, if it does not block by itself.
constexpr int kPipeWaitMs = 5000;

struct Written {
  std::size_t octets = 0;
  // 0: all of it.
  int error = 0;
};

Written WriteAll(int fd, std::string_view data) {
  Written result;
  while (result.octets < data.size()) {
    ssize_t written = ::write(fd, data.data() + result.octets, data.size() - result.octets);
    if (written > 0) {
      result.octets += static_cast<std::size_t>(written);
    } else if (written == 0) {
      result.error = ENOSPC;
      break;
    } else if (errno == EAGAIN) {
      pollfd wait{.fd = fd, .events = POLLOUT, .revents = 0};
      if (::poll(&wait, 1, kPipeWaitMs) == 0) {
        result.error = EAGAIN;
        break;
      }
    } else if (errno != EINTR) {
      result.error = errno;
      break;
    }
  }
  return result;
}

std::uint64_t CountLines(std::string_view text) {
  return static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

struct LogSink::Write {
  uv_work_t request{};
  std::string data;
  int fd = -1;
  Written result;
  // Released by the thread when `result` is there.
  std::binary_semaphore finished{0};
  // Null: nobody waits for the result any more.
  LogSink* sink = nullptr;
  // The descriptor, once the sink is gone.
  UniqueFd kept;
};

LogSink::LogSink(Loop& loop, UniqueFd fd, std::string name)
    : loop_(loop),
      name_(std::move(name)),
      flush_(loop.timers(), Bind<&LogSink::OnFlushTime>(this)) {
  targets_.push_back(Target{.fd = std::move(fd)});
}

LogSink::~LogSink() {
  FlushNow();
  if (write_ != nullptr) {
    write_->sink = nullptr;
    write_->kept = std::move(targets_.front().fd);
  }
}

bool LogSink::Append(std::string_view lines) {
  if (buffered_ + lines.size() > kCapacity) {
    Drop(lines, "it is too slow");
    return false;
  }
  Target& target = targets_.back();
  if (target.lines.empty() && target.lines.capacity() < spare_.capacity()) {
    target.lines.swap(spare_);
  }
  target.lines.append(lines);
  buffered_ += lines.size();
  if (target.lines.size() >= kFlushBytes) {
    Flush();
  } else if (!flush_.armed()) {
    flush_.Arm(kFlushInterval);
  }
  return true;
}

void LogSink::OnFlushTime() {
  Flush();
}

void LogSink::Flush() {
  if (write_ != nullptr) {
    flush_wanted_ = true;
    return;
  }
  StartWrite();
}

void LogSink::StartWrite() {
  CloseWrittenTargets();
  Target& target = targets_.front();
  if (target.lines.empty()) {
    return;
  }
  flush_.Disarm();
  flush_wanted_ = false;
  auto write = std::make_unique<Write>();
  write->data = TakeLines();
  write->fd = target.fd.get();
  write->sink = this;
  write->request.data = write.get();
  auto work = [](uv_work_t* request) {
    auto* self = static_cast<Write*>(request->data);
    self->result = WriteAll(self->fd, self->data);
    self->finished.release();
  };
  auto after = [](uv_work_t* request, int) { OnWritten(static_cast<Write*>(request->data)); };
  // Fails for a null callback only.
  uv_queue_work(loop_.uv(), &write->request, work, after);
  write_ = write.release();
}

std::string LogSink::TakeLines() {
  Target& target = targets_.front();
  std::string lines = std::exchange(target.lines, std::exchange(spare_, {}));
  if (target.ends_mid_line) {
    lines.insert(lines.begin(), '\n');
    ++buffered_;
    target.ends_mid_line = false;
    target.mending = true;
  }
  dropped_at_write_ = dropped_;
  return lines;
}

void LogSink::OnWritten(Write* finished) {
  std::unique_ptr<Write> write(finished);
  LogSink* sink = write->sink;
  if (sink == nullptr) {
    return;
  }
  sink->write_ = nullptr;
  sink->Settle(write->data, write->result.octets, write->result.error);
  if (write->data.capacity() <= kKeptBytes) {
    write->data.clear();
    sink->spare_ = std::move(write->data);
  }
  // The older file first; and what gathered meanwhile, if its time has come.
  if (sink->flush_wanted_ || sink->targets_.size() > 1 ||
      sink->targets_.back().lines.size() >= kFlushBytes) {
    sink->StartWrite();
  }
}

void LogSink::Settle(std::string_view data, std::size_t written, int error) {
  buffered_ -= data.size();
  Target& target = targets_.front();
  bool mending = std::exchange(target.mending, false);
  if (error == 0) {
    if (dropping_ && dropped_ == dropped_at_write_) {
      dropping_ = false;
      WriteToStderr(
          FormatLogLine(LogLevel::kInfo, fmt::format("{}: writing again; {} lines were dropped",
                                                     name_, dropped_ - dropped_before_)));
    }
    return;
  }
  target.ends_mid_line = written > 0 ? data[written - 1] != '\n' : mending;
  std::string_view lost = data.substr(written);
  if (mending && written == 0) {
    lost.remove_prefix(1);
  }
  Drop(lost, std::strerror(error));
}

void LogSink::Drop(std::string_view lines, std::string_view why) {
  if (!dropping_) {
    dropping_ = true;
    dropped_before_ = dropped_;
    WriteToStderr(
        FormatLogLine(LogLevel::kError, fmt::format("{}: lines are dropped: {}", name_, why)));
  }
  std::uint64_t count = CountLines(lines);
  dropped_ += count;
  if (counters_ != nullptr) {
    counters_->Add(CounterId::kLogLinesDropped, count);
  }
}

void LogSink::CloseWrittenTargets() {
  while (targets_.size() > 1 && targets_.front().lines.empty()) {
    targets_.pop_front();
  }
}

void LogSink::Replace(UniqueFd fd) {
  targets_.push_back(Target{.fd = std::move(fd)});
  if (write_ == nullptr) {
    StartWrite();
  }
}

void LogSink::FlushNow() {
  if (write_ != nullptr) {
    if (uv_cancel(reinterpret_cast<uv_req_t*>(&write_->request)) == 0) {
      // No thread had taken it, none will. libuv frees it when the loop turns.
      write_->result = WriteAll(write_->fd, write_->data);
    } else if (!write_->finished.try_acquire_for(kFlushNowLimit)) {
      return;
    }
    Write* write = std::exchange(write_, nullptr);
    write->sink = nullptr;
    Settle(write->data, write->result.octets, write->result.error);
  }
  for (CloseWrittenTargets(); !targets_.front().lines.empty(); CloseWrittenTargets()) {
    std::string lines = TakeLines();
    Written result = WriteAll(targets_.front().fd.get(), lines);
    Settle(lines, result.octets, result.error);
  }
  flush_.Disarm();
}

}  // namespace tidegate
