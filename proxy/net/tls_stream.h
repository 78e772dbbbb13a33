#pragma once

// TLS over any Stream, either side of it. Octets of the stream below are decrypted where they lie,
// into a buffer that is held while something is in it; what is written becomes records, and those
// of one write go down together.
//
// Beyond what a Stream promises:
//
//   1. Until the handshake is done readable() is empty; what is written meanwhile waits for it
//   (kPending). OnReadable is called once when it is done, also if nothing has come with it. Who
//   connects begins it with its first owner.
//   2. A handshake that fails, or is not done in time, is ReadState::kFailed with
//   handshake_error(). After a failure the alert is on its way and our side ends after it; a
//   timeout says nothing.
//   3. The end of the connection without a close_notify is kEnded: the length of a request never
//   depends on it, and most peers end so. Inside a record it is kFailed. Where the end is all that
//   says that something is whole (a tunnel, an answer that ends with the connection),
//   RequireCloseNotify makes it kFailed: anybody on the way can forge the end of a connection.
//   4. The destructor says close_notify if everything went well, as the end of an answer that ends
//   with the connection. Close does not: who closes so gives up.
//   5. A peer makes us work for what it says only: at most kMostEmptyRecords in a row carry nothing
//   to the owner (KeyUpdate, empty records, attempts to renegotiate), kMostRecordsATurn are
//   decrypted before others have their turn, and while it takes no answers to its KeyUpdates it is
//   not read.
//   6. No errors stay in OpenSSL's queue.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/buffer_pool.h"
#include "common/loop.h"
#include "common/slabs.h"
#include "common/stream.h"
#include "proxy/net/client_tls.h"
#include "proxy/net/handshakes.h"
#include "proxy/net/posted_callback.h"
#include "proxy/net/tls_context.h"
#include "proxy/net/tls_output.h"

namespace tidegate {

// Of a handshake that is done. Empty where there is nothing to tell.
struct TlsInfo {
  // OpenSSL's texts, "TLSv1.3" and "TLS_AES_128_GCM_SHA256"; they live for ever.
  std::string_view version;
  std::string_view cipher;
  // As the client, or we, sent it.
  std::string server_name;
  std::string alpn;
  bool resumed = false;
};

// A client's connection after its handshake, without its stream.
struct DetachedTls {
  // Connected, non-blocking.
  UniqueFd fd;
  // What ssl needs.
  std::shared_ptr<const ServerTls> settings;
  OwnedSsl ssl;
};

class TlsStream final : public Stream,
                        public InSlab,
                        private StreamOwner,
                        private Handshakes::Member {
 public:
  // Takes a stream that has no owner; what it has read already belongs to the handshake, which is
  // one of `handshakes`. The timeout counts from now. `loop`, `pool` and `handshakes` outlive the
  // stream.
  static std::unique_ptr<TlsStream> Accept(Loop& loop, BufferPool& pool, Handshakes& handshakes,
                                           std::unique_ptr<Stream> inner,
                                           const std::shared_ptr<const ServerTls>& tls,
                                           Duration handshake_timeout);
  // The same, as the client of `peer`. What the peer gives to resume goes to it at any time.
  static std::unique_ptr<TlsStream> Connect(Loop& loop, BufferPool& pool,
                                            std::unique_ptr<Stream> inner,
                                            const std::shared_ptr<TlsPeer>& peer,
                                            Duration handshake_timeout);
  // Goes on with a connection that was detached; `inner` is of its descriptor.
  static std::unique_ptr<TlsStream> Resume(Loop& loop, BufferPool& pool,
                                           std::unique_ptr<Stream> inner, OwnedSsl ssl,
                                           std::shared_ptr<const ServerTls> settings);
  ~TlsStream() override;

  bool handshake_done() const { return handshake_done_; }
  // An octet of the peer has come.
  bool has_heard() const { return heard_; }
  // As a server kTlsHandshakeFailed, with OpenSSL's reason, kTlsHandshakeTimeout, or
  // kTlsHandshakeEvicted. As a client those of TlsPeer::TakeError, or kUpstreamConnectTimeout.
  const std::optional<Error>& handshake_error() const { return handshake_error_; }
  // As a client kUpstreamTlsAlert where the server said what is wrong, which is how one of TLS 1.3
  // refuses our certificate; kClosed otherwise.
  const Error* protocol_error() const override;
  TlsInfo info() const;
  // Of a handshake that is done; nothing where the client was not asked for one.
  std::optional<PeerCertificate> peer_certificate() const;
  // From now on (3) is strict, also for an end that has come already.
  void RequireCloseNotify() override;

  static constexpr unsigned kMostEmptyRecords = 32;
  // Of a ClientHello; real ones have up to 2 KiB, with keys that withstand quantum computers.
  static constexpr std::size_t kMostHelloBytes = 16 * 1024;
  static constexpr unsigned kMostRecordsATurn = 256;

  void SetOwner(StreamOwner* owner) override;
  void Consume(std::size_t size) override;
  void WatchResets() override { inner_->WatchResets(); }
  bool IsQuiet() const override;
  WriteStatus Write(std::span<const uv_buf_t> buffers) override;
  std::size_t unwritten() const override;
  void ShutdownWrite() override;
  void Close(bool reset) override;
  // Leaves the connection to the caller, to be resumed, as Detach leaves one without TLS: all that
  // is not in the kernel is in what is returned. A server's, after its handshake. Nothing, and
  // nothing has changed, where anything is under way.
  std::optional<DetachedTls> DetachTls();

 private:
  TlsStream(Loop& loop, BufferPool& pool, Handshakes* handshakes, std::unique_ptr<Stream> inner,
            OwnedSsl ssl, std::shared_ptr<const void> settings);

  // From the stream below.
  void OnReadable() override;
  void OnWritten() override;
  // From the loop.
  void OnTurn();
  void OnHandshakeTimeout();
  void OnEvicted() override;
  void OnHandshakeTurn() override;
  // From OpenSSL.
  static BIO_METHOD* Method();
  static int OnBioRead(BIO* bio, char* out, std::size_t size, std::size_t* got);
  static int OnBioWrite(BIO* bio, const char* octets, std::size_t size, std::size_t* written);
  static long OnBioControl(BIO* bio, int command, long number, void* pointer);
  static void OnRecord(int is_write, int version, int content_type, const void* octets,
                       std::size_t size, SSL* ssl, void* self);
  // A message of the handshake is made; `type` is its first octet.
  void OnMessageSaid(unsigned char type);

  // Works, and tells; a handshake, when its turn has come.
  void GoOn();
  void EndHandshake(ErrorKind kind, const char* why);
  void LeaveHandshakes();
  // Everything that can be done now. Tells the owner nothing: that is the last thing a callback
  // does, because the owner may destroy this.
  void Work();
  void Handshake();
  bool JudgeHello();
  void FailInHandshake();
  void Decrypt();
  // False: the buffer is full.
  bool TakeBuffer();
  void ReleaseBuffer();
  bool HasUndecrypted() const;
  bool InsideRecord() const;
  bool TooManyEmptyRecords() const { return empty_records_ > kMostEmptyRecords + 1; }
  void HearEnd();
  // Seals what it may of the owner's write, and writes all that is sealed.
  void Send();
  void Seal();
  bool SealRecord(std::span<const char> record);
  void SealCloseNotify();
  std::span<const char> TakePlain(std::span<char> gathered);
  void LoseWriteSide();
  bool HasUnsealed() const { return plain_left_ > 0 || !unsealed_.empty(); }
  void ForgetUnsealed() {
    plain_left_ = 0;
    unsealed_.clear();
  }
  // As a client.
  TlsPeer* peer() const { return TlsPeer::Of(ssl_.get()); }
  const char* PeerWord() const { return peer() != nullptr ? "server" : "client"; }
  void FailInOpenSsl(const char* otherwise);
  void Fail(std::string reason);
  void Fail(Error error);
  void Tell();

  Loop& loop_;
  BufferPool& pool_;
  // Null where there is none to do, and as a client: what we connect to is our own choice.
  Handshakes* handshakes_;
  // A ServerTls or a TlsPeer, which ssl_ needs.
  std::shared_ptr<const void> settings_;
  // The former; null as a client.
  const ServerTls* server_ = nullptr;
  OwnedSsl ssl_;
  TlsOutput output_;
  std::unique_ptr<Stream> inner_;
  StreamOwner* owner_ = nullptr;
  Deadline handshake_deadline_;
  // Others have their turn before the next records.
  Deadline next_turn_;
  PostedCallback posted_;
  std::optional<Error> handshake_error_;
  // What of the owner's write is not sealed: first unsealed_, then what lies in plain_.
  std::array<uv_buf_t, kMaxBuffers> plain_{};
  std::size_t plain_at_ = 0;
  std::size_t plain_left_ = 0;
  // A record that OpenSSL takes only once it has read the rest of something: it wants the same
  // octets again.
  std::string unsealed_;
  // The loop's turn that records_ counts in.
  std::uint64_t turn_ = 0;
  unsigned records_ = 0;
  // Begun since the last octet for the owner, its own one included.
  unsigned empty_records_ = 0;
  BufferSize held_size_ = BufferSize::kSmall;
  bool handshake_done_ = false;
  bool heard_ = false;
  bool hello_judged_ = false;
  bool close_notify_required_ = false;
  bool close_notify_heard_ = false;
  // The end came without the close_notify that it needed.
  bool cut_ = false;
  bool close_notify_said_ = false;
  // OpenSSL takes no more calls for this connection.
  bool broken_ = false;
  bool write_pending_ = false;
  bool inner_pending_ = false;
  // ShutdownWrite was called; the stream below has heard of it.
  bool write_shut_ = false;
  bool inner_shut_ = false;
  bool tell_readable_ = false;
  bool tell_written_ = false;
};

}  // namespace tidegate
