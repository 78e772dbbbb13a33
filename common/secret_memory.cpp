#include "common/secret_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace tidegate {

SecretMemory::SecretMemory(std::size_t size) : size_(size) {
  TG_CHECK(size > 0);
  void* pages = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TG_CHECK(pages != MAP_FAILED);
  start_ = static_cast<std::byte*>(pages);
  if (::madvise(pages, size, MADV_DONTDUMP) != 0) {
    weakness_ = Error::System(errno, "keep memory out of core dumps");
  }
  if (::madvise(pages, size, MADV_WIPEONFORK) != 0) {
    weakness_ = Error::System(errno, "keep memory from children");
  }
  // Not mlock: AddressSanitizer makes nothing of it.
  if (::mlock2(pages, size, 0) != 0) {
    weakness_ = Error::System(errno, "lock memory");
  }
}

SecretMemory::SecretMemory(SecretMemory&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      weakness_(std::exchange(other.weakness_, std::nullopt)) {}

SecretMemory& SecretMemory::operator=(SecretMemory&& other) noexcept {
  std::swap(start_, other.start_);
  std::swap(size_, other.size_);
  std::swap(weakness_, other.weakness_);
  return *this;
}

SecretMemory::~SecretMemory() {
  if (start_ != nullptr) {
    ::explicit_bzero(start_, size_);
    ::munmap(start_, size_);
  }
}

}  // namespace tidegate
