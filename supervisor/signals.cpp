#include "supervisor/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include "common/check.h"

namespace tidegate {

namespace {

sigset_t AllBut(std::initializer_list<int> numbers) {
  sigset_t set;
  ::sigemptyset(&set);
  for (int number : Signals::kNumbers) {
    ::sigaddset(&set, number);
  }
  for (int number : numbers) {
    ::sigdelset(&set, number);
  }
  return set;
}

}  // namespace

Signals::Signals(Loop& loop, std::function<void(int number)> on_signal)
    : on_signal_(std::move(on_signal)), poll_(new uv_poll_t) {
  const sigset_t ours = AllBut({});
  ::sigprocmask(SIG_SETMASK, &ours, nullptr);
  fd_.Reset(::signalfd(-1, &ours, SFD_NONBLOCK | SFD_CLOEXEC));
  TG_CHECK(fd_);
  TG_CHECK(uv_poll_init(loop.uv(), poll_, fd_.get()) == 0);
  poll_->data = this;
  uv_poll_start(poll_, UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<Signals*>(handle->data)->Take(); });
}

void Signals::Leave(std::initializer_list<int> numbers) {
  const sigset_t taken = AllBut(numbers);
  TG_CHECK(::signalfd(fd_.get(), &taken, 0) == fd_.get());
}

Signals::~Signals() {
  uv_poll_stop(poll_);
  uv_close(reinterpret_cast<uv_handle_t*>(poll_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
}

// One at a time: what the first one asks for may be to go, and the others are the next image's.
void Signals::Take() {
  signalfd_siginfo info{};
  if (::read(fd_.get(), &info, sizeof(info)) == sizeof(info)) {
    on_signal_(static_cast<int>(info.ssi_signo));
  }
}

}  // namespace tidegate
