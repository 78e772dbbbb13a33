#pragma once

// A connected byte stream, below the waterline: callbacks, no coroutines. Whoever speaks a protocol
// over it owns it and turns its callbacks into awaiters. TLS is a Stream over a Stream.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <uv.h>

#include "common/error.h"
#include "common/unique_fd.h"

namespace tidegate {

// Interfaces are hidden: no library implements them, so the linker knows all who do.

// What a stream tells its owner. Called by the loop, never from within a call of the owner.
class [[gnu::visibility("hidden")]] StreamOwner {
 public:
  // readable() has grown, or the read side has ended.
  virtual void OnReadable() = 0;
  // The write that returned kPending has ended: look at write_error().
  virtual void OnWritten() = 0;

 protected:
  ~StreamOwner() = default;
};

class [[gnu::visibility("hidden")]] Stream {
 public:
  // The read side: more may come; the peer has shut its side down; it failed.
  enum class ReadState : std::uint8_t { kOpen, kEnded, kFailed };
  enum class WriteStatus : std::uint8_t { kDone, kPending, kFailed };

  Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  // Closes at once; what a pending write has not written is lost. The owner hears nothing more.
  virtual ~Stream() = default;

  // Who is told from now on; null: nobody. Reading starts with the first owner and goes on without
  // one while there is room.
  virtual void SetOwner(StreamOwner* owner) = 0;

  // What was read and not consumed. Stays where it is until consumed.
  std::span<char> readable() { return {buffer_ + begin_, end_ - begin_}; }
  // Forgets the first `size` octets of readable().
  virtual void Consume(std::size_t size) = 0;
  ReadState read_state() const { return read_state_; }
  // From now on a reset is heard within two seconds also while nobody reads on, because the buffer
  // is full or the peer has ended its side; what the kernel still had is lost then. For a peer
  // whose octets are worth nothing once it has left.
  virtual void WatchResets() = 0;
  // From now on the end of the peer's side counts only if the peer itself has said so (kFailed
  // otherwise): where the end is all that says that something is whole. No difference to a stream
  // that anybody on the way can end.
  virtual void RequireCloseNotify() {}
  // Nothing was read, and the kernel has nothing either: no octets, no end. A system call.
  virtual bool IsQuiet() const = 0;

  // Writes all of `buffers`, at most kMaxBuffers. kPending: the rest follows, the octets must stay
  // where they are until OnWritten or the destructor; no other write until then. kFailed: see
  // write_error().
  static constexpr std::size_t kMaxBuffers = 4;
  virtual WriteStatus Write(std::span<const uv_buf_t> buffers) = 0;
  // Octets of the pending write that the kernel has not taken: a deadline tells progress by it.
  virtual std::size_t unwritten() const = 0;
  // kReset, kClosed (the peer does not read any more) or kSystem; empty while writing works.
  const std::optional<Error>& write_error() const { return write_error_; }

  // Why the stream failed, where a protocol of its own says so; null: the connection itself did.
  virtual const Error* protocol_error() const { return nullptr; }

  // Ends our side after what was written; reading goes on. No write may be pending. Idempotent.
  virtual void ShutdownWrite() = 0;
  // Closes at once and for ever, like the destructor, but readable() stays where it is: another
  // stream may still be writing from it. With `reset` the peer cannot take what it got for the
  // whole (RFC 9112 section 8). Idempotent.
  virtual void Close(bool reset) = 0;
  // Leaves the connection to the caller, as a descriptor, and closes this as Close does; the peer
  // notices nothing. None, and nothing has changed, where something of it is not in the kernel
  // (octets, an end, a failure, a pending write, a protocol of the stream's own) or the process has
  // no descriptor left.
  virtual UniqueFd Detach() { return {}; }
  // Another descriptor of the connection, whatever is under way on this one: for a caller that
  // takes along what is read and not consumed, and what is not written. None for a protocol of the
  // stream's own, after a failure, or if the process has no descriptor left.
  virtual UniqueFd Duplicate() { return {}; }

 protected:
  // What is asked for several times a request stands here, where asking is a load.
  char* buffer_ = nullptr;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::optional<Error> write_error_;
  ReadState read_state_ = ReadState::kOpen;
};

}  // namespace tidegate
