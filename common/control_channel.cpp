#include <fcntl.h>

#include <cerrno>

#include "common/check.h"
#include "common/control.h"
#include "common/control_wire.h"

namespace tidegate {
namespace {

// What a peer may leave unread in our memory, beyond what its socket holds. A status answer is one
// message; a drain sends two a second.
constexpr std::size_t kMaxQueued = 512;

}  // namespace

struct ControlChannel::Watch {
  uv_poll_t handle;
  ControlChannel* channel;
};

ControlChannel::ControlChannel(Loop& loop, UniqueFd fd, Handler& handler)
    : loop_(loop),
      fd_(std::move(fd)),
      handler_(handler),
      failed_(loop.timers(), Bind<&ControlChannel::ReportFailure>(this)) {
  ::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) | O_NONBLOCK);
  watch_ = new Watch;
  watch_->channel = this;
  watch_->handle.data = watch_;
  TG_CHECK(uv_poll_init(loop_.uv(), &watch_->handle, fd_.get()) == 0);
  Watching();
}

ControlChannel::~ControlChannel() {
  Close();
  if (destroyed_ != nullptr) {
    *destroyed_ = true;
  }
}

void ControlChannel::Close() {
  Release().Reset();
}

UniqueFd ControlChannel::Release() {
  failed_.Disarm();
  if (watch_ != nullptr) {
    watch_->channel = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&watch_->handle),
             [](uv_handle_t* handle) { delete static_cast<Watch*>(handle->data); });
    watch_ = nullptr;
  }
  queue_.clear();
  return std::move(fd_);
}

void ControlChannel::Watching() {
  int events = UV_READABLE | (queue_.empty() ? 0 : UV_WRITABLE);
  TG_CHECK(uv_poll_start(&watch_->handle, events, &ControlChannel::OnPoll) == 0);
}

bool ControlChannel::Send(const nlohmann::json& body, std::span<const int> fds) {
  if (watch_ == nullptr || failure_) {
    return false;
  }
  Result<WireRecord> record = EncodeControl(body, fds.size());
  if (!record) {
    Fail(record.error());
    return false;
  }
  std::vector<int> all = record->WithPayload(fds);
  if (queue_.empty()) {
    Result<bool> sent = TrySendRecord(fd_.get(), record->text, all);
    // A peer that has closed may have said something before: reading tells, and then its end.
    if (!sent && sent.error().kind() != ErrorKind::kClosed) {
      Fail(sent.error());
    }
    if (!sent || *sent) {
      return sent.has_value();
    }
  }
  if (queue_.size() >= kMaxQueued) {
    Fail(Error(ErrorKind::kTimeout, "the peer does not read control messages"));
    return false;
  }
  Outgoing outgoing{.text = std::move(record->text), .fds = {}};
  for (int fd : all) {
    UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy) {
      Fail(Error::System(errno, "keep a descriptor for a control message"));
      return false;
    }
    outgoing.fds.push_back(std::move(copy));
  }
  queue_.push_back(std::move(outgoing));
  Watching();
  return true;
}

void ControlChannel::Flush() {
  while (!queue_.empty()) {
    std::vector<int> fds;
    for (const UniqueFd& fd : queue_.front().fds) {
      fds.push_back(fd.get());
    }
    Result<bool> sent = TrySendRecord(fd_.get(), queue_.front().text, fds);
    if (sent && !*sent) {
      return;
    }
    if (!sent) {
      queue_.clear();
      if (sent.error().kind() != ErrorKind::kClosed) {
        Fail(sent.error());
      }
      break;
    }
    queue_.pop_front();
  }
  Watching();
}

void ControlChannel::OnPoll(uv_poll_t* handle, int status, int events) {
  auto* watch = static_cast<Watch*>(handle->data);
  ControlChannel* channel = watch->channel;
  if (channel == nullptr) {
    return;
  }
  if ((events & UV_WRITABLE) != 0) {
    channel->Flush();
  }
  if (status < 0 || (events & UV_READABLE) != 0) {
    channel->ReadAll();
  }
}

void ControlChannel::ReadAll() {
  bool destroyed = false;
  destroyed_ = &destroyed;
  while (watch_ != nullptr && !failure_) {
    Result<std::optional<ControlMessage>> message = TryReceiveControl(fd_.get());
    if (!message) {
      failure_ = message.error();
      destroyed_ = nullptr;
      ReportFailure();
      return;
    }
    if (!message->has_value()) {
      break;
    }
    handler_.OnControlMessage(*this, std::move(**message));
    if (destroyed) {
      return;
    }
  }
  destroyed_ = nullptr;
}

void ControlChannel::Fail(Error error) {
  failure_ = std::move(error);
  failed_.Arm(Duration::zero());
}

void ControlChannel::ReportFailure() {
  Error reason = *failure_;
  Close();
  handler_.OnControlClosed(*this, reason);
}

}  // namespace tidegate
