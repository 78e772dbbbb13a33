#include "proxy/http/h1_connection.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "common/check.h"
#include "proxy/http/h1_encoder.h"

namespace tidegate {

template <class Role>
H1Connection<Role>::H1Connection(std::unique_ptr<Stream> stream, H1Decoder decoder)
    : stream_(std::move(stream)), decoder_(std::move(decoder)) {
  stream_->SetOwner(this);
}

template <class Role>
H1Connection<Role>::~H1Connection() {
  TG_CHECK(!this->reader_.waiting() && !this->writer_.waiting());
  if (stream_ != nullptr) {
    stream_->SetOwner(nullptr);
  }
}

template <class Role>
void H1Connection<Role>::InterruptRead(Error error) {
  if (!read_failure_) {
    read_failure_ = std::move(error);
  }
  this->reader_.Wake();
}

template <class Role>
void H1Connection<Role>::CancelRead() {
  read_cancelled_ = this->reader_.waiting();
  this->reader_.Wake();
}

template <class Role>
void H1Connection<Role>::Abort(Error error) noexcept {
  if (failure_) {
    return;
  }
  // A body that ends with the connection looks whole unless the end is a reset.
  bool looks_whole = framing_ == Framing::kRaw && !write_complete_;
  // A peer that takes nothing would leave megabytes in the kernel for minutes after a clean close,
  // and an origin that does not read would not hear of it before it does.
  bool is_upstream = std::is_same_v<Role, ClientStream>;
  bool takes_nothing =
      error.kind() == ErrorKind::kWriteIdleTimeout || (is_upstream && stream_->unwritten() > 0);
  failure_ = std::move(error);
  phase_ = Phase::kFailed;
  stream_->Close(looks_whole || takes_nothing);
  this->reader_.Wake();
  this->writer_.Wake();
}

template <class Role>
void H1Connection<Role>::BecomeTunnel() {
  if (phase_ != Phase::kFailed) {
    phase_ = Phase::kTunnel;
  }
  tunnel_ = true;
  stream_->RequireCloseNotify();
  chunk_ready_ = false;
  framing_ = Framing::kRaw;
  write_complete_ = false;
}

template <class Role>
std::string H1Connection<Role>::LeaveTunnel(std::size_t unwritten) {
  const std::span<const char> octets = stream_->readable();
  // The chunk is with the other side, which has written the rest of it.
  const bool is_given = held_ > 0 && !chunk_ready_;
  const std::size_t written = is_given ? held_ - std::min(held_, unwritten) : 0;
  std::string left(octets.begin() + static_cast<std::ptrdiff_t>(written), octets.end());
  octets_in_ -= held_ - written;
  octets_out_ -= stream_->unwritten();
  // Not Abort, which may reset: the connection lives on.
  failure_ = Error(ErrorKind::kCancelled, "it has moved");
  phase_ = Phase::kFailed;
  stream_->Close(false);
  this->reader_.Wake();
  this->writer_.Wake();
  return left;
}

template <class Role>
Error H1Connection<Role>::ErrorOfStream(bool reading) const {
  const auto& error = stream_->write_error();
  std::string detail = error && !reading ? error->ToString() : "connection reset";
  const Error* why = stream_->protocol_error();
  if (why != nullptr) {
    detail = why->ToString();
  }
  if constexpr (std::is_same_v<Role, ServerStream>) {
    return Error(ErrorKind::kClientClosed, std::move(detail));
  } else {
    ErrorKind before_answer = why != nullptr && why->kind() == ErrorKind::kUpstreamTlsAlert
                                  ? why->kind()
                                  : ErrorKind::kUpstreamReset;
    return Error(octets_in_ > 0 ? ErrorKind::kUpstreamTruncated : before_answer, std::move(detail));
  }
}

template <class Role>
void H1Connection<Role>::FailRead(Error error) {
  phase_ = Phase::kFailed;
  if (!read_failure_) {
    read_failure_ = std::move(error);
  }
}

template <class Role>
void H1Connection<Role>::ReleaseChunk() {
  if (held_ > 0) {
    stream_->Consume(std::exchange(held_, 0));
  }
}

template <class Role>
void H1Connection<Role>::ReleaseMemory() {
  constexpr std::size_t kKept = 1024;
  if (out_.capacity() > kKept) {
    std::string().swap(out_);
  }
}

template <class Role>
bool H1Connection<Role>::Pump() {
  while (phase_ == Phase::kHead || phase_ == Phase::kBody) {
    std::span<char> octets = stream_->readable();
    if (octets.empty() && stream_->read_state() == Stream::ReadState::kOpen) {
      return false;
    }
    if (octets.empty() && stream_->read_state() == Stream::ReadState::kFailed) {
      FailRead(ErrorOfStream(true));
      return true;
    }
    Result<H1Decoder::Step> step = octets.empty() ? decoder_.Finish() : decoder_.Decode(octets);
    if (!step) {
      octets_in_ += octets.size();
      FailRead(std::move(step).error());
      return true;
    }
    octets_in_ += step->consumed;
    if (step->head) {
      head_ready_ = true;
      phase_ = Phase::kBody;
    }
    if (step->end) {
      phase_ = Phase::kComplete;
    }
    if (step->end || !step->body.empty()) {
      chunk_ = {step->body, step->end};
      chunk_ready_ = true;
    }
    if (step->body.empty()) {
      stream_->Consume(step->consumed);
    } else {
      held_ = step->consumed;
    }
    if (step->head || chunk_ready_) {
      return true;
    }
  }
  return true;
}

template <class Role>
bool H1Connection<Role>::PollAnything() {
  waiting_for_ = WaitingFor::kAnything;
  return !quiet();
}

template <class Role>
bool H1Connection<Role>::PollOctets() {
  waiting_for_ = WaitingFor::kOctets;
  return !quiet();
}

template <class Role>
bool H1Connection<Role>::PollHeadOctets() {
  waiting_for_ = WaitingFor::kHead;
  if (failure_ || read_failure_ || head_ready_) {
    return true;
  }
  // Upstream, before the request is written: what is there already is read then.
  return phase_ != Phase::kBetween && Pump();
}

template <class Role>
Result<> H1Connection<Role>::TakeHeadOctets() {
  if (failure_) {
    return Fail(*failure_);
  }
  if (std::exchange(head_ready_, false)) {
    return {};
  }
  TG_CHECK(read_failure_);
  return Fail(*read_failure_);
}

template <class Role>
bool H1Connection<Role>::PollBody() {
  waiting_for_ = WaitingFor::kBody;
  if (failure_ || read_failure_ || chunk_ready_) {
    return true;
  }
  ReleaseChunk();
  if (!tunnel_) {
    return Pump();
  }
  std::span<char> octets = stream_->readable();
  if (!octets.empty()) {
    octets_in_ += octets.size();
    held_ = octets.size();
    chunk_ = {octets, false};
    chunk_ready_ = true;
  } else if (stream_->read_state() == Stream::ReadState::kEnded) {
    chunk_ = {{}, true};
    chunk_ready_ = true;
  } else if (stream_->read_state() == Stream::ReadState::kFailed) {
    FailRead(ErrorOfStream(true));
  }
  return chunk_ready_ || read_failure_;
}

template <class Role>
Result<BodyChunk> H1Connection<Role>::TakeBody() {
  if (failure_) {
    return Fail(*failure_);
  }
  if (std::exchange(read_cancelled_, false)) {
    return Fail(ErrorKind::kCancelled, "not wanted any more");
  }
  if (std::exchange(chunk_ready_, false)) {
    return chunk_;
  }
  TG_CHECK(read_failure_);
  return Fail(*read_failure_);
}

template <class Role>
void H1Connection<Role>::OnReadable() {
  if (!this->reader_.waiting()) {
    return;
  }
  bool ready = false;
  switch (waiting_for_) {
    case WaitingFor::kAnything:
      ready = true;
      break;
    case WaitingFor::kOctets:
      ready = PollOctets();
      break;
    case WaitingFor::kHead:
      ready = PollHeadOctets();
      break;
    case WaitingFor::kBody:
      ready = PollBody();
      break;
  }
  if (ready) {
    this->reader_.Wake();
  }
}

template <class Role>
void H1Connection<Role>::OnWritten() {
  this->writer_.Wake();
}

template <class Role>
Result<> H1Connection<Role>::TakeWrite() {
  if (failure_) {
    return Fail(*failure_);
  }
  if (stream_->write_error()) {
    return Fail(ErrorOfStream(false));
  }
  if (tunnel_ && write_complete_) {
    stream_->ShutdownWrite();
  }
  return {};
}

template <class Role>
void H1Connection<Role>::BeginWrite(BodyKind body, std::uint64_t length, bool bodiless) {
  write_complete_ = false;
  write_left_ = 0;
  if (bodiless) {
    framing_ = Framing::kNone;
    return;
  }
  switch (body) {
    case BodyKind::kNone:
      framing_ = Framing::kNone;
      break;
    case BodyKind::kLength:
      framing_ = Framing::kLength;
      write_left_ = length;
      break;
    case BodyKind::kChunked:
      framing_ = Framing::kChunked;
      break;
    case BodyKind::kUntilClose:
      framing_ = Framing::kRaw;
      break;
  }
}

template <class Role>
std::size_t H1Connection<Role>::Frame(std::span<const char> data, bool last,
                                      const Fields* trailers) {
  static const Fields kNoTrailers;
  write_complete_ = last;
  if (framing_ == Framing::kLength) {
    // Both ends of a body of known length are ours: the decoder that counted it in, or a text of
    // the configuration.
    TG_CHECK(data.size() <= write_left_);
    write_left_ -= data.size();
    TG_CHECK(!last || write_left_ == 0);
  }
  if (framing_ != Framing::kChunked) {
    return out_.size();
  }
  if (!data.empty()) {
    EncodeChunkSize(data.size(), out_);
  }
  std::size_t split = out_.size();
  if (!data.empty()) {
    out_.append("\r\n");
  }
  if (last) {
    EncodeLastChunk(trailers != nullptr ? *trailers : kNoTrailers, out_);
  }
  return split;
}

template <class Role>
Stream::WriteStatus H1Connection<Role>::Send(std::size_t split, std::span<const char> data) {
  std::array<uv_buf_t, 3> buffers;
  std::size_t count = 0;
  auto add = [&](const char* octets, std::size_t size) {
    if (size > 0) {
      // uv_buf_t has no const; libuv does not write to what it sends.
      buffers[count++] = {.base = const_cast<char*>(octets), .len = size};
      octets_out_ += size;
    }
  };
  add(out_.data(), split);
  add(data.data(), data.size());
  add(out_.data() + split, out_.size() - split);
  if (count == 0) {
    return Stream::WriteStatus::kDone;
  }
  return stream_->Write({buffers.data(), count});
}

template <class Role>
Stream::WriteStatus H1Connection<Role>::StartBody(std::span<const char> data, bool last,
                                                  const Fields* trailers) {
  if (failure_) {
    return Stream::WriteStatus::kFailed;
  }
  TG_CHECK(!write_complete_);
  out_.clear();
  std::size_t split = Frame(data, last, trailers);
  return Send(split, data);
}

template class H1Connection<ServerStream>;
template class H1Connection<ClientStream>;

// --- upstream

H1ClientConnection::H1ClientConnection(std::unique_ptr<Stream> stream, const DecoderLimits& limits)
    : H1Connection(std::move(stream), H1Decoder::ForResponses(limits)) {}

void H1ClientConnection::BeginExchange(ResponseHead& response) {
  ReleaseChunk();
  response_ = &response;
  head_ready_ = chunk_ready_ = false;
  write_complete_ = false;
  octets_in_ = octets_out_ = 0;
  idle_ = false;
  phase_ = Phase::kBetween;
}

Stream::WriteStatus H1ClientConnection::StartHead(const RequestHead& head,
                                                  std::span<const char> data, bool last) {
  method_ = head.method;
  decoder_.BeginResponse(*response_, method_);
  phase_ = Phase::kHead;
  if (failure_) {
    return Stream::WriteStatus::kFailed;
  }
  out_.clear();
  EncodeRequestHead(
      head, head.upgrade.empty() ? ConnectionOption::kNone : ConnectionOption::kUpgrade, out_);
  BeginWrite(head.body, head.content_length, false);
  std::size_t split = Frame(data, last, &head.trailers);
  Stream::WriteStatus status = Send(split, data);
  if (reader_.waiting()) {
    // What came before the request was left alone.
    OnReadable();
  }
  return status;
}

bool H1ClientConnection::PollHead() {
  // The interim head has been dealt with by now: the next one may overwrite it.
  if (phase_ == Phase::kComplete && !head_ready_ && response_->IsInterim()) {
    chunk_ready_ = false;
    decoder_.BeginResponse(*response_, method_);
    phase_ = Phase::kHead;
  }
  return PollHeadOctets();
}

Result<> H1ClientConnection::TakeHead() {
  ends_with_connection_ = response_->body == BodyKind::kUntilClose;
  if (ends_with_connection_) {
    stream_->RequireCloseNotify();
  }
  return TakeHeadOctets();
}

bool H1ClientConnection::reusable() const {
  bool clean = !tunnel_ && !failure_ && !read_failure_ && stream_->readable().size() == held_ &&
               stream_->read_state() == Stream::ReadState::kOpen && !stream_->write_error();
  // A lease may end before its exchange begins.
  bool unused = response_ == nullptr;
  return clean && (unused || (phase_ == Phase::kComplete && write_complete_ &&
                              response_->keep_alive && !ends_with_connection_));
}

void H1ClientConnection::SetIdle(Callback on_octets) {
  ReleaseChunk();
  ReleaseMemory();
  response_ = nullptr;
  on_octets_ = on_octets;
  idle_ = true;
}

void H1ClientConnection::OnReadable() {
  if (idle_) {
    on_octets_();
    return;
  }
  H1Connection::OnReadable();
}

}  // namespace tidegate
