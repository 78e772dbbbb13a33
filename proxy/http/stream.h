#pragma once

// What an exchange sees of a connection: one slot for one request and its answer, whatever the
// version of HTTP.
//
//   1. One coroutine reads and one writes a stream, at the same time if they like. Neither overlaps
//   itself.
//   2. A chunk stays valid until the next read of the same stream: so the next is read only after
//   the last was written,
//      which is the whole of backpressure.
//   3. After Abort everything completes at once with that error. Abort is idempotent; the first
//   error stays.
//
// The awaiters are leaf operations: they live in the waiting frame, complete at once where they
// can, and allocate nothing.

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "common/result.h"
#include "common/stream.h"
#include "common/task.h"
#include "common/timers.h"
#include "common/unique_fd.h"
#include "proxy/http/message.h"

namespace tidegate {

// A piece of a body or, in a tunnel, of the bytes.
struct BodyChunk {
  std::span<const char> data;
  // Nothing follows. In a tunnel: the peer has shut its side down.
  bool last = false;
};

// At most one coroutine that waits for one condition.
class WaitSlot {
 public:
  void Set(std::coroutine_handle<> waiter) {
    TG_CHECK(!waiter_);
    waiter_ = waiter;
  }
  bool waiting() const { return static_cast<bool>(waiter_); }
  void Wake() {
    if (waiter_) {
      ReadyQueue::Post(std::exchange(waiter_, {}));
    }
  }

 private:
  std::coroutine_handle<> waiter_;
};

// The part that both roles share: a body in, a body out.
class [[gnu::visibility("hidden")]] MessageStream {
 public:
  struct ReadAwaiter {
    MessageStream& stream;
    bool await_ready() { return stream.PollBody(); }
    void await_suspend(std::coroutine_handle<> waiter) { stream.reader_.Set(waiter); }
    Result<BodyChunk> await_resume() { return stream.TakeBody(); }
  };
  struct WriteAwaiter {
    MessageStream& stream;
    Stream::WriteStatus status;
    bool await_ready() const { return status != Stream::WriteStatus::kPending; }
    void await_suspend(std::coroutine_handle<> waiter) { stream.writer_.Set(waiter); }
    Result<> await_resume() { return stream.TakeWrite(); }
  };

  // The next piece of the incoming body, after its head. After the last one: not again. Errors name
  // their side.
  ReadAwaiter ReadBody() { return {*this}; }
  // The next piece of the outgoing body, after its head. `data` stays the caller's and must live
  // until this completes. `trailers` go out after the last piece of a chunked body; elsewhere they
  // are dropped (RFC 9110 section 6.5.1).
  WriteAwaiter WriteBody(std::span<const char> data, bool last, const Fields* trailers = nullptr) {
    return {*this, StartBody(data, last, trailers)};
  }

  // Body reads, the waiting one and later ones, complete with `error`; writing goes on.
  virtual void InterruptRead(Error error) = 0;
  // The body read that waits, if one does, completes with kCancelled; later ones go on.
  virtual void CancelRead() = 0;
  // Stops now: closes the connection (HTTP/1) so that the peer sees that the message is incomplete,
  // if it is.
  virtual void Abort(Error error) noexcept = 0;
  // Octets of the write in progress that the kernel has not taken.
  virtual std::size_t unwritten() const = 0;
  // Octets of this exchange, heads and framing included.
  virtual std::uint64_t octets_in() const = 0;
  virtual std::uint64_t octets_out() const = 0;
  // Of a tunnel that another process is to go on with: another descriptor of the connection; none
  // if it cannot move.
  virtual UniqueFd DuplicateTunnel() { return {}; }
  // Then: closes it here and gives what was read of it and not written to the other side, which
  // has `unwritten` octets left of its last write. Those and what is unwritten here come out of the
  // counts. Reads and writes that wait complete with kCancelled.
  virtual std::string LeaveTunnel(std::size_t unwritten) {
    (void)unwritten;
    return {};
  }
  // ReadBody would complete at once; ReadBodyNow does then, outside a coroutine's wait.
  bool HasBodyNow() { return PollBody(); }
  Result<BodyChunk> ReadBodyNow() { return TakeBody(); }
  // From now on the octets of both directions are passed as they are; `last` is a half-close. After
  // a 101 was read or written.
  virtual void BecomeTunnel() = 0;

 protected:
  MessageStream() = default;
  MessageStream(const MessageStream&) = delete;
  MessageStream& operator=(const MessageStream&) = delete;
  ~MessageStream() = default;

  // Lets the last chunk go, and tells whether TakeBody has something.
  virtual bool PollBody() = 0;
  virtual Result<BodyChunk> TakeBody() = 0;
  virtual Stream::WriteStatus StartBody(std::span<const char> data, bool last,
                                        const Fields* trailers) = 0;
  virtual Result<> TakeWrite() = 0;

  WaitSlot reader_;
  WaitSlot writer_;
};

// Downstream: a request in, its answer out.
class [[gnu::visibility("hidden")]] ServerStream : public MessageStream {
 public:
  virtual RequestHead& request() = 0;
  // The request was read to its end.
  virtual bool request_complete() const = 0;
  // `on_gone` is called when the client ends or breaks the connection while nobody reads. Who only
  // ended its side may still want the answer: client_reset() tells.
  virtual void WatchGone(Callback on_gone) = 0;
  virtual bool client_ended() const = 0;
  virtual bool client_reset() const = 0;

  // A 1xx answer, passed on (RFC 9110 section 15.2). Not to HTTP/1.0 clients: completes at once
  // then.
  WriteAwaiter WriteInterim(const ResponseHead& head) { return {*this, StartInterim(head)}; }
  // The head of the final answer, once, with the first piece of the body in one write. `last` as
  // for WriteBody; true where the answer has no body (HEAD, 204, 304), whatever the head says.
  // `head.body` becomes what is written. The head may go when this completes.
  WriteAwaiter WriteHead(ResponseHead& head, std::span<const char> data, bool last) {
    return {*this, StartHead(head, data, last)};
  }
  // The head of the final answer has been written, at least in part.
  virtual bool head_sent() const = 0;
  // Ends the connection after this answer: before WriteHead it says so in the answer.
  virtual void CloseAfter() = 0;

 protected:
  ~ServerStream() = default;
  virtual Stream::WriteStatus StartInterim(const ResponseHead& head) = 0;
  virtual Stream::WriteStatus StartHead(ResponseHead& head, std::span<const char> data,
                                        bool last) = 0;
};

// Upstream: a request out, its answer in.
class [[gnu::visibility("hidden")]] ClientStream : public MessageStream {
 public:
  struct HeadAwaiter {
    ClientStream& stream;
    bool await_ready() { return stream.PollHead(); }
    void await_suspend(std::coroutine_handle<> waiter) { stream.reader_.Set(waiter); }
    Result<> await_resume() { return stream.TakeHead(); }
  };

  // The request head, once, with the first piece of its body.
  WriteAwaiter WriteHead(const RequestHead& head, std::span<const char> data, bool last) {
    return {*this, StartHead(head, data, last)};
  }
  // The next head of the answer, in response(): an interim one may come before the final one. May
  // be called before WriteHead, and waits for that too.
  HeadAwaiter ReadHead() { return {*this}; }
  virtual ResponseHead& response() = 0;
  // An octet of an answer has come: nothing may be sent twice any more.
  virtual bool answer_begun() const = 0;

 protected:
  ~ClientStream() = default;
  virtual Stream::WriteStatus StartHead(const RequestHead& head, std::span<const char> data,
                                        bool last) = 0;
  virtual bool PollHead() = 0;
  virtual Result<> TakeHead() = 0;
};

}  // namespace tidegate
