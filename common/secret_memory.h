#pragma once

// Memory for keys: wiped at its end, never written to a swap device, in no core dump, and empty in
// a forked child. What is copied out of it is the caller's to wipe (explicit_bzero).

#include <cstddef>
#include <optional>
#include <span>

#include "common/error.h"

namespace tidegate {

class SecretMemory {
 public:
  // `size` octets above 0, all zero, on pages of their own. Out of memory ends the process.
  explicit SecretMemory(std::size_t size);
  SecretMemory(SecretMemory&& other) noexcept;
  SecretMemory& operator=(SecretMemory&& other) noexcept;
  ~SecretMemory();

  // Empty after it was moved from.
  std::span<std::byte> octets() const { return {start_, size_}; }
  // Why some of what is said above does not hold, most often because RLIMIT_MEMLOCK is used up. It
  // can be used nevertheless.
  const std::optional<Error>& weakness() const { return weakness_; }

 private:
  std::byte* start_ = nullptr;
  std::size_t size_ = 0;
  std::optional<Error> weakness_;
};

}  // namespace tidegate
