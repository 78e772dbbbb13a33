#pragma once

// One stream of an HTTP/2 connection, as an exchange sees it. What comes is kept until it is read,
// and only then is the window opened again: a slow origin throttles its stream, and no other. What
// goes is taken by the connection frame by frame; a write completes when all of it was taken.

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "proxy/http/h2_inbox.h"
#include "proxy/http/h2_rules.h"
#include "proxy/http/stream.h"

namespace tidegate {

class H2Connection;

class H2ServerStream final : public ServerStream {
 public:
  // The request goes into `head`, which outlives this, as `connection` does.
  H2ServerStream(H2Connection& connection, std::int32_t id, RequestHead& head, BufferPool& pool);
  // Ends the stream if that is not done: after a whole answer the rest of the request is not wanted
  // (RFC 9113 section 8.1), without one the client sees a reset.
  ~H2ServerStream();

  std::int32_t id() const { return id_; }
  // The stream was ended by an error of either side: nothing can be answered any more.
  const std::optional<Error>& failure() const { return failure_; }

  // From MessageStream and ServerStream.
  void InterruptRead(Error error) override;
  void CancelRead() override;
  void Abort(Error error) noexcept override;
  std::size_t unwritten() const override;
  std::uint64_t octets_in() const override { return octets_in_; }
  std::uint64_t octets_out() const override { return octets_out_; }
  void BecomeTunnel() override { tunnel_ = true; }
  RequestHead& request() override { return *request_; }
  bool request_complete() const override { return remote_ended_ && inbox_.size() == held_; }
  void WatchGone(Callback on_gone) override { on_gone_ = on_gone; }
  // A client that has ended its side can open no window and answer no PING: it has left.
  bool client_ended() const override { return gone_; }
  bool client_reset() const override { return gone_; }
  bool head_sent() const override { return head_sent_; }
  // The connection serves other streams: nothing of it ends.
  void CloseAfter() override {}

 private:
  friend class H2Connection;
  friend class H2Callbacks;

  bool PollBody() override;
  Result<BodyChunk> TakeBody() override;
  Stream::WriteStatus StartBody(std::span<const char> data, bool last,
                                const Fields* trailers) override;
  Result<> TakeWrite() override;
  Stream::WriteStatus StartInterim(const ResponseHead& head) override;
  Stream::WriteStatus StartHead(ResponseHead& head, std::span<const char> data, bool last) override;

  // --- From the connection, while it reads.

  // The head is complete. A client that asks for a WebSocket gets its Sec-WebSocket-Key.
  void HeadCame(const H2HeadReader& reader, bool ends_stream);
  // Both say what is wrong if the request is malformed by it (RFC 9113 section 8.1.1).
  std::optional<Error> DataCame(std::span<const char> data);
  std::optional<Error> EndCame();
  void FrameCame(std::size_t octets) { octets_in_ += octets; }
  // The stream is over for both sides. Keeps the first error.
  void Gone(Error error);

  // --- From the connection, while it writes.

  bool has_data() const { return !data_.empty(); }
  // HEADERS or DATA was taken. `octets` with its header; `data` of it are the caller's.
  void FrameTaken(std::size_t octets, std::size_t data, bool ends_stream);
  // The frame cannot be sent.
  void WriteFailed(Error error);

  void ReleaseHeld();
  void CompleteWrite();
  // Why a final head must not be passed on; nothing if it may. Turns the 101 of a WebSocket into
  // the 200 that it is.
  std::optional<Error> JudgeHead(const ResponseHead& head, int& status) const;
  Stream::WriteStatus BeginWrite(std::span<const char> data, bool last, const Fields* trailers);

  H2Connection& connection_;
  RequestHead* request_;
  H2Inbox inbox_;
  std::optional<Error> failure_;
  // Why reading fails.
  std::optional<Error> read_failure_;
  // Why the write in progress failed, if the stream goes on.
  std::optional<Error> refusal_;
  Callback on_gone_;
  // Sec-WebSocket-Accept as it must be; empty: no WebSocket was asked for.
  std::string websocket_accept_;
  // In the reader's hands.
  std::size_t held_ = 0;
  std::uint64_t received_ = 0;
  // Of the content-length; none: it was not said.
  std::optional<std::uint64_t> expected_;
  std::uint64_t octets_in_ = 0;
  std::uint64_t octets_out_ = 0;
  // Of the write in progress.
  std::span<const char> data_;
  const Fields* trailers_ = nullptr;
  // What the connection had written when this stream was last seen not to wait for its window.
  mutable std::uint64_t seen_progress_ = 0;
  H2ServerStream* next_ = nullptr;
  H2ServerStream* previous_ = nullptr;
  const std::int32_t id_;
  bool writing_ = false;
  bool head_taken_ = true;
  bool last_ = false;
  // nghttp2 asks for data only when it is told that there is some.
  bool deferred_ = false;
  bool head_sent_ = false;
  // END_STREAM was taken / has come.
  bool local_ended_ = false;
  bool remote_ended_ = false;
  bool last_read_ = false;
  bool gone_ = false;
  // nghttp2 knows the stream no more.
  bool closed_ = false;
  bool read_cancelled_ = false;
  bool tunnel_ = false;
  // It has a wider window than others.
  bool wide_ = false;
};

}  // namespace tidegate
