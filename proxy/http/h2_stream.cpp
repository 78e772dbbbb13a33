#include "proxy/http/h2_stream.h"

#include <utility>

#include "proxy/http/h2_connection.h"
#include "proxy/http/h2_websocket.h"

namespace tidegate {

H2ServerStream::H2ServerStream(H2Connection& connection, std::int32_t id, RequestHead& head,
                               BufferPool& pool)
    : connection_(connection), request_(&head), inbox_(pool), id_(id) {
  connection_.Add(*this);
}

H2ServerStream::~H2ServerStream() {
  TG_CHECK(!reader_.waiting() && !writer_.waiting());
  connection_.Credit(*this, inbox_.size());
  connection_.Remove(*this);
}

void H2ServerStream::InterruptRead(Error error) {
  if (!read_failure_) {
    read_failure_ = std::move(error);
  }
  reader_.Wake();
}

void H2ServerStream::CancelRead() {
  read_cancelled_ = reader_.waiting();
  reader_.Wake();
}

void H2ServerStream::Abort(Error error) noexcept {
  if (failure_) {
    return;
  }
  connection_.Reset(*this, error);
  failure_ = std::move(error);
  data_ = {};
  writing_ = false;
  reader_.Wake();
  writer_.Wake();
}

// Progress is what was taken of this stream, or, while it does not wait for its own window, what
// the connection got rid of: a client that reads slowly, but reads, has many streams to read.
std::size_t H2ServerStream::unwritten() const {
  constexpr std::uint64_t kAll = std::uint64_t{1} << 62;
  if (!connection_.WindowShut(*this)) {
    seen_progress_ = connection_.octets_written();
  }
  return kAll - octets_out_ - seen_progress_;
}

// --- Reading.

void H2ServerStream::ReleaseHeld() {
  const std::size_t held = std::exchange(held_, 0);
  inbox_.Pop(held);
  connection_.Credit(*this, held);
}

bool H2ServerStream::PollBody() {
  if (!last_read_) {
    ReleaseHeld();
  }
  return failure_ || read_failure_ || !inbox_.empty() || remote_ended_;
}

Result<BodyChunk> H2ServerStream::TakeBody() {
  if (failure_) {
    return Fail(*failure_);
  }
  if (std::exchange(read_cancelled_, false)) {
    return Fail(ErrorKind::kCancelled);
  }
  if (read_failure_) {
    return Fail(*read_failure_);
  }
  const std::span<const char> data = inbox_.Front();
  held_ = data.size();
  last_read_ = remote_ended_ && held_ == inbox_.size();
  TG_CHECK(!data.empty() || last_read_);
  return BodyChunk{data, last_read_};
}

void H2ServerStream::HeadCame(const H2HeadReader& reader, bool ends_stream) {
  remote_ended_ = ends_stream;
  if (request_->body == BodyKind::kLength) {
    expected_ = request_->content_length;
  }
  if (reader.asks_for_websocket()) {
    const std::string key = MakeWebSocketKey();
    websocket_accept_ = WebSocketAcceptOf(key);
    request_->upgrade = "websocket";
    request_->fields.Add("Sec-WebSocket-Key", request_->arena.Copy(key));
  }
}

std::optional<Error> H2ServerStream::DataCame(std::span<const char> data) {
  received_ += data.size();
  if (expected_ && received_ > *expected_) {
    return Error(ErrorKind::kBadRequest, "more DATA than content-length says");
  }
  inbox_.Append(data);
  connection_.Hold(data.size());
  if (reader_.waiting()) {
    reader_.Wake();
  }
  return std::nullopt;
}

std::optional<Error> H2ServerStream::EndCame() {
  if (expected_ && received_ != *expected_) {
    return Error(ErrorKind::kBadRequest, "less DATA than content-length says");
  }
  remote_ended_ = true;
  reader_.Wake();
  return std::nullopt;
}

void H2ServerStream::Gone(Error error) {
  closed_ = true;
  if (gone_ || failure_ || (local_ended_ && remote_ended_)) {
    return;
  }
  gone_ = true;
  failure_ = std::move(error);
  data_ = {};
  writing_ = false;
  const bool heard = reader_.waiting() || writer_.waiting();
  reader_.Wake();
  writer_.Wake();
  if (!heard && on_gone_.function != nullptr) {
    on_gone_();
  }
}

// --- Writing.

Stream::WriteStatus H2ServerStream::BeginWrite(std::span<const char> data, bool last,
                                               const Fields* trailers) {
  data_ = data;
  last_ = last;
  trailers_ = last && trailers != nullptr && !trailers->empty() ? trailers : nullptr;
  writing_ = true;
  connection_.WantWrite();
  return Stream::WriteStatus::kPending;
}

Stream::WriteStatus H2ServerStream::StartInterim(const ResponseHead& head) {
  if (failure_) {
    return Stream::WriteStatus::kFailed;
  }
  head_taken_ = false;
  connection_.SubmitInterim(*this, head);
  return BeginWrite({}, false, nullptr);
}

Stream::WriteStatus H2ServerStream::StartHead(ResponseHead& head, std::span<const char> data,
                                              bool last) {
  if (failure_) {
    return Stream::WriteStatus::kFailed;
  }
  TG_CHECK(!head_sent_);
  int status = head.status;
  if (auto refused = JudgeHead(head, status)) {
    refusal_ = std::move(refused);
    return Stream::WriteStatus::kFailed;
  }
  if (head.body == BodyKind::kUntilClose) {
    head.body = BodyKind::kChunked;
  }
  const bool opens_tunnel = head.status == 101;
  last = last && !opens_tunnel;
  head_sent_ = true;
  head_taken_ = false;
  const bool has_trailers = !head.trailers.empty() && head.body == BodyKind::kChunked;
  const bool bare = last && data.empty() && !has_trailers;
  connection_.SubmitHead(*this, head, status, !bare);
  return BeginWrite(data, last, has_trailers ? &head.trailers : nullptr);
}

std::optional<Error> H2ServerStream::JudgeHead(const ResponseHead& head, int& status) const {
  if (websocket_accept_.empty()) {
    // The exchange has asked for no Upgrade, so nothing gets here but by its mistake.
    return head.status == 101 ? std::optional(Error(ErrorKind::kInternal, "a 101 in HTTP/2"))
                              : std::nullopt;
  }
  if (head.status == 101) {
    const Field* accept = head.fields.Find("sec-websocket-accept");
    if (accept == nullptr || accept->value != websocket_accept_) {
      return Error(ErrorKind::kUpstreamUpgradeFailed,
                   "Sec-WebSocket-Accept is not what it must be");
    }
    status = 200;
    return std::nullopt;
  }
  if (status >= 200 && status < 300) {
    // The client would take it for the beginning of the tunnel (RFC 8441 section 5).
    return Error(ErrorKind::kUpstreamUpgradeFailed, "a success without the upgrade");
  }
  return std::nullopt;
}

Stream::WriteStatus H2ServerStream::StartBody(std::span<const char> data, bool last,
                                              const Fields* trailers) {
  if (failure_) {
    return Stream::WriteStatus::kFailed;
  }
  TG_CHECK(head_sent_ && !local_ended_);
  if (data.empty() && !last) {
    return Stream::WriteStatus::kDone;
  }
  if (std::exchange(deferred_, false)) {
    connection_.ResumeData(*this);
  }
  return BeginWrite(data, last, tunnel_ ? nullptr : trailers);
}

Result<> H2ServerStream::TakeWrite() {
  if (refusal_) {
    return Fail(*std::exchange(refusal_, std::nullopt));
  }
  if (failure_) {
    return Fail(*failure_);
  }
  return {};
}

void H2ServerStream::FrameTaken(std::size_t octets, std::size_t data, bool ends_stream) {
  octets_out_ += octets;
  if (data > 0) {
    data_ = data_.subspan(data);
  }
  local_ended_ = local_ended_ || ends_stream;
  CompleteWrite();
}

void H2ServerStream::CompleteWrite() {
  if (writing_ && head_taken_ && data_.empty() && (!last_ || local_ended_)) {
    writing_ = false;
    writer_.Wake();
  }
}

void H2ServerStream::WriteFailed(Error error) {
  if (!failure_) {
    Abort(std::move(error));
  }
}

}  // namespace tidegate
