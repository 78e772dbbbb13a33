#pragma once

// A connection that speaks HTTP/1.1, in both roles: framing, keep-alive, pipelining, and the tunnel
// after a 101. Decoding is pulled: nothing is taken from the stream before somebody asks for it.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/stream.h"
#include "common/timers.h"
#include "proxy/http/h1_decoder.h"
#include "proxy/http/stream.h"

namespace tidegate {

// What both roles share. Role is ServerStream or ClientStream.
template <class Role>
class H1Connection : public Role, protected StreamOwner {
 public:
  void InterruptRead(Error error) override;
  void CancelRead() override;
  void Abort(Error error) noexcept override;
  std::size_t unwritten() const override { return stream_->unwritten(); }
  void BecomeTunnel() override;
  UniqueFd DuplicateTunnel() override {
    return tunnel_ && !failure_ && !read_failure_ ? stream_->Duplicate() : UniqueFd();
  }
  std::string LeaveTunnel(std::size_t unwritten) override;

  std::uint64_t octets_in() const override { return octets_in_; }
  std::uint64_t octets_out() const override { return octets_out_; }
  bool aborted() const { return failure_.has_value(); }
  // There is nothing to read, and nothing has ended, been interrupted or aborted.
  bool quiet() const {
    return stream_->readable().empty() && stream_->read_state() == Stream::ReadState::kOpen &&
           !read_failure_ && !failure_;
  }
  Stream& stream() { return *stream_; }

 protected:
  enum class Phase : std::uint8_t { kBetween, kHead, kBody, kComplete, kTunnel, kFailed };
  enum class WaitingFor : std::uint8_t { kAnything, kOctets, kHead, kBody };
  enum class Framing : std::uint8_t { kNone, kLength, kChunked, kRaw };

  H1Connection(std::unique_ptr<Stream> stream, H1Decoder decoder);
  ~H1Connection();

  bool PollBody() override;
  Result<BodyChunk> TakeBody() override;
  Stream::WriteStatus StartBody(std::span<const char> data, bool last,
                                const Fields* trailers) override;
  Result<> TakeWrite() override;
  void OnReadable() override;
  void OnWritten() override;

  // Whether the head, or the reason why there is none, is there.
  bool PollHeadOctets();
  Result<> TakeHeadOctets();
  bool PollAnything();
  bool PollOctets();
  // Decodes until there is a head, a chunk, an end or an error. False: more octets are needed.
  bool Pump();
  void ReleaseChunk();
  // Between exchanges: a large head leaves no large buffer behind.
  void ReleaseMemory();
  void FailRead(Error error);
  Error ErrorOfStream(bool reading) const;
  // Writes out_, with `data` inserted at `split`.
  Stream::WriteStatus Send(std::size_t split, std::span<const char> data);
  void BeginWrite(BodyKind body, std::uint64_t length, bool bodiless);
  // Appends what frames `data` to out_; returns where `data` belongs.
  std::size_t Frame(std::span<const char> data, bool last, const Fields* trailers);

  std::unique_ptr<Stream> stream_;
  H1Decoder decoder_;
  // What is being written besides the caller's octets.
  std::string out_;
  // Why everything fails; why reading fails.
  std::optional<Error> failure_;
  std::optional<Error> read_failure_;
  BodyChunk chunk_;
  // Octets of the stream that the chunk in the caller's hands came from.
  std::size_t held_ = 0;
  std::uint64_t octets_in_ = 0;
  std::uint64_t octets_out_ = 0;
  std::uint64_t write_left_ = 0;
  Phase phase_ = Phase::kBetween;
  WaitingFor waiting_for_ = WaitingFor::kOctets;
  Framing framing_ = Framing::kNone;
  bool head_ready_ = false;
  bool chunk_ready_ = false;
  bool read_cancelled_ = false;
  bool write_complete_ = false;
  bool tunnel_ = false;
};

// Downstream. Its session owns it and asks for one request after the other.
class H1ServerConnection final : public H1Connection<ServerStream> {
 public:
  H1ServerConnection(std::unique_ptr<Stream> stream, const DecoderLimits& limits);

  struct OctetsAwaiter {
    H1ServerConnection& connection;
    bool await_ready() { return connection.PollOctets(); }
    void await_suspend(std::coroutine_handle<> waiter) { connection.reader_.Set(waiter); }
    void await_resume() const noexcept {}
  };
  struct AnythingAwaiter {
    H1ServerConnection& connection;
    bool await_ready() { return connection.PollAnything(); }
    void await_suspend(std::coroutine_handle<> waiter) { connection.reader_.Set(waiter); }
    void await_resume() const noexcept {}
  };
  struct GrowthAwaiter {
    H1ServerConnection& connection;
    bool await_ready() { return !connection.PollGrowth(); }
    void await_suspend(std::coroutine_handle<> waiter) { connection.reader_.Set(waiter); }
    void await_resume() const noexcept {}
  };
  struct HeadAwaiter {
    H1ServerConnection& connection;
    bool await_ready() { return connection.PollHeadOctets(); }
    void await_suspend(std::coroutine_handle<> waiter) { connection.reader_.Set(waiter); }
    Result<> await_resume() { return connection.TakeHeadOctets(); }
  };

  // Waits until the stream has anything to tell: a handshake that is over brings no octets.
  AnythingAwaiter WaitForAnything() { return {*this}; }
  // Waits, holding nothing, until there are octets of a request, the client has ended, or reading
  // was interrupted.
  OctetsAwaiter WaitForOctets() { return {*this}; }
  // Waits until the stream has more to tell than it has now, or reading was interrupted.
  GrowthAwaiter WaitForGrowth() { return {*this}; }
  bool may_grow() const {
    return stream_->read_state() == Stream::ReadState::kOpen && !read_failure_ && !failure_;
  }
  // Leaves the stream to somebody who speaks another protocol over it. Between exchanges; nothing
  // can be done with this any more but to destroy it.
  std::unique_ptr<Stream> TakeStream();
  // Ends that wait although the connection is quiet().
  void EndWait() { reader_.Wake(); }
  // There is something to read.
  bool has_octets() const { return !stream_->readable().empty(); }
  // Empty lines are no request (RFC 9112 section 2.2). True if there were some and nothing else;
  // more than the decoder allows are left to it.
  bool DropEmptyLines();
  // Then: a new request into `head`, which must outlive the exchange. `limits` are those in force
  // now.
  void BeginRequest(RequestHead& head, const DecoderLimits& limits);
  HeadAwaiter ReadHead() { return {*this}; }
  // Instead of a new request: `request` has led to a tunnel, in another process perhaps, which goes
  // on here.
  void ContinueTunnel(RequestHead& request);

  RequestHead& request() override { return *request_; }
  bool head_sent() const override { return head_sent_; }
  void CloseAfter() override { close_after_ = must_linger_ = true; }
  // Like CloseAfter, but requests that have come already are answered first: the last of them ends
  // the connection.
  void CloseWhenQuiet() { close_when_quiet_ = true; }

  // The exchange is over: its head may go. Counts start again.
  void EndRequest();
  // For the lingering close: ends our side; from now on ReadBody gives whatever still comes,
  // whatever happened before.
  void BeginLinger();
  // Nothing is on its way to us: the client has ended its side and every octet of it was read, or
  // it asked for the close itself and its request was complete. Closing at once takes nothing away
  // from it.
  bool client_closed_cleanly() const;

  // After the exchange: the request was read to its end, the answer written to its end, and both
  // sides keep the connection.
  bool reusable() const;
  bool request_complete() const override { return phase_ == Phase::kComplete; }
  void WatchGone(Callback on_gone) override { on_gone_ = on_gone; }
  bool client_ended() const override { return stream_->read_state() != Stream::ReadState::kOpen; }
  bool client_reset() const override { return stream_->read_state() == Stream::ReadState::kFailed; }
  bool answer_complete() const { return write_complete_; }

 private:
  bool PollGrowth() {
    waiting_for_ = WaitingFor::kAnything;
    return may_grow();
  }
  Stream::WriteStatus StartInterim(const ResponseHead& head) override;
  Stream::WriteStatus StartHead(ResponseHead& head, std::span<const char> data, bool last) override;
  void OnReadable() override;

  RequestHead* request_ = nullptr;
  // Dropped since the last request.
  unsigned empty_lines_ = 0;
  Callback on_gone_;
  bool head_sent_ = false;
  bool close_after_ = false;
  // Octets may be on their way that nobody will read as a request.
  bool must_linger_ = false;
  bool close_when_quiet_ = false;
  // The last request asked for the close, and was complete.
  bool client_wants_close_ = false;
};

// Upstream. A pool owns it between exchanges.
class H1ClientConnection final : public H1Connection<ClientStream> {
 public:
  H1ClientConnection(std::unique_ptr<Stream> stream, const DecoderLimits& limits);

  // Starts an exchange: the answer goes into `response`, which must outlive it.
  void BeginExchange(ResponseHead& response);
  ResponseHead& response() override { return *response_; }
  bool answer_begun() const override { return octets_in_ > 0; }

  // After the exchange: both messages are complete, the origin keeps the connection, and nothing
  // came after the answer.
  bool reusable() const;
  // For one that is idle: nothing has come since. A system call.
  bool IsQuiet() const { return stream_->IsQuiet(); }
  // Between exchanges: `on_octets` is called when octets or the end come, either of which makes the
  // connection useless.
  void SetIdle(Callback on_octets);

 private:
  Stream::WriteStatus StartHead(const RequestHead& head, std::span<const char> data,
                                bool last) override;
  bool PollHead() override;
  Result<> TakeHead() override;
  void OnReadable() override;

  ResponseHead* response_ = nullptr;
  Method method_ = Method::kGet;
  Callback on_octets_;
  bool idle_ = false;
  // The body of the final answer ends with the connection, whatever it is turned into downstream.
  bool ends_with_connection_ = false;
};

}  // namespace tidegate
