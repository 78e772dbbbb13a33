#include "proxy/parking.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <utility>

#include "common/check.h"

namespace tidegate {
namespace {

// One turn resumes no more than this; the loop's poll tells of the rest again.
constexpr int kMaxResumedATurn = 64;

}  // namespace

Duration IdleConnection::Patience(TimePoint now) const {
  if (quiet_until == kForEver) {
    return kNever;
  }
  return Duration(quiet_until > now ? quiet_until - now : 1);
}

Parking::Parked::Parked(Parking& in, IdleConnection taken)
    : parking(in),
      connection(std::move(taken)),
      deadline(in.loop_.timers(), Bind<&Parked::OnDeadline>(this)) {
  deadline.Arm(connection.Patience(in.loop_.now()));
}

// Not a uv_poll_t each: they cost half as much again as the record.
Parking::Parking(Loop& loop, SessionResumer& resumer)
    : loop_(loop), resumer_(resumer), handle_(new Handle) {
  handle_->parking = this;
  handle_->poll.data = handle_;
  handle_->epoll.Reset(::epoll_create1(EPOLL_CLOEXEC));
  TG_CHECK(handle_->epoll);
  TG_CHECK(uv_poll_init(loop.uv(), &handle_->poll, handle_->epoll.get()) == 0);
  uv_poll_start(&handle_->poll, UV_READABLE, &Parking::OnPoll);
}

Parking::~Parking() {
  handle_->parking = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&handle_->poll),
           [](uv_handle_t* handle) { delete static_cast<Handle*>(handle->data); });
}

void Parking::Park(IdleConnection connection) {
  // See memory_.
  static_assert(sizeof(Parked) + 2 * sizeof(void*) <= 320);
  // Those that can move stand in front: see TakeMovable.
  const bool can_move = connection.tls == nullptr && !connection.stays;
  auto place =
      parked_.emplace(can_move ? parked_.begin() : parked_.end(), *this, std::move(connection));
  Parked& parked = *place;
  parked.place = place;
  epoll_event event{.events = EPOLLIN | EPOLLRDHUP, .data = {.ptr = &parked}};
  if (::epoll_ctl(handle_->epoll.get(), EPOLL_CTL_ADD, parked.connection.fd.get(), &event) != 0) {
    Resume(parked);
  }
}

IdleConnection Parking::TakeOut(Parked& parked) {
  IdleConnection connection = std::move(parked.connection);
  // Closing our descriptor would not do: the connection may be another process's, too. Fails only
  // if it was never added.
  ::epoll_ctl(handle_->epoll.get(), EPOLL_CTL_DEL, connection.fd.get(), nullptr);
  parked_.erase(parked.place);
  if (parked_.empty()) {
    memory_.release();
  }
  return connection;
}

void Parking::Resume(Parked& parked) {
  resumer_.ResumeSession(TakeOut(parked));
}

std::optional<IdleConnection> Parking::TakeMovable() {
  if (parked_.empty()) {
    return std::nullopt;
  }
  const IdleConnection& first = parked_.front().connection;
  const bool can_move = first.tls == nullptr && !first.stays;
  return can_move ? std::optional(TakeOut(parked_.front())) : std::nullopt;
}

bool Parking::Resume(std::uint64_t id) {
  auto found = std::ranges::find_if(
      parked_, [id](const Parked& parked) { return parked.connection.id == id; });
  if (found == parked_.end()) {
    return false;
  }
  Resume(*found);
  return true;
}

void Parking::ResumeAll() {
  while (!parked_.empty()) {
    Resume(parked_.front());
  }
}

void Parking::OnPoll(uv_poll_t* handle, int, int) {
  Parking* parking = static_cast<Handle*>(handle->data)->parking;
  if (parking != nullptr) {
    parking->ResumeReady();
  }
}

void Parking::ResumeReady() {
  std::array<epoll_event, kMaxResumedATurn> events;
  int count = ::epoll_wait(handle_->epoll.get(), events.data(), kMaxResumedATurn, 0);
  for (int i = 0; i < count; ++i) {
    Resume(*static_cast<Parked*>(events[static_cast<std::size_t>(i)].data.ptr));
  }
}

}  // namespace tidegate
