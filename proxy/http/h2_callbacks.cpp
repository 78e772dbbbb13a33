#include "proxy/http/h2_callbacks.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/check.h"

namespace tidegate {
namespace {

constexpr std::size_t kFrameHeader = 9;
constexpr std::size_t kFieldOverhead = 32;

H2Connection& Self(void* self) {
  return *static_cast<H2Connection*>(self);
}

std::string_view Text(const std::uint8_t* octets, std::size_t size) {
  return {reinterpret_cast<const char*>(octets), size};
}

}  // namespace

const nghttp2_session_callbacks* H2Callbacks::Table() {
  static const nghttp2_session_callbacks* const table = [] {
    nghttp2_session_callbacks* made = nullptr;
    TG_CHECK(nghttp2_session_callbacks_new(&made) == 0);
    nghttp2_session_callbacks_set_on_begin_frame_callback(made, &OnBeginFrame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, &OnBeginHeaders);
    nghttp2_session_callbacks_set_on_header_callback(made, &OnHeader);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, &OnFrame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, &OnData);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, &OnStreamClose);
    nghttp2_session_callbacks_set_on_frame_send_callback(made, &OnFrameSent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(made, &OnFrameNotSent);
    nghttp2_session_callbacks_set_send_data_callback(made, &SendData);
    nghttp2_session_callbacks_set_unpack_extension_callback(made, &UnpackNothing);
    return made;
  }();
  return table;
}

nghttp2_session* H2Callbacks::MakeSession(H2Connection& connection,
                                          std::uint32_t max_continuations) {
  nghttp2_option* options = nullptr;
  TG_CHECK(nghttp2_option_new(&options) == 0);
  // Invariant 1 of H2Connection.
  nghttp2_option_set_no_auto_window_update(options, 1);
  // h2_rules.h judges all of it, in one place and as strictly for HTTP/1 as for HTTP/2.
  nghttp2_option_set_no_http_messaging(options, 1);
  nghttp2_option_set_max_continuations(options, max_continuations);
  // It would keep as many as its limit of streams, which is none.
  nghttp2_option_set_no_closed_streams(options, 1);
  // A head of ours may be as large as an origin's may, and then some.
  constexpr std::size_t kMaxHeadOctets = 4 * 1024 * 1024;
  nghttp2_option_set_max_send_header_block_length(options, kMaxHeadOctets);
  // Unknown types are ours to count, and to ignore: of others nghttp2 tells nothing.
  constexpr unsigned kFirstUnknown = NGHTTP2_CONTINUATION + 1;
  for (unsigned type = kFirstUnknown; type <= 0xff; ++type) {
    nghttp2_option_set_user_recv_extension_type(options, static_cast<std::uint8_t>(type));
  }
  nghttp2_session* session = nullptr;
  TG_CHECK(nghttp2_session_server_new2(&session, Table(), &connection, options) == 0);
  nghttp2_option_del(options);
  return session;
}

void H2Callbacks::AnnounceLimit(std::span<char> settings) {
  // The first entry.
  constexpr std::size_t kValueAt = kFrameHeader + 2;
  TG_CHECK(settings.size() >= kValueAt + 4 && settings[3] == NGHTTP2_SETTINGS &&
           settings[kValueAt - 1] == NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  for (std::size_t octet = 0; octet < 4; ++octet) {
    settings[kValueAt + octet] =
        static_cast<char>(H2Connection::kMaxStreams >> (24 - 8 * octet) & 0xffU);
  }
}

nghttp2_data_provider H2Callbacks::DataProvider() {
  return {.source = {.ptr = nullptr}, .read_callback = &ReadData};
}

H2ServerStream* H2Callbacks::StreamOf(nghttp2_session* session, std::int32_t id) {
  return static_cast<H2ServerStream*>(nghttp2_session_get_stream_user_data(session, id));
}

// --- What comes.

// Every frame costs something, whatever is in it.
int H2Callbacks::OnBeginFrame(nghttp2_session*, const nghttp2_frame_hd* header, void* self) {
  H2Connection& connection = Self(self);
  switch (header->type) {
    case NGHTTP2_DATA:
      break;
    case NGHTTP2_HEADERS:
      connection.continuations_ = 0;
      connection.block_octets_ = 0;
      break;
    case NGHTTP2_CONTINUATION:
      if (++connection.continuations_ > connection.max_continuations_) {
        connection.Blame(ErrorKind::kH2ContinuationFlood, "too many CONTINUATION frames");
      }
      break;
    case NGHTTP2_PRIORITY:
    case NGHTTP2_PRIORITY_UPDATE:
      connection.SpendOn(H2Abuse::kPriority);
      break;
    case NGHTTP2_RST_STREAM:
      connection.SpendOn(H2Abuse::kReset);
      break;
    case NGHTTP2_SETTINGS:
      connection.SpendOn(H2Abuse::kSettings);
      break;
    case NGHTTP2_PING:
      connection.SpendOn(H2Abuse::kPing);
      break;
    case NGHTTP2_WINDOW_UPDATE:
      connection.SpendOn(H2Abuse::kWindow, H2WindowCost::kEach);
      break;
    case NGHTTP2_PUSH_PROMISE:
      break;
    default:
      // GOAWAY among them: nobody needs many.
      connection.SpendOn(H2Abuse::kUnknown);
      break;
  }
  JudgeStreamOf(connection, *header);
  return connection.end_error_ ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

// What nghttp2 does not look at: PRIORITY, since we have said that we ignore it, and streams that
// it has forgotten.
void H2Callbacks::JudgeStreamOf(H2Connection& self, const nghttp2_frame_hd& header) {
  const std::int32_t id = header.stream_id;
  if (self.end_error_) {
    return;
  }
  if (header.type == NGHTTP2_PRIORITY && id == 0) {
    self.Blame(ErrorKind::kH2Protocol, "PRIORITY on stream 0");
    return;
  }
  if (header.type != NGHTTP2_HEADERS || id == 0 || id > self.last_opened_ ||
      id > self.last_served_ || nghttp2_session_get_stream_local_close(self.session_, id) != -1) {
    return;
  }
  if (!self.reset_.Has(id)) {
    self.broken_code_ = NGHTTP2_STREAM_CLOSED;
    self.Blame(ErrorKind::kH2Protocol, "a frame on a stream that is closed");
  }
}

int H2Callbacks::OnBeginHeaders(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
  H2Connection& connection = Self(self);
  ++connection.heads_;
  const std::int32_t id = frame->hd.stream_id;
  if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
    H2ServerStream* stream = StreamOf(session, id);
    if (stream != nullptr && !stream->failure_ && !stream->remote_ended_) {
      connection.trailers_of_ = id;
      connection.reader_.BeginTrailers(*stream->request_, connection.handler_.HeadLimits());
    }
    return 0;
  }
  connection.last_opened_ = id;
  ++connection.open_streams_;
  const bool unwanted =
      connection.open_streams_ > H2Connection::kMaxStreams || id > connection.last_served_;
  RequestHead* head = unwanted ? nullptr : connection.handler_.NextHead();
  if (head == nullptr) {
    connection.SpendOn(H2Abuse::kRefused);
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    return 0;
  }
  connection.opening_ = std::make_unique<H2ServerStream>(connection, id, *head, connection.pool_);
  connection.reader_.BeginRequest(*head, connection.handler_.HeadLimits());
  nghttp2_session_set_stream_user_data(session, id, connection.opening_.get());
  // All streams take turns: a long download is no reason for the others to wait.
  constexpr nghttp2_extpri kFair{.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};
  nghttp2_session_change_extpri_stream_priority(session, id, &kFair, 1);
  return 0;
}

int H2Callbacks::OnHeader(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                          std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                          std::uint8_t, void* self) {
  H2Connection& connection = Self(self);
  // HPACK makes kilobytes out of an octet: also of a block that nobody wants to see.
  connection.block_octets_ += name_size + value_size + kFieldOverhead;
  if (connection.block_octets_ > connection.max_block_octets_) {
    connection.Blame(ErrorKind::kH2HeaderFlood, "a header list many times over max_header_bytes");
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }
  const std::int32_t id = frame->hd.stream_id;
  const bool wanted = connection.trailers_of_ == id ||
                      (connection.opening_ != nullptr && connection.opening_->id() == id);
  if (wanted) {
    connection.reader_.Add(Text(name, name_size), Text(value, value_size));
  }
  return 0;
}

int H2Callbacks::UnpackNothing(nghttp2_session*, void**, const nghttp2_frame_hd*, void*) {
  return NGHTTP2_ERR_CANCEL;
}

int H2Callbacks::OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
  H2Connection& connection = Self(self);
  const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
      HeadersCame(connection, *frame);
      break;
    case NGHTTP2_DATA:
      if (H2ServerStream* stream = StreamOf(session, frame->hd.stream_id)) {
        stream->FrameCame(kFrameHeader + frame->hd.length);
      }
      if (ends) {
        EndCame(connection, session, frame->hd.stream_id);
      } else if (frame->hd.length == frame->data.padlen) {
        connection.SpendOn(H2Abuse::kEmptyData);
      }
      break;
    case NGHTTP2_RST_STREAM:
      connection.handler_.OnClientReset();
      break;
    case NGHTTP2_SETTINGS:
      connection.greeted_ = true;
      break;
    case NGHTTP2_WINDOW_UPDATE:
      if (frame->window_update.window_size_increment < H2WindowCost::kSmallBelow) {
        connection.SpendOn(H2Abuse::kWindow, H2WindowCost::kSmall - H2WindowCost::kEach);
      }
      break;
    case NGHTTP2_PING:
      connection.pinged_ = connection.pinged_ || (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
      break;
    default:
      break;
  }
  return 0;
}

void H2Callbacks::HeadersCame(H2Connection& self, const nghttp2_frame& frame) {
  const std::int32_t id = frame.hd.stream_id;
  const bool ends = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (self.opening_ != nullptr && self.opening_->id() == id) {
    std::unique_ptr<H2ServerStream> stream = std::move(self.opening_);
    stream->FrameCame(kFrameHeader + frame.hd.length);
    std::optional<Error> refused;
    if (auto fault = self.reader_.End(ends)) {
      refused = Error(fault->kind, std::string(fault->detail));
      if (fault->malformed) {
        Malformed(self, *stream, *refused);
      }
    }
    if (stream->failure_ || refused) {
      stream->remote_ended_ = ends;
    } else {
      stream->HeadCame(self.reader_, ends);
    }
    self.handler_.OnRequest(std::move(stream), std::move(refused));
    return;
  }
  if (std::exchange(self.trailers_of_, 0) != id || id == 0) {
    return;
  }
  H2ServerStream* stream = StreamOf(self.session_, id);
  if (stream == nullptr || stream->failure_) {
    return;
  }
  stream->FrameCame(kFrameHeader + frame.hd.length);
  if (auto fault = self.reader_.End(ends)) {
    Malformed(self, *stream, Error(fault->kind, std::string(fault->detail)));
    return;
  }
  EndCame(self, self.session_, id);
}

void H2Callbacks::EndCame(H2Connection& self, nghttp2_session* session, std::int32_t id) {
  H2ServerStream* stream = StreamOf(session, id);
  if (stream == nullptr || stream->failure_) {
    return;
  }
  if (auto fault = stream->EndCame()) {
    Malformed(self, *stream, *fault);
  }
}

void H2Callbacks::Malformed(H2Connection& self, H2ServerStream& stream, const Error& why) {
  nghttp2_submit_rst_stream(self.session_, NGHTTP2_FLAG_NONE, stream.id(), NGHTTP2_PROTOCOL_ERROR);
  stream.Gone(why);
}

int H2Callbacks::OnData(nghttp2_session* session, std::uint8_t, std::int32_t id,
                        const std::uint8_t* data, std::size_t size, void* self) {
  H2Connection& connection = Self(self);
  H2ServerStream* stream = StreamOf(session, id);
  if (stream == nullptr || stream->failure_) {
    connection.Pay(size);
    return 0;
  }
  if (auto fault = stream->DataCame({reinterpret_cast<const char*>(data), size})) {
    connection.Pay(size);
    Malformed(connection, *stream, *fault);
  }
  return 0;
}

int H2Callbacks::OnStreamClose(nghttp2_session* session, std::int32_t id, std::uint32_t code,
                               void* self) {
  H2Connection& connection = Self(self);
  --connection.open_streams_;
  if (connection.trailers_of_ == id) {
    connection.trailers_of_ = 0;
  }
  H2ServerStream* stream = StreamOf(session, id);
  if (stream == nullptr) {
    return 0;
  }
  if (stream->remote_ended_ && !stream->failure_) {
    connection.ended_.Add(id);
  }
  stream->Gone(Error(ErrorKind::kClientClosed,
                     std::string("the stream was reset: ") + nghttp2_http2_strerror(code)));
  if (connection.opening_.get() == stream) {
    connection.opening_.reset();
  }
  return 0;
}

// --- What goes.

int H2Callbacks::OnFrameSent(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
  H2Connection& connection = Self(self);
  const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
      if (H2ServerStream* stream = StreamOf(session, frame->hd.stream_id)) {
        stream->head_taken_ = true;
        stream->FrameTaken(kFrameHeader + frame->hd.length, 0, ends);
      }
      break;
    case NGHTTP2_DATA: {
      // A client opens the window as it reads, and gRPC pings with each piece to learn how far.
      H2ServerStream* stream = StreamOf(session, frame->hd.stream_id);
      const bool cut = stream == nullptr || stream->data_.size() > frame->hd.length;
      connection.budget_.Earn(H2Abuse::kWindow, H2WindowCost::Explained(frame->hd.length, cut));
      connection.budget_.Earn(H2Abuse::kPing, 1);
      if (stream != nullptr) {
        stream->FrameTaken(kFrameHeader + frame->hd.length, frame->hd.length, ends);
      }
      break;
    }
    case NGHTTP2_RST_STREAM:
      connection.reset_.Add(frame->hd.stream_id);
      switch (frame->rst_stream.error_code) {
        case NGHTTP2_NO_ERROR:
        case NGHTTP2_CANCEL:
        case NGHTTP2_INTERNAL_ERROR:
          // Ours: an answer that came before the end of its request, or that an origin has broken.
        case NGHTTP2_REFUSED_STREAM:
          // Counted when it was refused.
          break;
        default:
          connection.SpendOn(H2Abuse::kProvoked);
          break;
      }
      break;
    case NGHTTP2_GOAWAY:
      if (frame->goaway.error_code != NGHTTP2_NO_ERROR && !connection.end_error_) {
        std::string detail = nghttp2_http2_strerror(frame->goaway.error_code);
        if (frame->goaway.opaque_data_len > 0) {
          detail += ": ";
          detail += Text(frame->goaway.opaque_data, frame->goaway.opaque_data_len);
        }
        connection.end_error_ = Error(ErrorKind::kH2Protocol, std::move(detail));
      }
      break;
    default:
      break;
  }
  return 0;
}

int H2Callbacks::OnFrameNotSent(nghttp2_session* session, const nghttp2_frame* frame, int error,
                                void* self) {
  H2Connection& connection = Self(self);
  H2ServerStream* stream = StreamOf(session, frame->hd.stream_id);
  if (frame->hd.type != NGHTTP2_HEADERS || stream == nullptr) {
    return 0;
  }
  switch (error) {
    case NGHTTP2_ERR_SESSION_CLOSING:
    case NGHTTP2_ERR_STREAM_CLOSING:
    case NGHTTP2_ERR_STREAM_CLOSED:
      stream->Gone(connection.end_error_
                       ? connection.ErrorOfEnd()
                       : Error(ErrorKind::kClientClosed, "the stream was closed meanwhile"));
      break;
    default:
      stream->WriteFailed(Error(ErrorKind::kInternal, nghttp2_strerror(error)));
      break;
  }
  return 0;
}

// Says how much there is; SendData takes it.
ssize_t H2Callbacks::ReadData(nghttp2_session* session, std::int32_t id, std::uint8_t*,
                              std::size_t most, std::uint32_t* flags, nghttp2_data_source*,
                              void* self) {
  H2Connection& connection = Self(self);
  H2ServerStream* stream = StreamOf(session, id);
  if (stream == nullptr) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  if (stream->data_.empty() && !(stream->writing_ && stream->last_)) {
    stream->deferred_ = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  const std::size_t size = std::min(most, stream->data_.size());
  // What nghttp2 itself says next must find room, too: at most a frame at a time.
  if (connection.room() < H2Connection::kMaxFrame + kFrameHeader + size) {
    connection.out_full_ = true;
    return NGHTTP2_ERR_PAUSE;
  }
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (stream->last_ && size == stream->data_.size()) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (stream->trailers_ != nullptr &&
        connection.SubmitTrailers(*stream, *std::exchange(stream->trailers_, nullptr))) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    }
  }
  return static_cast<ssize_t>(size);
}

int H2Callbacks::SendData(nghttp2_session* session, nghttp2_frame* frame,
                          const std::uint8_t* header, std::size_t size, nghttp2_data_source*,
                          void* self) {
  H2Connection& connection = Self(self);
  H2ServerStream* stream = StreamOf(session, frame->hd.stream_id);
  if (stream == nullptr || stream->data_.size() < size) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  TG_CHECK(frame->data.padlen == 0);
  connection.Put({reinterpret_cast<const char*>(header), kFrameHeader});
  connection.Put(stream->data_.first(size));
  return 0;
}

}  // namespace tidegate
