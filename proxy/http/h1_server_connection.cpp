// The downstream role of a connection that speaks HTTP/1.1.

#include <utility>

#include "common/check.h"
#include "proxy/http/h1_connection.h"
#include "proxy/http/h1_encoder.h"

namespace tidegate {
namespace {

constexpr bool HasNoBody(int status, Method method) {
  return method == Method::kHead || status < 200 || status == 204 || status == 304;
}

// CRLFs and nothing else, or nothing at all.
bool IsEmptyLines(std::span<const char> octets) {
  constexpr std::string_view kEmptyLine = "\r\n";
  std::string_view rest(octets.data(), octets.size());
  while (rest.starts_with(kEmptyLine)) {
    rest.remove_prefix(kEmptyLine.size());
  }
  return rest.empty();
}

}  // namespace

H1ServerConnection::H1ServerConnection(std::unique_ptr<Stream> stream, const DecoderLimits& limits)
    : H1Connection(std::move(stream), H1Decoder::ForRequests(limits)) {
  stream_->WatchResets();
}

void H1ServerConnection::BeginRequest(RequestHead& head, const DecoderLimits& limits) {
  TG_CHECK(held_ == 0 || phase_ == Phase::kComplete);
  ReleaseChunk();
  request_ = &head;
  head_ready_ = chunk_ready_ = head_sent_ = false;
  write_complete_ = false;
  octets_in_ = octets_out_ = 0;
  framing_ = Framing::kNone;
  if (phase_ != Phase::kFailed) {
    phase_ = Phase::kHead;
  }
  decoder_.SetLimits(limits);
  decoder_.BeginRequest(head, std::exchange(empty_lines_, 0));
}

void H1ServerConnection::ContinueTunnel(RequestHead& request) {
  request_ = &request;
  head_sent_ = true;
  BecomeTunnel();
}

std::unique_ptr<Stream> H1ServerConnection::TakeStream() {
  TG_CHECK(held_ == 0 && !reader_.waiting() && !writer_.waiting());
  stream_->SetOwner(nullptr);
  return std::move(stream_);
}

bool H1ServerConnection::DropEmptyLines() {
  std::span<const char> octets = stream_->readable();
  std::size_t lines = empty_lines_ + octets.size() / 2;
  if (octets.empty() || !IsEmptyLines(octets) || lines > H1Decoder::kMaxEmptyLines) {
    return false;
  }
  empty_lines_ = static_cast<unsigned>(lines);
  stream_->Consume(octets.size());
  return true;
}

void H1ServerConnection::EndRequest() {
  // Where it is not the client's wish alone, more may come: CloseAfter.
  client_wants_close_ =
      phase_ == Phase::kComplete && !request_->keep_alive && write_complete_ && !must_linger_;
  request_ = nullptr;
  octets_in_ = octets_out_ = 0;
  ReleaseChunk();
  ReleaseMemory();
}

void H1ServerConnection::BeginLinger() {
  read_failure_.reset();
  phase_ = Phase::kBetween;
  BecomeTunnel();
  // The answer is with the kernel: a reset at the end of the linger would take it from there.
  write_complete_ = true;
  stream_->ShutdownWrite();
}

bool H1ServerConnection::client_closed_cleanly() const {
  bool nothing_unread = stream_->readable().size() == held_;
  bool ended = stream_->read_state() != Stream::ReadState::kOpen;
  return nothing_unread && (ended || client_wants_close_ || tunnel_);
}

bool H1ServerConnection::reusable() const {
  return phase_ == Phase::kComplete && write_complete_ && !close_after_ && !tunnel_ && !failure_ &&
         !read_failure_ && request_->keep_alive && framing_ != Framing::kRaw &&
         !stream_->write_error();
}

void H1ServerConnection::OnReadable() {
  if (client_ended() && !reader_.waiting() && on_gone_.function != nullptr) {
    on_gone_();
    return;
  }
  H1Connection::OnReadable();
}

Stream::WriteStatus H1ServerConnection::StartInterim(const ResponseHead& head) {
  if (failure_) {
    return Stream::WriteStatus::kFailed;
  }
  if (request_->minor_version == 0) {
    return Stream::WriteStatus::kDone;
  }
  out_.clear();
  EncodeResponseHead(head, ConnectionOption::kNone, out_);
  return Send(out_.size(), {});
}

Stream::WriteStatus H1ServerConnection::StartHead(ResponseHead& head, std::span<const char> data,
                                                  bool last) {
  if (failure_) {
    return Stream::WriteStatus::kFailed;
  }
  TG_CHECK(!head_sent_);
  bool http10 = request_->minor_version == 0;
  bool bodiless = HasNoBody(head.status, request_->method);
  if (http10 && head.body == BodyKind::kChunked) {
    head.body = BodyKind::kUntilClose;
  } else if (!http10 && head.body == BodyKind::kUntilClose) {
    head.body = BodyKind::kChunked;
  }
  if (head.body == BodyKind::kUntilClose && !bodiless) {
    close_after_ = true;
  }
  bool last_of_all = close_when_quiet_ && phase_ == Phase::kComplete &&
                     IsEmptyLines(stream_->readable().subspan(held_));
  // What was interrupted cannot be read on, so nothing can follow this answer.
  close_after_ = close_after_ || read_failure_.has_value() || last_of_all;
  ConnectionOption option = ConnectionOption::kNone;
  if (head.status == 101) {
    option = ConnectionOption::kUpgrade;
  } else if (close_after_ || !request_->keep_alive) {
    close_after_ = true;
    option = ConnectionOption::kClose;
  } else if (http10) {
    option = ConnectionOption::kKeepAlive;
  }
  out_.clear();
  EncodeResponseHead(head, option, out_);
  BeginWrite(head.body, head.content_length, bodiless);
  std::size_t split = Frame(data, last, &head.trailers);
  head_sent_ = true;
  return Send(split, data);
}

}  // namespace tidegate
