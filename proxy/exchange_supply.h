#pragma once

// The exchanges of a worker, which connections take turns in using: what one has allocated the next
// finds.

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "proxy/exchange.h"

namespace tidegate {

class ExchangeSupply {
 public:
  // `services` outlives this.
  explicit ExchangeSupply(Services& services) : services_(services) {}
  ExchangeSupply(const ExchangeSupply&) = delete;
  ExchangeSupply& operator=(const ExchangeSupply&) = delete;

  std::unique_ptr<Exchange> Take() {
    if (unused_.empty()) {
      return std::make_unique<Exchange>(services_);
    }
    std::unique_ptr<Exchange> exchange = std::move(unused_.back());
    unused_.pop_back();
    return exchange;
  }
  // One that is not running.
  void Give(std::unique_ptr<Exchange> exchange) {
    if (unused_.size() < kMaxUnused) {
      unused_.push_back(std::move(exchange));
    }
  }
  // Frees those that nobody uses now.
  void Release() {
    unused_.clear();
    unused_.shrink_to_fit();
  }

 private:
  static constexpr std::size_t kMaxUnused = 256;

  Services& services_;
  std::vector<std::unique_ptr<Exchange>> unused_;
};

}  // namespace tidegate
