#include "proxy/http/h2_connection.h"

#include <array>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "proxy/http/h2_callbacks.h"

namespace tidegate {
namespace {

// So many frames may wait for a client that does not read before we do not read it either. It is
// less than what nghttp2 gives up at (1000 answers to SETTINGS and PING).
constexpr std::size_t kMaxQueuedFrames = 400;
// CONTINUATION frames of one block: of a head that is as large as it may be, in pieces that are far
// smaller than any client makes them.
constexpr std::size_t kContinuations = 16;
constexpr std::size_t kSmallContinuation = 4096;
// A list that is longer by so much is no mistake.
constexpr std::size_t kFloodFactor = 4;
constexpr std::size_t kFloodOctets = 64 * 1024;
// An upload is a large one from here on, and its origin keeps up while so little is unread.
constexpr std::uint64_t kWideAfter = 128 * 1024;
constexpr std::size_t kWindowKeptUp = 16 * 1024;

// Who writes so much at once writes more: the size of a write decides what bulk costs.
constexpr std::size_t kBulk = 40 * 1024;

// What all connections of this thread hold unread, and how many of them hold something.
thread_local std::size_t held_by_all = 0;
thread_local std::size_t holders = 0;
// How far the windows of all connections of this thread are wider than kConnectionWindow.
thread_local std::size_t widened_by_all = 0;

// What our RST_STREAM says of an error of ours or of an origin's.
std::uint32_t CodeOf(const Error& error) {
  return RowOf(error.kind()).side == Side::kUpstream || error.kind() == ErrorKind::kInternal
             ? NGHTTP2_INTERNAL_ERROR
             : NGHTTP2_CANCEL;
}

void PutNumber(std::uint32_t number, std::string& out) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    out += static_cast<char>(number >> shift & 0xffU);
  }
}

}  // namespace

H2Connection::H2Connection(Loop& loop, BufferPool& pool, std::unique_ptr<Stream> stream,
                           const DecoderLimits& limits, H2Handler& handler)
    : loop_(loop),
      pool_(pool),
      stream_(std::move(stream)),
      handler_(handler),
      flush_(Bind<&H2Connection::Flush>(this)),
      receive_(Bind<&H2Connection::OnReadable>(this)),
      budget_(loop.now()),
      max_block_octets_(kFloodFactor * limits.max_head_bytes + kFloodOctets),
      max_continuations_(
          static_cast<std::uint32_t>(kContinuations + limits.max_head_bytes / kSmallContinuation)) {
  // nghttp2 1.52 counts a CONTINUATION each time that a part of its header is read, of which there
  // may be nine: its bound must lie above all that ours lets through.
  constexpr std::uint32_t kHeaderParts = 9;
  session_ = H2Callbacks::MakeSession(*this, kHeaderParts * (max_continuations_ + 1));
  const std::array<nghttp2_settings_entry, 4> settings = {{
      H2Callbacks::kNoLimitOfStreams,
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<std::uint32_t>(limits.max_head_bytes)},
      {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  }};
  TG_CHECK(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) ==
           0);
  TG_CHECK(nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0,
                                                 kConnectionWindow) == 0);
}

H2Connection::~H2Connection() {
  opening_.reset();
  TG_CHECK(first_ == nullptr);
  nghttp2_session_del(session_);
  widened_by_all -= widened_;
  stream_->SetOwner(nullptr);
  // What it was writing.
  stream_.reset();
  if (out_ != nullptr) {
    pool_.Give(out_, out_size_class_);
  }
}

void H2Connection::Start() {
  stream_->SetOwner(this);
  stream_->WatchResets();
  flush_.Post();
  receive_.Post();
}

// --- The connection's life.

void H2Connection::AnnounceEnd() {
  if (broken_) {
    return;
  }
  nghttp2_submit_shutdown_notice(session_);
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  WantWrite();
}

void H2Connection::RefuseNew() {
  if (broken_) {
    return;
  }
  last_served_ = nghttp2_session_get_last_proc_stream_id(session_);
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last_served_, NGHTTP2_NO_ERROR, nullptr, 0);
  WantWrite();
}

void H2Connection::End(std::uint32_t code, Error why) {
  Break(code, std::move(why));
  WantWrite();
}

void H2Connection::Close(Error why, bool reset) {
  if (std::exchange(closed_, true)) {
    return;
  }
  broken_ = true;
  farewell_.clear();
  EndStreams(why);
  stream_->Close(reset);
  write_pending_ = false;
  ReleaseOut();
  WantWrite();
}

void H2Connection::Break(std::uint32_t code, Error why) {
  if (broken_) {
    return;
  }
  broken_ = true;
  constexpr std::string_view kHeader("\x00\x00\x08\x07\x00\x00\x00\x00\x00", 9);
  farewell_ = kHeader;
  PutNumber(static_cast<std::uint32_t>(nghttp2_session_get_last_proc_stream_id(session_)),
            farewell_);
  PutNumber(code, farewell_);
  EndStreams(why);
}

void H2Connection::EndStreams(const Error& why) {
  opening_.reset();
  trailers_of_ = 0;
  for (H2ServerStream* stream = first_; stream != nullptr; stream = stream->next_) {
    stream->Gone(why);
  }
}

void H2Connection::Lost() {
  const auto& error = stream_->write_error();
  Close(Error(ErrorKind::kClientClosed, error ? error->ToString() : "connection reset"), false);
}

void H2Connection::BeginLinger() {
  lingering_ = true;
  if (closed_) {
    return;
  }
  stream_->ShutdownWrite();
  receive_.Post();
}

bool H2Connection::finished() const {
  if (closed_) {
    return true;
  }
  if (write_pending_ || out_size_ > 0 || flush_.posted()) {
    return false;
  }
  if (broken_) {
    return farewell_.empty();
  }
  return nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
}

void H2Connection::SpendOn(H2Abuse abuse, std::uint32_t count) {
  if (!budget_.Spend(abuse, loop_.now(), count)) {
    Blame(RowOf(abuse).error, RowOf(abuse).detail);
    WantWrite();
  }
}

// Only says it: what follows is done where no callback of nghttp2 is running.
void H2Connection::Blame(ErrorKind kind, std::string_view detail) {
  if (!end_error_) {
    end_error_ = Error(kind, std::string(detail));
    blamed_ = true;
  }
}

void H2Connection::BreakIfBlamed() {
  if (std::exchange(blamed_, false)) {
    const bool is_protocol = end_error_->kind() == ErrorKind::kH2Protocol;
    Break(is_protocol ? broken_code_ : NGHTTP2_ENHANCE_YOUR_CALM, ErrorOfEnd());
  }
}

// What the streams hear of it.
Error H2Connection::ErrorOfEnd() const {
  std::string detail = "the connection was ended: ";
  detail += RowOf(end_error_->kind()).log_name;
  return Error(ErrorKind::kClientClosed, std::move(detail));
}

// --- Reading.

void H2Connection::OnReadable() {
  if (lingering_) {
    octets_in_ += stream_->readable().size();
    stream_->Consume(stream_->readable().size());
  } else {
    Receive();
  }
  handler_.OnChange();
}

void H2Connection::Receive() {
  held_back_ = false;
  while (!broken_ && !stream_->readable().empty()) {
    if (write_pending_ && nghttp2_session_get_outbound_queue_size(session_) > kMaxQueuedFrames) {
      held_back_ = true;
      return;
    }
    const std::span<char> octets = stream_->readable();
    Walk(octets);
    const ssize_t size = nghttp2_session_mem_recv(
        session_, reinterpret_cast<const std::uint8_t*>(octets.data()), octets.size());
    octets_in_ += octets.size();
    stream_->Consume(octets.size());
    if (size < 0) {
      Blame(ErrorKind::kH2Protocol, nghttp2_strerror(static_cast<int>(size)));
    }
    BreakIfBlamed();
  }
  if (broken_ && !closed_) {
    stream_->Consume(stream_->readable().size());
  }
  if (stream_->read_state() == Stream::ReadState::kFailed) {
    Lost();
  } else if (stream_->read_state() == Stream::ReadState::kEnded) {
    Close(Error(ErrorKind::kClientClosed, "the client has closed the connection"), false);
  }
  WantWrite();
}

void H2Connection::Walk(std::span<const char> octets) {
  const auto octet = [this](std::size_t at) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(walk_header_[at]));
  };
  while (!octets.empty()) {
    if (walk_skip_ > 0) {
      const std::size_t skipped = std::min(walk_skip_, octets.size());
      walk_skip_ -= skipped;
      octets = octets.subspan(skipped);
      continue;
    }
    const std::size_t taken = std::min(walk_header_.size() - walk_header_size_, octets.size());
    std::memcpy(walk_header_.data() + walk_header_size_, octets.data(), taken);
    walk_header_size_ += taken;
    octets = octets.subspan(taken);
    if (walk_header_size_ == walk_header_.size()) {
      walk_header_size_ = 0;
      walk_skip_ = octet(0) << 16U | octet(1) << 8U | octet(2);
      const std::uint32_t id =
          (octet(5) & 0x7fU) << 24U | octet(6) << 16U | octet(7) << 8U | octet(8);
      JudgeForgotten(static_cast<std::uint8_t>(octet(3)), walk_skip_, static_cast<std::int32_t>(id),
                     (octet(4) & NGHTTP2_FLAG_END_STREAM) != 0);
    }
  }
}

// What is said of a stream that is over stays true, however much of the input comes before it. RFC
// 9113 section 5.1.
void H2Connection::JudgeForgotten(std::uint8_t type, std::size_t size, std::int32_t id, bool ends) {
  if (type != NGHTTP2_DATA || id == 0 || id > last_opened_ ||
      nghttp2_session_get_stream_local_close(session_, id) != -1) {
    return;
  }
  if (ended_.Has(id)) {
    broken_code_ = NGHTTP2_STREAM_CLOSED;
    Blame(ErrorKind::kH2Protocol, "DATA on a stream that its client has ended");
  } else if (size == 0 && !ends) {
    SpendOn(H2Abuse::kEmptyData);
  }
}

// --- Writing.

void H2Connection::OnWritten() {
  write_pending_ = false;
  ReleaseOut();
  if (stream_->write_error()) {
    Lost();
  }
  Flush();
  if (held_back_ && !write_pending_) {
    OnReadable();
  }
}

void H2Connection::Flush() {
  flush_.TakeBack();
  bool more = true;
  while (more && !write_pending_ && !closed_) {
    more = !Collect();
    if (out_size_ == 0) {
      break;
    }
    const uv_buf_t buffer{.base = out_, .len = out_size_};
    octets_out_ += out_size_;
    switch (stream_->Write({&buffer, 1})) {
      case Stream::WriteStatus::kDone:
        ReleaseOut();
        break;
      case Stream::WriteStatus::kPending:
        write_pending_ = true;
        break;
      case Stream::WriteStatus::kFailed:
        ReleaseOut();
        Lost();
        break;
    }
  }
  if (!closed_ && !write_pending_) {
    ReleaseOut();
  }
  handler_.OnChange();
}

bool H2Connection::Collect() {
  if (out_ == nullptr) {
    out_full_ = false;
    out_size_class_ = bulk_ ? BufferSize::kLarge : BufferSize::kMedium;
    out_ = pool_.Take(out_size_class_);
  }
  while (!broken_) {
    if (room() < kMaxFrame) {
      out_full_ = true;
    }
    if (out_full_) {
      return false;
    }
    const std::uint8_t* octets = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_, &octets);
    BreakIfBlamed();
    if (size > 0) {
      Put({reinterpret_cast<const char*>(octets), static_cast<std::size_t>(size)});
      if (!std::exchange(announced_, true)) {
        H2Callbacks::AnnounceLimit({out_, out_size_});
      }
    } else if (size < 0) {
      Break(NGHTTP2_INTERNAL_ERROR,
            Error(ErrorKind::kInternal, nghttp2_strerror(static_cast<int>(size))));
    } else if (!broken_) {
      if (end_error_) {
        // nghttp2 has said GOAWAY of its own accord: nothing will be served any more.
        EndStreams(ErrorOfEnd());
      }
      return !out_full_;
    }
  }
  if (!farewell_.empty() && room() >= farewell_.size()) {
    Put(farewell_);
    farewell_.clear();
  }
  return farewell_.empty();
}

void H2Connection::Put(std::span<const char> octets) {
  TG_CHECK(octets.size() <= room());
  if (octets.empty()) {
    return;
  }
  std::memcpy(out_ + out_size_, octets.data(), octets.size());
  out_size_ += octets.size();
}

void H2Connection::ReleaseOut() {
  if (out_size_ > 0) {
    bulk_ = out_full_ || out_size_ > kBulk;
  }
  out_size_ = 0;
  if (out_ != nullptr) {
    pool_.Give(std::exchange(out_, nullptr), out_size_class_);
  }
}

// --- For the streams.

void H2Connection::Add(H2ServerStream& stream) {
  stream.next_ = first_;
  if (first_ != nullptr) {
    first_->previous_ = &stream;
  }
  first_ = &stream;
  ++stream_count_;
}

void H2Connection::Remove(H2ServerStream& stream) {
  (stream.previous_ != nullptr ? stream.previous_->next_ : first_) = stream.next_;
  if (stream.next_ != nullptr) {
    stream.next_->previous_ = stream.previous_;
  }
  --stream_count_;
  wide_count_ -= stream.wide_ ? 1 : 0;
  if (trailers_of_ == stream.id()) {
    // The rest of its trailers is still to come, and the head that they belong to goes.
    trailers_of_ = 0;
  }
  if (broken_) {
    return;
  }
  if (stream.wide_ && wide_count_ == 0) {
    Narrow();
  }
  nghttp2_session_set_stream_user_data(session_, stream.id(), nullptr);
  if (!stream.closed_) {
    const bool whole = stream.local_ended_ && !stream.failure_;
    if (!whole || !stream.remote_ended_) {
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream.id(),
                                whole ? NGHTTP2_NO_ERROR : NGHTTP2_INTERNAL_ERROR);
    }
  }
  // The last one may have been what kept the connection.
  WantWrite();
}

void H2Connection::Reset(H2ServerStream& stream, const Error& why) {
  if (broken_ || stream.closed_) {
    return;
  }
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream.id(), CodeOf(why));
  WantWrite();
}

// Where the worker is short, who holds much waits for its own readers, and who holds little does
// not notice.
bool H2Connection::MayHoldMore() const {
  constexpr std::size_t kLeast = kConnectionWindow;
  return held_ <= kMostHeld &&
         (held_by_all <= kMostHeldByAll || held_ <= std::max(kShared / holders, kLeast));
}

void H2Connection::Hold(std::size_t octets) {
  holders += held_ == 0 && octets > 0 ? 1 : 0;
  held_ += octets;
  held_by_all += octets;
  if (octets == 0 || MayHoldMore()) {
    Pay(octets);
  } else {
    owed_ += octets;
  }
}

// What was granted cannot be taken back, only not be granted again.
void H2Connection::Pay(std::size_t octets) {
  if (narrow_ && widened_ > 0) {
    const std::size_t kept = std::min(widened_, octets);
    widened_ -= kept;
    widened_by_all -= kept;
    octets -= kept;
  }
  nghttp2_session_consume_connection(session_, octets);
}

void H2Connection::Credit(H2ServerStream& stream, std::size_t octets) {
  if (octets == 0) {
    return;
  }
  held_ -= octets;
  held_by_all -= octets;
  holders -= held_ == 0 ? 1 : 0;
  if (broken_) {
    return;
  }
  const std::size_t paid = held_ == 0 || MayHoldMore() ? owed_ : std::min(owed_, octets);
  if (paid > 0) {
    owed_ -= paid;
    Pay(paid);
  }
  if (!stream.closed_ && !stream.remote_ended_ && !stream.failure_) {
    nghttp2_session_consume_stream(session_, stream.id(), octets);
    Widen(stream);
  }
  WantWrite();
}

// A window of 64 KiB is 64 KiB a round trip. An upload whose origin keeps up gets a wider one; few
// at a time, because what is granted must be kept if the origin stops.
void H2Connection::Widen(H2ServerStream& stream) {
  const bool room = !narrow_ || widened_by_all - widened_ + kWider <= kMostWidened;
  if (stream.wide_ || wide_count_ == kMaxWide || stream.received_ < kWideAfter ||
      stream.inbox_.size() > kWindowKeptUp || held_by_all > kMostHeldByAll / 4 || !room) {
    return;
  }
  stream.wide_ = true;
  ++wide_count_;
  stream.inbox_.Widen();
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, stream.id(), kWideWindow);
  if (std::exchange(narrow_, false)) {
    nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWideConnectionWindow);
    const std::size_t missing = kWider - widened_;
    widened_ = kWider;
    widened_by_all += missing;
    if (std::exchange(was_wide_, true)) {
      // nghttp2 takes it for the window that it had; it is told what of it was used up since.
      nghttp2_session_consume_connection(session_, missing);
    }
  }
}

// The last large upload has ended.
void H2Connection::Narrow() {
  narrow_ = true;
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

// fields_ as nghttp2 takes them. It has no const; it does not write to what it sends.
void H2Connection::PairUp(std::uint8_t flags) {
  const auto octets = [](std::string_view text) {
    return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
  };
  pairs_.clear();
  for (const H2Field& field : fields_) {
    pairs_.push_back({.name = octets(field.name),
                      .value = octets(field.value),
                      .namelen = field.name.size(),
                      .valuelen = field.value.size(),
                      .flags = flags});
  }
}

void H2Connection::SubmitHead(H2ServerStream& stream, ResponseHead& head, int status,
                              bool data_follows) {
  fields_.clear();
  EncodeH2Response(head, status, head.arena, fields_);
  // They live until the write completes; a stream that is reset before has its HEADERS dropped by
  // nghttp2 without a look at them.
  PairUp(NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE);
  const nghttp2_data_provider provider = H2Callbacks::DataProvider();
  nghttp2_submit_response(session_, stream.id(), pairs_.data(), pairs_.size(),
                          data_follows ? &provider : nullptr);
}

void H2Connection::SubmitInterim(H2ServerStream& stream, const ResponseHead& head) {
  Arena arena;
  fields_.clear();
  EncodeH2Response(head, head.status, arena, fields_);
  PairUp(NGHTTP2_NV_FLAG_NONE);
  nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, stream.id(), nullptr, pairs_.data(),
                         pairs_.size(), nullptr);
}

// False: none of them may be sent, or the client has gone.
bool H2Connection::SubmitTrailers(H2ServerStream& stream, const Fields& trailers) {
  Arena arena;
  fields_.clear();
  EncodeH2Trailers(trailers, arena, fields_);
  if (fields_.empty()) {
    return false;
  }
  PairUp(NGHTTP2_NV_FLAG_NONE);
  return nghttp2_submit_trailer(session_, stream.id(), pairs_.data(), pairs_.size()) == 0;
}

void H2Connection::ResumeData(H2ServerStream& stream) {
  if (!broken_) {
    nghttp2_session_resume_data(session_, stream.id());
  }
}

bool H2Connection::WindowShut(const H2ServerStream& stream) const {
  return broken_ || (!stream.data_.empty() &&
                     nghttp2_session_get_stream_remote_window_size(session_, stream.id()) <= 0);
}

}  // namespace tidegate
