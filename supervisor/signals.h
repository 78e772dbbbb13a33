#pragma once

// The signals by which people and service managers ask the supervisor for something. They are
// blocked for good and taken by a descriptor (signalfd(2)): one that nobody has taken stays
// pending, also across execve, so that an image which ends, hangs or crashes leaves it to the next.
//
// As everywhere, a signal that comes again before the first was taken is one.

#include <array>
#include <csignal>
#include <functional>
#include <initializer_list>

#include <uv.h>

#include "common/loop.h"
#include "common/unique_fd.h"

namespace tidegate {

class Signals {
 public:
  static constexpr std::array kNumbers = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};

  // `on_signal` is called from the loop. Blocks these, also in threads that are made later, and
  // nothing else: what an image before us has blocked is let through.
  Signals(Loop& loop, std::function<void(int number)> on_signal);
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  // From now on these stay where they are; the others are taken, those that have come before, too.
  void Leave(std::initializer_list<int> numbers);
  // They stay blocked. The loop must turn once more (RunUntilClosed).
  ~Signals();

 private:
  void Take();

  std::function<void(int number)> on_signal_;
  UniqueFd fd_;
  uv_poll_t* poll_;
};

}  // namespace tidegate
