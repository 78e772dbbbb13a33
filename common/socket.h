#pragma once

#include <memory>

#include "common/buffer_pool.h"
#include "common/loop.h"
#include "common/result.h"
#include "common/slabs.h"
#include "common/stream.h"
#include "common/unique_fd.h"

struct sockaddr;

namespace tidegate {

// A connected TCP or unix stream socket on libuv. Reading is left on: a full buffer stops it, so a
// peer that goes away is seen while nobody asks for octets. Holds a read buffer only while
// something is in it.
class SocketStream final : public Stream, public InSlab {
 public:
  // Takes a connected, non-blocking descriptor. `unread`, at most kMostUnread octets, were read
  // from it before and come first.
  static std::unique_ptr<SocketStream> Adopt(Loop& loop, BufferPool& pool, UniqueFd fd,
                                             std::span<const char> unread = {});
  static constexpr std::size_t kMostUnread = BytesOf(BufferSize::kLarge);

  // Another process may hold the connection for a while, and reads nothing: closing our descriptor
  // would tell the peer nothing. From now on the end of the stream is that of the connection, until
  // somebody has another descriptor.
  void EndForAll() { ends_for_all_ = true; }

  ~SocketStream() override;
  void SetOwner(StreamOwner* owner) override;
  void Consume(std::size_t size) override;
  bool IsQuiet() const override;
  void WatchResets() override { watches_resets_ = true; }
  WriteStatus Write(std::span<const uv_buf_t> buffers) override;
  std::size_t unwritten() const override;
  void ShutdownWrite() override;
  void Close(bool reset) override;
  UniqueFd Detach() override;
  UniqueFd Duplicate() override;

 private:
  friend class SocketConnector;
  // The libuv handle and its requests live until both this stream and the close callback are done
  // with them.
  struct Block : InSlab {
    uv_tcp_t tcp;
    uv_write_t write;
    uv_shutdown_t shutdown;
    SocketStream* stream;
  };

  SocketStream(BufferPool& pool, Block* block);
  static Block* OpenBlock(Loop& loop, int fd);
  static void CloseBlock(Block* block, bool reset);
  static void OnAllocate(uv_handle_t* handle, std::size_t, uv_buf_t* out);
  static void OnRead(uv_stream_t* handle, ssize_t size, const uv_buf_t* buffer);
  uv_stream_t* uv() { return reinterpret_cast<uv_stream_t*>(&block_->tcp); }
  void StartReading();
  void PutBack(std::span<const char> octets);
  void ShutForAll() const;
  // Reading has stopped by itself.
  void OnReadingOver();
  void OnReset();
  void ReleaseBuffer();
  // recv(2) of one octet that leaves it there: its result, or the negative errno.
  ssize_t Peek() const;
  // The number of octets that the kernel has taken, or the negative errno.
  ssize_t WriteNow(std::span<const uv_buf_t> buffers) const;
  WriteStatus WriteRest(std::span<const uv_buf_t> buffers, std::size_t done);
  void HearRead(ssize_t size);
  void HearNoRead(ssize_t size);

  BufferPool& pool_;
  Block* block_;
  // Of block_; -1 once that is closed.
  uv_os_fd_t fd_ = -1;
  WatchedSocket unread_{Bind<&SocketStream::OnReset>(this)};
  StreamOwner* owner_ = nullptr;
  BufferSize held_size_ = BufferSize::kSmall;
  BufferSize next_size_ = BufferSize::kSmall;
  bool reading_ = false;
  // A read found no room; the second one without anything consumed between stops reading.
  bool no_room_ = false;
  bool watches_resets_ = false;
  bool write_pending_ = false;
  bool write_shut_ = false;
  bool ends_for_all_ = false;
};

// One attempt to connect. Destroying it before the end cancels.
class SocketConnector {
 public:
  // `done` is called from the loop when Start has returned false.
  SocketConnector(Loop& loop, BufferPool& pool, Callback done)
      : loop_(loop), pool_(pool), done_(done) {}
  SocketConnector(const SocketConnector&) = delete;
  SocketConnector& operator=(const SocketConnector&) = delete;
  ~SocketConnector();

  // AF_INET, AF_INET6 or AF_UNIX; once. True if the outcome is known already; `done` is not called
  // then.
  bool Start(const sockaddr* address, unsigned length);
  // The outcome: the stream, or kSystem with the errno of socket(2) or connect(2).
  Result<std::unique_ptr<SocketStream>> Take() { return std::move(result_); }

 private:
  struct Attempt;
  static void OnConnect(uv_connect_t* request, int status);

  Loop& loop_;
  BufferPool& pool_;
  Callback done_;
  Attempt* attempt_ = nullptr;
  Result<std::unique_ptr<SocketStream>> result_;
};

}  // namespace tidegate
