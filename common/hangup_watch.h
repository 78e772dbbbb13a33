#pragma once

// Asks after sockets that nobody polls. A socket whose buffer is full, or whose peer has ended its
// side, is not read any more, and a reset would show only when somebody writes: a request could
// occupy its origin for a client that has left.

#include "common/timers.h"

namespace tidegate {

class HangupWatch;

// A socket that is asked after while it is listed. A value: its destructor takes it off.
class WatchedSocket {
 public:
  // `on_reset` is called once after each listing, from a deadline; the socket is off the list then.
  explicit WatchedSocket(Callback on_reset) : on_reset_(on_reset) {}
  WatchedSocket(const WatchedSocket&) = delete;
  WatchedSocket& operator=(const WatchedSocket&) = delete;
  ~WatchedSocket() { TakeOff(); }

  // `fd` stays open while it is listed. Idempotent.
  void List(HangupWatch& watch, int fd);
  void TakeOff();

 private:
  friend class HangupWatch;
  HangupWatch* watch_ = nullptr;
  Callback on_reset_;
  WatchedSocket* next_ = nullptr;
  WatchedSocket* previous_ = nullptr;
  int fd_ = -1;
  bool reset_ = false;
};

// One a loop. Costs one poll(2) a second for all that are listed, nothing while none is.
class HangupWatch {
 public:
  explicit HangupWatch(TimerWheel& wheel) : tick_(wheel, Bind<&HangupWatch::OnTick>(this)) {}

 private:
  friend class WatchedSocket;
  void OnTick();
  WatchedSocket* FirstReset() const;

  Deadline tick_;
  WatchedSocket* first_ = nullptr;
};

}  // namespace tidegate
