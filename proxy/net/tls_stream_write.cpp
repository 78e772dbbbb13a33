// The write side of a TlsStream: from the owner's octets to records to one write below.

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "common/check.h"
#include "proxy/net/tls_stream.h"

namespace tidegate {
namespace {

// RFC 8446 section 5.1.
constexpr std::size_t kRecordBytes = 16 * 1024;
// What is sealed before the stream below must have taken it: a body chunk of 64 KiB and its head go
// in one write, and a slow reader holds no more than that.
constexpr std::size_t kMostSealed = 5 * kRecordBytes;

}  // namespace

Stream::WriteStatus TlsStream::Write(std::span<const uv_buf_t> buffers) {
  TG_CHECK(!write_pending_ && buffers.size() <= kMaxBuffers);
  if (write_error_) {
    return WriteStatus::kFailed;
  }
  plain_at_ = 0;
  plain_left_ = 0;
  std::ranges::copy(buffers, plain_.begin());
  for (const uv_buf_t& buffer : buffers) {
    plain_left_ += buffer.len;
  }
  Send();
  if (tell_readable_) {
    posted_.Post();
  }
  if (write_error_) {
    return WriteStatus::kFailed;
  }
  write_pending_ = HasUnsealed() || inner_pending_;
  return write_pending_ ? WriteStatus::kPending : WriteStatus::kDone;
}

std::size_t TlsStream::unwritten() const {
  return write_pending_ ? unsealed_.size() + plain_left_ + inner_->unwritten() : 0;
}

void TlsStream::ShutdownWrite() {
  if (std::exchange(write_shut_, true)) {
    return;
  }
  Send();
  if (tell_readable_) {
    posted_.Post();
  }
}

void TlsStream::Send() {
  while (!inner_->write_error()) {
    if (!inner_pending_) {
      Seal();
      SealCloseNotify();
    }
    if (inner_pending_ || output_.waiting() == 0) {
      break;
    }
    TlsOutput::Buffers buffers;
    std::size_t count = output_.HandOver(buffers);
    switch (inner_->Write({buffers.data(), count})) {
      case WriteStatus::kDone:
        output_.Written();
        break;
      case WriteStatus::kPending:
        inner_pending_ = true;
        break;
      case WriteStatus::kFailed:
        LoseWriteSide();
        return;
    }
  }
  if (inner_pending_ || HasUnsealed()) {
    return;
  }
  if (write_shut_ && !inner_shut_) {
    inner_shut_ = true;
    inner_->ShutdownWrite();
  }
  tell_written_ = tell_written_ || write_pending_;
  write_pending_ = false;
}

// The stream below writes no more; reading goes on, but no handshake can.
void TlsStream::LoseWriteSide() {
  inner_pending_ = false;
  output_.Release();
  ForgetUnsealed();
  if (!write_error_) {
    write_error_ = inner_->write_error();
  }
  tell_written_ = tell_written_ || write_pending_;
  write_pending_ = false;
  if (!handshake_done_ && !broken_) {
    Fail(fmt::format("the {} closed the connection during the TLS handshake", PeerWord()));
  }
}

void TlsStream::Seal() {
  if (!HasUnsealed() || !handshake_done_ || broken_) {
    return;
  }
  if (!unsealed_.empty()) {
    std::string again = std::exchange(unsealed_, {});
    if (!SealRecord(again)) {
      return;
    }
  }
  std::size_t portion = std::min(plain_left_, kMostSealed);
  std::size_t rest = plain_left_ - portion;
  output_.Expect(portion);
  while (plain_left_ > rest) {
    std::array<char, kRecordBytes> gathered;
    std::span<const char> record = TakePlain(gathered);
    if (!SealRecord(record)) {
      return;
    }
  }
}

// False: it was not, for now or for ever.
bool TlsStream::SealRecord(std::span<const char> record) {
  ERR_clear_error();
  std::size_t written = 0;
  int result = SSL_write_ex(ssl_.get(), record.data(), record.size(), &written);
  if (result == 1) {
    return true;
  }
  if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ) {
    // In the middle of a message after the handshake, which the peer has cut in two.
    unsealed_.assign(record.data(), record.size());
    ERR_clear_error();
  } else {
    FailInOpenSsl("TLS failed");
  }
  return false;
}

// Behind the last octet of the owner. A handshake that is not done has none.
void TlsStream::SealCloseNotify() {
  bool due = write_shut_ && !HasUnsealed() && handshake_done_ && !broken_;
  if (due && !std::exchange(close_notify_said_, true)) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }
}

// What the next record carries: from where it lies, or gathered from several buffers, so that a
// head and a short body are one record.
std::span<const char> TlsStream::TakePlain(std::span<char> gathered) {
  std::size_t size = 0;
  while (plain_left_ > 0 && size < gathered.size()) {
    uv_buf_t& buffer = plain_[plain_at_];
    if (buffer.len == 0) {
      ++plain_at_;
      continue;
    }
    std::size_t part = std::min(buffer.len, gathered.size() - size);
    const char* octets = buffer.base;
    bool alone = size == 0 && (part == gathered.size() || part == plain_left_);
    buffer.base += part;
    buffer.len -= part;
    plain_left_ -= part;
    if (alone) {
      return {octets, part};
    }
    std::memcpy(gathered.data() + size, octets, part);
    size += part;
  }
  return gathered.first(size);
}

}  // namespace tidegate
