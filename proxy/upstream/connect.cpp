#include "proxy/upstream/connect.h"

#include <algorithm>
#include <cerrno>
#include <coroutine>
#include <optional>
#include <utility>

#include "common/socket.h"
#include "proxy/net/tls_stream.h"

namespace tidegate {
namespace {

// One connect(2), with a deadline.
class ConnectOperation {
 public:
  ConnectOperation(Loop& loop, BufferPool& buffers, const SocketAddress& address, Duration timeout)
      : connector_(std::in_place, loop, buffers, Bind<&ConnectOperation::OnDone>(this)),
        deadline_(loop.timers(), Bind<&ConnectOperation::OnTimeout>(this)),
        address_(address),
        timeout_(timeout) {}

  bool await_ready() { return connector_->Start(address_.get(), address_.length); }
  void await_suspend(std::coroutine_handle<> waiter) {
    waiter_ = waiter;
    deadline_.Arm(timeout_);
  }
  Result<std::unique_ptr<SocketStream>> await_resume() {
    if (timed_out_) {
      return Fail(ErrorKind::kUpstreamConnectTimeout, "no answer to connect");
    }
    return connector_->Take();
  }
  // As if the timeout had come; nothing happens if the outcome is there.
  void Cancel() {
    if (!done_) {
      deadline_.Disarm();
      OnTimeout();
    }
  }

 private:
  void OnDone() {
    done_ = true;
    deadline_.Disarm();
    ReadyQueue::Post(waiter_);
  }
  void OnTimeout() {
    done_ = timed_out_ = true;
    connector_.reset();
    ReadyQueue::Post(waiter_);
  }

  std::optional<SocketConnector> connector_;
  Deadline deadline_;
  const SocketAddress& address_;
  Duration timeout_;
  std::coroutine_handle<> waiter_;
  bool done_ = false;
  bool timed_out_ = false;
};

Error ConnectError(const Error& error) {
  switch (error.system_errno()) {
    case ECONNREFUSED:
      return error.As(ErrorKind::kUpstreamRefused);
    case EMFILE:
    case ENFILE:
      return error.As(ErrorKind::kOutOfDescriptors);
    case 0:
      return error;
    default:
      return error.As(ErrorKind::kUpstreamConnectFailed);
  }
}

// The TLS handshake of a stream that has its deadline itself.
class HandshakeOperation final : private StreamOwner {
 public:
  explicit HandshakeOperation(TlsStream& stream) : stream_(stream) {}

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    waiter_ = waiter;
    stream_.SetOwner(this);
  }
  Result<> await_resume() {
    stream_.SetOwner(nullptr);
    if (stream_.handshake_done()) {
      return {};
    }
    return Fail(stream_.handshake_error().value_or(Error(ErrorKind::kCancelled)));
  }
  // As if it had failed; nothing happens if the outcome is there.
  void Cancel() { End(); }

 private:
  void OnReadable() override {
    if (stream_.handshake_done() || stream_.handshake_error()) {
      End();
    }
  }
  void OnWritten() override {}
  void End() {
    if (!std::exchange(done_, true)) {
      ReadyQueue::Post(waiter_);
    }
  }

  TlsStream& stream_;
  std::coroutine_handle<> waiter_;
  bool done_ = false;
};

}  // namespace

Task<Result<std::unique_ptr<Stream>>> ConnectTo(Loop& loop, BufferPool& buffers, Counters& counters,
                                                const SocketAddress& address,
                                                std::shared_ptr<TlsPeer> peer, Duration timeout,
                                                CancelSlot& cancel) {
  TimePoint start = loop.now();
  ConnectOperation connecting(loop, buffers, address, timeout);
  cancel.Set(Bind<&ConnectOperation::Cancel>(&connecting));
  auto connected = co_await connecting;
  cancel.Clear();
  if (!connected) {
    co_return Fail(ConnectError(connected.error()));
  }
  std::unique_ptr<Stream> socket = std::move(*connected);
  if (peer == nullptr || cancel.cancelled()) {
    co_return socket;
  }
  Duration left = timeout == kNever ? kNever : timeout - Duration(loop.now() - start);
  auto stream =
      TlsStream::Connect(loop, buffers, std::move(socket), peer, std::max(left, Duration::zero()));
  HandshakeOperation handshaking(*stream);
  cancel.Set(Bind<&HandshakeOperation::Cancel>(&handshaking));
  auto shaken = co_await handshaking;
  cancel.Clear();
  if (!shaken) {
    counters.Add(CounterId::kUpstreamTlsHandshakesFailed, cancel.cancelled() ? 0 : 1);
    co_return Fail(std::move(shaken).error());
  }
  counters.Add(CounterId::kUpstreamTlsHandshakes);
  counters.Add(CounterId::kUpstreamTlsResumed, stream->info().resumed ? 1 : 0);
  co_return std::unique_ptr<Stream>(std::move(stream));
}

}  // namespace tidegate
