#pragma once

// When which connection is to be looked at again; the main loop of bench_torture asks.

#include <chrono>
#include <queue>
#include <vector>

#include "latency.h"

namespace bench {

// No connection is waited for longer: it is stuck then, which is counted, and another one is made.
constexpr auto kPatience = std::chrono::seconds(10);
// After a connection that was refused.
constexpr auto kBeforeRetry = std::chrono::milliseconds(50);
constexpr Clock::time_point kNever = Clock::time_point::max();

// Each owner has one time at most; a later Set() replaces it. `Owner` has a member `timer`.
template <class Owner>
class Timers {
 public:
  void Set(Owner& owner, Clock::time_point at) {
    owner.timer = at;
    heap_.push({at, &owner});
  }

  Clock::time_point First() const { return heap_.empty() ? kNever : heap_.top().at; }

  // Calls `due` for those whose time has come.
  template <class Due>
  void Run(Clock::time_point now, Due due) {
    while (!heap_.empty() && heap_.top().at <= now) {
      Entry entry = heap_.top();
      heap_.pop();
      if (entry.owner->timer == entry.at) {
        entry.owner->timer = kNever;
        due(*entry.owner);
      }
    }
  }

 private:
  struct Entry {
    Clock::time_point at;
    Owner* owner;
    bool operator<(const Entry& other) const { return at > other.at; }
  };

  std::priority_queue<Entry> heap_;
};

// What epoll's events belong to. An event may be stale: the connection was made anew since.
class Watched {
 public:
  virtual void OnEvents(std::uint32_t events) = 0;

 protected:
  ~Watched() = default;
};

}  // namespace bench
