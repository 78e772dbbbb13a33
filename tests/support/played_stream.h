#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/stream.h"

namespace tidegate {

// The stream below, as a test plays it.
class PlayedStream final : public Stream {
 public:
  ~PlayedStream() override { ++*destroyed; }
  void SetOwner(StreamOwner* owner) override { owner_ = owner; }
  void Consume(std::size_t size) override { begin_ += size; }
  void WatchResets() override { watched = true; }
  void RequireCloseNotify() override { needs_close_notify = true; }
  const Error* protocol_error() const override { return why ? &*why : nullptr; }
  bool IsQuiet() const override { return begin_ == end_ && read_state_ == ReadState::kOpen; }
  WriteStatus Write(std::span<const uv_buf_t> buffers) override {
    TG_CHECK(pending_.empty());
    if (write_error_) {
      return WriteStatus::kFailed;
    }
    ++writes;
    if (takes_nothing) {
      pending_.assign(buffers.begin(), buffers.end());
      return WriteStatus::kPending;
    }
    Take(buffers);
    return WriteStatus::kDone;
  }
  std::size_t unwritten() const override {
    std::size_t size = 0;
    for (const uv_buf_t& buffer : pending_) {
      size += buffer.len;
    }
    return size;
  }
  void ShutdownWrite() override { ++shutdowns; }
  void Close(bool) override {
    pending_.clear();
    closed = true;
    read_state_ = ReadState::kFailed;
    write_error_ = Error(ErrorKind::kCancelled);
  }

  // Octets come from the peer.
  void Come(std::string_view octets) {
    octets_ = octets_.substr(begin_) + std::string(octets);
    buffer_ = octets_.data();
    begin_ = 0;
    end_ = octets_.size();
    owner_->OnReadable();
  }
  void End(ReadState how) {
    read_state_ = how;
    owner_->OnReadable();
  }
  // The pending write ends, if there is one; the next one is pending again while takes_nothing.
  void TakePending() {
    if (pending_.empty()) {
      return;
    }
    std::vector<uv_buf_t> buffers = std::exchange(pending_, {});
    Take(buffers);
    owner_->OnWritten();
  }
  std::string TakeWritten() { return std::exchange(written_, {}); }

  int writes = 0;
  int shutdowns = 0;
  bool watched = false;
  bool needs_close_notify = false;
  // What a protocol of its own says about a failure.
  std::optional<Error> why;
  bool closed = false;
  bool takes_nothing = false;
  // Where the destructor is counted.
  std::shared_ptr<int> destroyed = std::make_shared<int>(0);

 private:
  void Take(std::span<const uv_buf_t> buffers) {
    for (const uv_buf_t& buffer : buffers) {
      written_.append(buffer.base, buffer.len);
    }
  }

  StreamOwner* owner_ = nullptr;
  std::string octets_;
  std::string written_;
  std::vector<uv_buf_t> pending_;
};

}  // namespace tidegate
