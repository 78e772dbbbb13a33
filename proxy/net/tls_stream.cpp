#include "proxy/net/tls_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "common/check.h"

namespace tidegate {
namespace {

// What may wait beside a pending write, of our own answers.
constexpr std::size_t kMostAnswers = 4096;

}  // namespace

std::unique_ptr<TlsStream> TlsStream::Accept(Loop& loop, BufferPool& pool, Handshakes& handshakes,
                                             std::unique_ptr<Stream> inner,
                                             const std::shared_ptr<const ServerTls>& tls,
                                             Duration handshake_timeout) {
  OwnedSsl ssl(SSL_new(tls->context()));
  TG_CHECK(ssl != nullptr);
  SSL_set_accept_state(ssl.get());
  std::unique_ptr<TlsStream> stream(
      new TlsStream(loop, pool, &handshakes, std::move(inner), std::move(ssl), tls));
  stream->server_ = tls.get();
  stream->handshake_deadline_.Arm(handshake_timeout);
  handshakes.Join(*stream);
  return stream;
}

std::unique_ptr<TlsStream> TlsStream::Connect(Loop& loop, BufferPool& pool,
                                              std::unique_ptr<Stream> inner,
                                              const std::shared_ptr<TlsPeer>& peer,
                                              Duration handshake_timeout) {
  std::unique_ptr<TlsStream> stream(
      new TlsStream(loop, pool, nullptr, std::move(inner), peer->Open(), peer));
  stream->handshake_deadline_.Arm(handshake_timeout);
  return stream;
}

TlsStream::TlsStream(Loop& loop, BufferPool& pool, Handshakes* handshakes,
                     std::unique_ptr<Stream> inner, OwnedSsl ssl,
                     std::shared_ptr<const void> settings)
    : loop_(loop),
      pool_(pool),
      handshakes_(handshakes),
      settings_(std::move(settings)),
      ssl_(std::move(ssl)),
      output_(pool),
      inner_(std::move(inner)),
      handshake_deadline_(loop.timers(), Bind<&TlsStream::OnHandshakeTimeout>(this)),
      next_turn_(loop.timers(), Bind<&TlsStream::OnTurn>(this)),
      posted_(Bind<&TlsStream::OnTurn>(this)) {
  BIO* bio = SSL_get_rbio(ssl_.get());
  if (bio == nullptr) {
    bio = BIO_new(Method());
    TG_CHECK(bio != nullptr);
    SSL_set_bio(ssl_.get(), bio, bio);
  }
  BIO_set_data(bio, this);
  SSL_set_msg_callback(ssl_.get(), &TlsStream::OnRecord);
  SSL_set_msg_callback_arg(ssl_.get(), this);
}

std::unique_ptr<TlsStream> TlsStream::Resume(Loop& loop, BufferPool& pool,
                                             std::unique_ptr<Stream> inner, OwnedSsl ssl,
                                             std::shared_ptr<const ServerTls> settings) {
  const ServerTls* server = settings.get();
  std::unique_ptr<TlsStream> stream(
      new TlsStream(loop, pool, nullptr, std::move(inner), std::move(ssl), std::move(settings)));
  stream->server_ = server;
  stream->handshake_done_ = stream->heard_ = stream->hello_judged_ = true;
  return stream;
}

std::optional<DetachedTls> TlsStream::DetachTls() {
  bool writes = write_pending_ || inner_pending_ || write_shut_ || write_error_ || HasUnsealed() ||
                output_.held_bytes() > 0;
  bool still = server_ != nullptr && handshake_done_ && !broken_ && !close_notify_required_ &&
               begin_ == end_ && read_state_ == ReadState::kOpen && !close_notify_heard_ &&
               !tell_readable_ && !tell_written_ && !writes && !HasUndecrypted() && !InsideRecord();
  UniqueFd fd;
  if (still) {
    fd = inner_->Detach();
  }
  if (!fd) {
    return std::nullopt;
  }
  BIO_set_data(SSL_get_rbio(ssl_.get()), nullptr);
  SSL_set_msg_callback_arg(ssl_.get(), nullptr);
  DetachedTls detached{
      .fd = std::move(fd), .settings = {settings_, server_}, .ssl = std::move(ssl_)};
  broken_ = true;
  Close(false);
  return detached;
}

TlsStream::~TlsStream() {
  LeaveHandshakes();
  bool well = handshake_done_ && !broken_ && !write_error_ && !write_pending_ &&
              inner_->read_state() != ReadState::kFailed;
  if (well) {
    // The descriptor is closed next: the stream below need not end its side first.
    inner_shut_ = true;
    ShutdownWrite();
  }
  ReleaseBuffer();
  // Before the octets that it may be writing.
  inner_.reset();
}

void TlsStream::Close(bool reset) {
  if (handshake_done_ && !broken_) {
    // The connection ends without a word, but nothing is wrong with its session.
    SSL_set_shutdown(ssl_.get(), SSL_get_shutdown(ssl_.get()) | SSL_SENT_SHUTDOWN);
  }
  inner_->Close(reset);
  LeaveHandshakes();
  output_.Release();
  handshake_deadline_.Disarm();
  next_turn_.Disarm();
  posted_.TakeBack();
  ForgetUnsealed();
  broken_ = true;
  write_pending_ = inner_pending_ = false;
  tell_readable_ = tell_written_ = false;
  read_state_ = ReadState::kFailed;
  write_error_ = Error(ErrorKind::kCancelled, "closed here");
}

void TlsStream::SetOwner(StreamOwner* owner) {
  owner_ = owner;
  if (owner == nullptr) {
    return;
  }
  inner_->SetOwner(this);
  bool heard_before = !inner_->readable().empty() || inner_->read_state() != ReadState::kOpen;
  bool we_begin = peer() != nullptr;
  if (!handshake_done_ && !broken_ && (heard_before || we_begin)) {
    posted_.Post();
  }
}

TlsInfo TlsStream::info() const {
  TlsInfo info;
  if (!handshake_done_) {
    return info;
  }
  info.version = SSL_get_version(ssl_.get());
  info.cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(ssl_.get()));
  if (const char* name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name)) {
    info.server_name = name;
  }
  const unsigned char* alpn = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &alpn, &size);
  if (size > 0) {
    info.alpn.assign(reinterpret_cast<const char*>(alpn), size);
  }
  info.resumed = SSL_session_reused(ssl_.get()) == 1;
  return info;
}

std::optional<PeerCertificate> TlsStream::peer_certificate() const {
  if (!handshake_done_ || server_ == nullptr || server_->clients() == nullptr) {
    return std::nullopt;
  }
  return server_->clients()->PeerOf(ssl_.get());
}

// --- from the loop

void TlsStream::OnReadable() {
  heard_ = true;
  GoOn();
}

void TlsStream::OnWritten() {
  inner_pending_ = false;
  output_.Written();
  if (inner_->write_error()) {
    LoseWriteSide();
  }
  GoOn();
}

void TlsStream::OnTurn() {
  GoOn();
}

void TlsStream::GoOn() {
  if (handshakes_ != nullptr && !handshake_done_ && !broken_) {
    handshakes_->GoOn(*this);
  } else {
    OnHandshakeTurn();
  }
}

void TlsStream::OnHandshakeTurn() {
  Work();
  Tell();
}

void TlsStream::OnHandshakeTimeout() {
  ErrorKind kind =
      peer() != nullptr ? ErrorKind::kUpstreamConnectTimeout : ErrorKind::kTlsHandshakeTimeout;
  EndHandshake(kind, "the TLS handshake took too long");
}

void TlsStream::OnEvicted() {
  EndHandshake(ErrorKind::kTlsHandshakeEvicted,
               "limits.max_handshakes are under way, and this one was the oldest");
}

void TlsStream::LeaveHandshakes() {
  if (handshakes_ != nullptr) {
    handshakes_->Leave(*this);
  }
}

void TlsStream::EndHandshake(ErrorKind kind, const char* why) {
  bool was_pending = write_pending_;
  Close(false);
  handshake_error_ = Error(kind, why);
  write_error_ = Error(ErrorKind::kClosed, handshake_error_->detail());
  tell_readable_ = true;
  tell_written_ = was_pending;
  Tell();
}

void TlsStream::Work() {
  if (!broken_ && !handshake_done_) {
    Handshake();
  }
  if (!broken_ && handshake_done_) {
    Decrypt();
  }
  if (inner_->read_state() == ReadState::kFailed && read_state_ != ReadState::kFailed) {
    // Whatever lies here undecrypted: the peer is gone, as WatchResets wants to be told at once.
    read_state_ = ReadState::kFailed;
    tell_readable_ = true;
  }
  Send();
}

// One callback, and nothing after it. What else there is to tell comes from the ready queue.
void TlsStream::Tell() {
  if (std::exchange(tell_written_, false)) {
    if (tell_readable_) {
      posted_.Post();
    }
    if (owner_ != nullptr) {
      owner_->OnWritten();
    }
  } else if (std::exchange(tell_readable_, false) && owner_ != nullptr) {
    owner_->OnReadable();
  }
}

const Error* TlsStream::protocol_error() const {
  static const Error kCut(ErrorKind::kClosed, "the connection ended without a close_notify of TLS");
  if (cut_) {
    return &kCut;
  }
  return broken_ && write_error_ ? &*write_error_ : nullptr;
}

void TlsStream::FailInOpenSsl(const char* otherwise) {
  if (peer() != nullptr) {
    Fail(peer()->TakeError(ssl_.get(), otherwise));
  } else {
    Fail(TakeOpenSslError(otherwise));
  }
}

void TlsStream::Fail(std::string reason) {
  Fail(Error(peer() != nullptr ? ErrorKind::kUpstreamTlsHandshake : ErrorKind::kTlsHandshakeFailed,
             std::move(reason)));
}

void TlsStream::Fail(Error error) {
  broken_ = true;
  if (!handshake_done_) {
    LeaveHandshakes();
    handshake_deadline_.Disarm();
    handshake_error_ = error;
    if (peer() != nullptr) {
      peer()->ForgetSessions();
    }
  }
  bool is_alert = error.kind() == ErrorKind::kUpstreamTlsAlert;
  if (!write_error_ || is_alert) {
    write_error_ = error.As(is_alert ? error.kind() : ErrorKind::kClosed);
  }
  read_state_ = ReadState::kFailed;
  tell_readable_ = true;
  tell_written_ = tell_written_ || write_pending_;
  write_pending_ = false;
  ForgetUnsealed();
  // After the alert.
  write_shut_ = true;
}

// --- reading

void TlsStream::Handshake() {
  if (server_ != nullptr && !hello_judged_ && !JudgeHello()) {
    return;
  }
  const bool hello_came = std::exchange(hello_judged_, true) || server_ == nullptr;
  ERR_clear_error();
  int result = SSL_do_handshake(ssl_.get());
  hello_judged_ = hello_judged_ && hello_came;
  if (result == 1) {
    std::string fault;
    if (peer() != nullptr) {
      fault = peer()->FaultOf(ssl_.get());
    } else if (server_->clients() != nullptr) {
      fault = server_->clients()->RefusalOf(ssl_.get());
    }
    if (!fault.empty()) {
      Fail(std::move(fault));
      return;
    }
    handshake_done_ = true;
    LeaveHandshakes();
    handshake_deadline_.Disarm();
    empty_records_ = 0;
    tell_readable_ = true;
    return;
  }
  if (SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ) {
    FailInHandshake();
  } else if (TooManyEmptyRecords()) {
    Fail("the TLS handshake came in too many records");
  } else if (inner_->read_state() == ReadState::kEnded && inner_->readable().empty()) {
    Fail(fmt::format("the {} closed the connection during the TLS handshake", PeerWord()));
  } else if (inner_->read_state() == ReadState::kFailed) {
    Fail("the connection was reset during the TLS handshake");
  } else if (!hello_judged_ && !inner_->readable().empty()) {
    // Sent before it was asked for.
    posted_.Post();
  }
  ERR_clear_error();
}

// OpenSSL only says that a client's certificate is bad; why is somewhere else.
void TlsStream::FailInHandshake() {
  constexpr const char* kFailed = "the TLS handshake failed";
  bool of_certificate = ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED;
  if (peer() != nullptr || !of_certificate) {
    FailInOpenSsl(kFailed);
    return;
  }
  Fail(TakeOpenSslError(kFailed) + ": " +
       X509_verify_cert_error_string(SSL_get_verify_result(ssl_.get())));
}

// OpenSSL makes room for what a message announces as soon as it has read that, up to 128 KiB. So
// the first octets of a ClientHello are looked at before, also of the one that a HelloRetryRequest
// asks for. False: it must not go on, or not yet.
bool TlsStream::JudgeHello() {
  constexpr std::size_t kRecordHead = 5;
  constexpr std::size_t kMessageHead = 4;
  std::span<char> octets = inner_->readable();
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(octets[i]); };
  // What may stand before it: a ChangeCipherSpec that means nothing (RFC 8446 appendix D.4), a
  // warning. Longer ones are nothing of the kind, and OpenSSL's to refuse.
  constexpr std::size_t kMostBefore = 2;
  const bool any = !octets.empty();
  while (!octets.empty() && (at(0) == SSL3_RT_CHANGE_CIPHER_SPEC || at(0) == SSL3_RT_ALERT)) {
    const std::size_t size = octets.size() < kRecordHead ? kMostBefore : at(3) * 256U + at(4);
    if (size == 0 || size > kMostBefore) {
      break;
    }
    if (octets.size() < kRecordHead + size) {
      return inner_->read_state() != ReadState::kOpen;
    }
    octets = octets.subspan(kRecordHead + size);
  }
  if (any && octets.empty()) {
    return true;
  }
  constexpr const char* kNoHello = "the first record has no ClientHello";
  // OpenSSL throws these away and would read on: what is empty, and early data, which we take from
  // nobody.
  const bool is_empty = octets.size() >= kRecordHead && at(3) == 0 && at(4) == 0;
  if (is_empty || (!octets.empty() && at(0) == SSL3_RT_APPLICATION_DATA)) {
    Fail(kNoHello);
    return false;
  }
  if (!octets.empty() && at(0) != SSL3_RT_HANDSHAKE) {
    hello_judged_ = true;
    return true;
  }
  if (octets.size() < kRecordHead + kMessageHead) {
    // Cut short it is OpenSSL's to refuse.
    return inner_->read_state() != ReadState::kOpen;
  }
  hello_judged_ = true;
  const std::size_t in_record = at(3) * 256U + at(4);
  const std::size_t announced = at(6) * 65536U + at(7) * 256U + at(8);
  const bool is_hello = in_record >= kMessageHead && at(5) == SSL3_MT_CLIENT_HELLO;
  if (!is_hello || announced > kMostHelloBytes) {
    Fail(is_hello ? "a ClientHello of " + std::to_string(announced) + " octets" : kNoHello);
    return false;
  }
  return true;
}

void TlsStream::Decrypt() {
  if (std::exchange(turn_, loop_.turn()) != loop_.turn()) {
    records_ = 0;
  }
  while (read_state_ == ReadState::kOpen) {
    if (!HasUndecrypted()) {
      HearEnd();
      break;
    }
    // The peer makes us answer and does not take the answers: OnWritten goes on.
    if (inner_pending_ && output_.waiting() > kMostAnswers) {
      break;
    }
    if (records_ >= kMostRecordsATurn) {
      next_turn_.Arm(Duration::zero());
      break;
    }
    if (!TakeBuffer()) {
      break;
    }
    ERR_clear_error();
    std::size_t got = 0;
    int result = SSL_read_ex(ssl_.get(), buffer_ + end_, BytesOf(held_size_) - end_, &got);
    if (result == 1) {
      end_ += got;
      empty_records_ = 0;
      tell_readable_ = true;
      continue;
    }
    int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_ZERO_RETURN) {
      close_notify_heard_ = true;
      read_state_ = ReadState::kEnded;
      tell_readable_ = true;
    } else if (error != SSL_ERROR_WANT_READ) {
      FailInOpenSsl("TLS failed");
    } else if (TooManyEmptyRecords()) {
      Fail("too many TLS records that carry nothing");
    }
    // Otherwise a part of a record has gone to OpenSSL, and nothing is left below.
    ERR_clear_error();
  }
  if (begin_ == end_) {
    ReleaseBuffer();
  }
}

void TlsStream::HearEnd() {
  if (inner_->read_state() != ReadState::kEnded) {
    return;
  }
  cut_ = InsideRecord() || close_notify_required_;
  read_state_ = cut_ ? ReadState::kFailed : ReadState::kEnded;
  tell_readable_ = true;
}

void TlsStream::RequireCloseNotify() {
  close_notify_required_ = true;
  if (read_state_ == ReadState::kEnded && !close_notify_heard_) {
    cut_ = true;
    read_state_ = ReadState::kFailed;
  }
}

// As large as what is there: a plaintext is never longer than its record, and none is longer than
// the smallest buffer.
bool TlsStream::TakeBuffer() {
  if (buffer_ == nullptr) {
    std::size_t coming = inner_->readable().size();
    held_size_ = BufferSize::kSmall;
    while (coming > BytesOf(held_size_) && held_size_ != BufferSize::kLarge) {
      held_size_ = static_cast<BufferSize>(static_cast<int>(held_size_) + 1);
    }
    buffer_ = pool_.Take(held_size_);
  }
  return end_ < BytesOf(held_size_);
}

void TlsStream::ReleaseBuffer() {
  if (buffer_ != nullptr) {
    pool_.Give(std::exchange(buffer_, nullptr), held_size_);
  }
  begin_ = end_ = 0;
}

void TlsStream::Consume(std::size_t size) {
  TG_CHECK(size <= end_ - begin_);
  begin_ += size;
  if (begin_ < end_) {
    return;
  }
  ReleaseBuffer();
  // Full until now, perhaps. What there is more is decrypted, and told, by the loop.
  bool more = HasUndecrypted() || inner_->read_state() != ReadState::kOpen;
  if (read_state_ == ReadState::kOpen && more) {
    posted_.Post();
  }
}

bool TlsStream::HasUndecrypted() const {
  return !inner_->readable().empty() || SSL_pending(ssl_.get()) > 0;
}

// OpenSSL has taken a part of a record: some of its head, or ("RB") of what follows it.
bool TlsStream::InsideRecord() const {
  return SSL_has_pending(ssl_.get()) == 1 ||
         std::string_view(SSL_rstate_string(ssl_.get())) != "RH";
}

bool TlsStream::IsQuiet() const {
  return handshake_done_ && begin_ == end_ && read_state_ == ReadState::kOpen && !InsideRecord() &&
         inner_->IsQuiet();
}

// --- from OpenSSL

BIO_METHOD* TlsStream::Method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tidegate stream");
    TG_CHECK(made != nullptr);
    BIO_meth_set_read_ex(made, &TlsStream::OnBioRead);
    BIO_meth_set_write_ex(made, &TlsStream::OnBioWrite);
    BIO_meth_set_ctrl(made, &TlsStream::OnBioControl);
    return made;
  }();
  return method;
}

int TlsStream::OnBioRead(BIO* bio, char* out, std::size_t size, std::size_t* got) {
  auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  std::span<char> octets = self->inner_->readable();
  const bool may_read = self->hello_judged_ && !self->TooManyEmptyRecords();
  *got = may_read ? std::min(size, octets.size()) : 0;
  if (*got == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  std::memcpy(out, octets.data(), *got);
  self->inner_->Consume(*got);
  return 1;
}

int TlsStream::OnBioWrite(BIO* bio, const char* octets, std::size_t size, std::size_t* written) {
  auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  *written = self->output_.Append(octets, size) ? size : 0;
  return *written == size ? 1 : 0;
}

// Flushing has nothing to do, and what else is asked for (kernel TLS, packet sizes) is not there.
long TlsStream::OnBioControl(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

void TlsStream::OnRecord(int is_write, int, int content_type, const void* octets, std::size_t size,
                         SSL*, void* self) {
  TlsStream& stream = *static_cast<TlsStream*>(self);
  if (is_write == 0 && content_type == SSL3_RT_HEADER) {
    ++stream.empty_records_;
    ++stream.records_;
  } else if (is_write == 1 && content_type == SSL3_RT_HANDSHAKE && size > 0) {
    stream.OnMessageSaid(*static_cast<const unsigned char*>(octets));
  }
}

// A ServerHello with nothing behind it is a HelloRetryRequest: nothing is paid for yet, and another
// ClientHello comes.
void TlsStream::OnMessageSaid(unsigned char type) {
  const bool alone = type == SSL3_MT_SERVER_HELLO;
  hello_judged_ = !alone;
  if (!alone) {
    Handshakes::Answered(*this);
  }
}

}  // namespace tidegate
