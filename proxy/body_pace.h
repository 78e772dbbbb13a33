#pragma once

// Whether the body of a request comes fast enough. A deadline between two pieces alone lets a
// client hold an exchange, and a connection of the endpoint, with one octet from time to time.

#include <algorithm>
#include <cstdint>

#include "common/units.h"

namespace tidegate {

class BodyPace {
 public:
  BodyPace() = default;
  // `idle`: the longest between two pieces; kNever: no bound. `min_rate`: octets a second, at least
  // 1, that there must have been on average once the client has been waited for longer than `idle`
  // (30 s if that is kNever); kUnlimited: no bound.
  BodyPace(Duration idle, std::uint64_t min_rate) : idle_(idle), min_rate_(min_rate) {}

  // How long the next piece may take, after `octets` of the body; not below zero.
  Duration Patience(std::uint64_t octets) const {
    if (min_rate_ == kUnlimited) [[likely]] {
      return idle_;
    }
    // No body outlives a year at this rate; the bound keeps the sum from overflowing.
    constexpr std::uint64_t kMostSeconds = 365ULL * 86'400;
    Duration earned = std::chrono::seconds(std::min(octets / min_rate_, kMostSeconds)) +
                      Duration(octets % min_rate_ * 1000 / min_rate_);
    Duration left = (idle_ == kNever ? kGrace : idle_) + earned - waited_;
    return std::clamp(left, Duration::zero(), idle_);
  }
  // The client was waited for. What the endpoint takes to make room does not count.
  void Waited(Duration time) { waited_ += time; }

 private:
  static constexpr Duration kGrace = std::chrono::seconds(30);

  Duration idle_ = kNever;
  std::uint64_t min_rate_ = kUnlimited;
  Duration waited_{};
};

}  // namespace tidegate
