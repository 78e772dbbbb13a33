#include "common/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <utility>

#include "common/check.h"

namespace tidegate {
namespace {

// With less room than this a read is not worth its system call: the buffer counts as full.
constexpr std::size_t kLeastRoom = 4096;

Error ErrorOfUv(int status, const char* doing) {
  switch (status) {
    case UV_ECONNRESET:
    case UV_ENOTCONN:
      return Error(ErrorKind::kReset, doing);
    case UV_EPIPE:
      return Error(ErrorKind::kClosed, doing);
    case UV_ECANCELED:
      return Error(ErrorKind::kCancelled, doing);
    default:
      return Error::System(-status, doing);
  }
}

}  // namespace

SocketStream::Block* SocketStream::OpenBlock(Loop& loop, int fd) {
  auto* block = new Block;
  block->stream = nullptr;
  uv_tcp_init(loop.uv(), &block->tcp);
  // Fails only for a descriptor that this loop already has, which would be our own fault.
  TG_CHECK(uv_tcp_open(&block->tcp, fd) == 0);
  block->tcp.data = block;
  return block;
}

void SocketStream::CloseBlock(Block* block, bool reset) {
  block->stream = nullptr;
  auto free_block = [](uv_handle_t* handle) { delete static_cast<Block*>(handle->data); };
  auto* handle = reinterpret_cast<uv_handle_t*>(&block->tcp);
  // uv_tcp_close_reset refuses after a shutdown; the plain close must do then.
  if (!reset || uv_tcp_close_reset(&block->tcp, free_block) != 0) {
    uv_close(handle, free_block);
  }
}

std::unique_ptr<SocketStream> SocketStream::Adopt(Loop& loop, BufferPool& pool, UniqueFd fd,
                                                  std::span<const char> unread) {
  std::unique_ptr<SocketStream> stream(new SocketStream(pool, OpenBlock(loop, fd.Release())));
  if (!unread.empty()) {
    stream->PutBack(unread);
  }
  return stream;
}

SocketStream::SocketStream(BufferPool& pool, Block* block) : pool_(pool), block_(block) {
  block->stream = this;
  TG_CHECK(uv_fileno(reinterpret_cast<const uv_handle_t*>(&block->tcp), &fd_) == 0);
}

SocketStream::~SocketStream() {
  ReleaseBuffer();
  if (block_ != nullptr) {
    ShutForAll();
    CloseBlock(block_, false);
  }
}

void SocketStream::Close(bool reset) {
  if (block_ == nullptr) {
    return;
  }
  unread_.TakeOff();
  ShutForAll();
  CloseBlock(std::exchange(block_, nullptr), reset);
  fd_ = -1;
  reading_ = false;
  write_pending_ = false;
  read_state_ = ReadState::kFailed;
  write_error_ = Error(ErrorKind::kCancelled, "closed here");
}

// libuv gives no descriptor back: it closes its own, and the duplicate is the connection.
UniqueFd SocketStream::Detach() {
  bool all_in_kernel = block_ != nullptr && begin_ == end_ && read_state_ == ReadState::kOpen &&
                       !write_pending_ && !write_shut_ && !write_error_;
  if (!all_in_kernel) {
    return {};
  }
  UniqueFd duplicate = Duplicate();
  if (duplicate) {
    Close(false);
  }
  return duplicate;
}

void SocketStream::ShutForAll() const {
  if (ends_for_all_) {
    ::shutdown(fd_, SHUT_RDWR);
  }
}

UniqueFd SocketStream::Duplicate() {
  if (block_ == nullptr || read_state_ == ReadState::kFailed || write_error_) {
    return {};
  }
  UniqueFd duplicate(::fcntl(fd_, F_DUPFD_CLOEXEC, 0));
  ends_for_all_ = ends_for_all_ && !duplicate;
  return duplicate;
}

void SocketStream::PutBack(std::span<const char> octets) {
  TG_CHECK(octets.size() <= kMostUnread && buffer_ == nullptr);
  while (BytesOf(held_size_) < octets.size()) {
    held_size_ = static_cast<BufferSize>(static_cast<int>(held_size_) + 1);
  }
  buffer_ = pool_.Take(held_size_);
  std::copy(octets.begin(), octets.end(), buffer_);
  end_ = octets.size();
}

void SocketStream::SetOwner(StreamOwner* owner) {
  owner_ = owner;
  if (owner != nullptr && !reading_ && !no_room_ && read_state_ == ReadState::kOpen) {
    StartReading();
  }
}

void SocketStream::StartReading() {
  unread_.TakeOff();
  reading_ = uv_read_start(uv(), &SocketStream::OnAllocate, &SocketStream::OnRead) == 0;
}

void SocketStream::ReleaseBuffer() {
  if (buffer_ != nullptr) {
    pool_.Give(std::exchange(buffer_, nullptr), held_size_);
  }
  begin_ = end_ = 0;
}

void SocketStream::Consume(std::size_t size) {
  TG_CHECK(size <= end_ - begin_);
  begin_ += size;
  if (begin_ == end_) {
    ReleaseBuffer();
    no_room_ = false;
    if (!reading_ && block_ != nullptr && read_state_ == ReadState::kOpen) {
      StartReading();
    }
  }
}

void SocketStream::OnAllocate(uv_handle_t* handle, std::size_t, uv_buf_t* out) {
  SocketStream* self = static_cast<Block*>(handle->data)->stream;
  if (self->buffer_ == nullptr) {
    self->held_size_ = self->next_size_;
    self->buffer_ = self->pool_.Take(self->held_size_);
  }
  std::size_t room = BytesOf(self->held_size_) - self->end_;
  out->base = self->buffer_ + self->end_;
  out->len = room < kLeastRoom ? 0 : room;
}

void SocketStream::OnRead(uv_stream_t* handle, ssize_t size, const uv_buf_t*) {
  static_cast<Block*>(handle->data)->stream->HearRead(size);
}

void SocketStream::OnReadingOver() {
  reading_ = false;
  if (watches_resets_ && read_state_ != ReadState::kFailed) {
    unread_.List(Loop::Of(block_->tcp.loop).hangups(), fd_);
  }
}

void SocketStream::OnReset() {
  read_state_ = ReadState::kFailed;
  if (owner_ != nullptr) {
    owner_->OnReadable();
  }
}

ssize_t SocketStream::Peek() const {
  char octet = 0;
  ssize_t size = ::recv(fd_, &octet, 1, MSG_PEEK | MSG_DONTWAIT);
  return size < 0 ? -errno : size;
}

bool SocketStream::IsQuiet() const {
  return begin_ == end_ && read_state_ == ReadState::kOpen && Peek() == -EAGAIN;
}

void SocketStream::HearRead(ssize_t size) {
  if (size > 0) {
    auto got = static_cast<std::size_t>(size);
    std::size_t room = BytesOf(held_size_) - end_;
    // A read that fills the buffer asks for a larger one, one that leaves most of it empty for a
    // smaller one.
    if (got == room && next_size_ != BufferSize::kLarge) {
      next_size_ = static_cast<BufferSize>(static_cast<int>(next_size_) + 1);
    } else if (got < room / 4) {
      next_size_ = BufferSize::kSmall;
    }
    end_ += got;
    no_room_ = false;
    if (owner_ != nullptr) {
      owner_->OnReadable();
    }
  } else {
    HearNoRead(size);
  }
}

// A full buffer, an end, a failure. Not inlined: what is called for every read stays small.
[[gnu::noinline]] void SocketStream::HearNoRead(ssize_t size) {
  if (size == UV_ENOBUFS) {
    // The poll is level-triggered and would ask again and again. libuv asks once more in the same
    // turn after a full read, when nobody had the chance to consume: that one is free.
    if (no_room_) {
      uv_read_stop(uv());
      OnReadingOver();
    }
    no_room_ = true;
    return;
  }
  if (begin_ == end_) {
    ReleaseBuffer();
  }
  if (size == 0) {
    return;
  }
  uv_read_stop(uv());
  // libuv reports the end without asking when a hang-up comes with a read that was not full
  // (uv__stream_io), also if a reset was what hung up: octets and RST in one poll. A body that ends
  // with the connection would look whole.
  ssize_t rest = size == UV_EOF ? Peek() : size;
  read_state_ = rest >= 0 || rest == -EAGAIN ? ReadState::kEnded : ReadState::kFailed;
  OnReadingOver();
  if (owner_ != nullptr) {
    owner_->OnReadable();
  }
}

// What uv_try_write does when nothing is queued, which is so here, for a fifth of its instructions.
ssize_t SocketStream::WriteNow(std::span<const uv_buf_t> buffers) const {
  // libuv documents that the one can be cast to the other.
  static_assert(sizeof(uv_buf_t) == sizeof(iovec));
  ssize_t written = 0;
  do {
    written = buffers.size() == 1 ? ::write(fd_, buffers[0].base, buffers[0].len)
                                  : ::writev(fd_, reinterpret_cast<const iovec*>(buffers.data()),
                                             static_cast<int>(buffers.size()));
  } while (written < 0 && errno == EINTR);
  if (written >= 0) {
    return written;
  }
  // The kernel is short of memory for the moment: to be tried again, as libuv does.
  return errno == ENOBUFS ? UV_EAGAIN : -errno;
}

Stream::WriteStatus SocketStream::Write(std::span<const uv_buf_t> buffers) {
  TG_CHECK(!write_pending_ && buffers.size() <= kMaxBuffers);
  if (write_error_) {
    return WriteStatus::kFailed;
  }
  ssize_t written = WriteNow(buffers);
  if (written < 0 && written != UV_EAGAIN) {
    write_error_ = ErrorOfUv(static_cast<int>(written), "write");
    return WriteStatus::kFailed;
  }
  auto done = static_cast<std::size_t>(written < 0 ? 0 : written);
  std::size_t size = 0;
  for (const uv_buf_t& buffer : buffers) {
    size += buffer.len;
  }
  return done == size ? WriteStatus::kDone : WriteRest(buffers, done);
}

// What the kernel has not taken, from `done` octets on, goes when it has room.
Stream::WriteStatus SocketStream::WriteRest(std::span<const uv_buf_t> buffers, std::size_t done) {
  uv_buf_t rest[kMaxBuffers];
  unsigned count = 0;
  for (const uv_buf_t& buffer : buffers) {
    if (done >= buffer.len) {
      done -= buffer.len;
      continue;
    }
    rest[count++] = {.base = buffer.base + done, .len = buffer.len - done};
    done = 0;
  }
  block_->write.data = block_;
  int status = uv_write(&block_->write, uv(), rest, count, [](uv_write_t* request, int result) {
    SocketStream* self = static_cast<Block*>(request->data)->stream;
    if (self == nullptr) {
      return;
    }
    self->write_pending_ = false;
    if (result < 0) {
      self->write_error_ = ErrorOfUv(result, "write");
    }
    if (self->owner_ != nullptr) {
      self->owner_->OnWritten();
    }
  });
  if (status < 0) {
    write_error_ = ErrorOfUv(status, "write");
    return WriteStatus::kFailed;
  }
  write_pending_ = true;
  return WriteStatus::kPending;
}

std::size_t SocketStream::unwritten() const {
  return block_ == nullptr ? 0 : block_->tcp.write_queue_size;
}

void SocketStream::ShutdownWrite() {
  if (write_shut_ || block_ == nullptr) {
    return;
  }
  write_shut_ = true;
  // A failure means that the peer is gone already, and the read side says so.
  uv_shutdown(&block_->shutdown, uv(), [](uv_shutdown_t*, int) {});
}

// Lives until connect has answered: libuv takes a connect request back only by closing the handle,
// and answers then.
struct SocketConnector::Attempt {
  uv_connect_t request;
  SocketStream::Block* block;
  // Null once the connector is gone.
  SocketConnector* connector;
};

SocketConnector::~SocketConnector() {
  if (attempt_ != nullptr) {
    attempt_->connector = nullptr;
    SocketStream::CloseBlock(attempt_->block, false);
  }
}

bool SocketConnector::Start(const sockaddr* address, unsigned length) {
  TG_CHECK(attempt_ == nullptr);
  int family = address->sa_family;
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) {
    result_ = Fail(Error::System(errno, "socket"));
    return true;
  }
  if (family == AF_UNIX) {
    // At once, or EAGAIN when the queue is full: there is no waiting for a unix socket.
    if (::connect(fd.get(), address, length) != 0) {
      result_ = Fail(Error::System(errno, "connect"));
    } else {
      result_ = SocketStream::Adopt(loop_, pool_, std::move(fd));
    }
    return true;
  }
  int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  SocketStream::Block* block = SocketStream::OpenBlock(loop_, fd.Release());
  auto* attempt = new Attempt{.request = {}, .block = block, .connector = this};
  attempt->request.data = attempt;
  int status = uv_tcp_connect(&attempt->request, &block->tcp, address, &SocketConnector::OnConnect);
  if (status < 0) {
    delete attempt;
    SocketStream::CloseBlock(block, false);
    result_ = Fail(Error::System(-status, "connect"));
    return true;
  }
  attempt_ = attempt;
  return false;
}

void SocketConnector::OnConnect(uv_connect_t* request, int status) {
  std::unique_ptr<Attempt> attempt(static_cast<Attempt*>(request->data));
  SocketConnector* self = attempt->connector;
  if (self == nullptr) {
    return;
  }
  self->attempt_ = nullptr;
  if (status < 0) {
    SocketStream::CloseBlock(attempt->block, false);
    self->result_ = Fail(Error::System(-status, "connect"));
  } else {
    self->result_ = std::unique_ptr<SocketStream>(new SocketStream(self->pool_, attempt->block));
  }
  self->done_();
}

}  // namespace tidegate
