#pragma once

// Read buffers, in three sizes, kept in free lists: a buffer belongs to whoever reads, while there
// is something in it.

#include <array>
#include <cstddef>
#include <vector>

namespace tidegate {

// 16, 64 and 256 KiB: the read size decides what bulk costs, so a busy relay moves up.
enum class BufferSize : unsigned char { kSmall, kMedium, kLarge };

constexpr std::size_t BytesOf(BufferSize size) {
  return std::size_t{16 * 1024} << (2 * static_cast<unsigned>(size));
}

class BufferPool {
 public:
  BufferPool() = default;
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  ~BufferPool();

  // BytesOf(size) octets, not initialised. Never null.
  char* Take(BufferSize size);
  // Gives back what Take returned. Each list keeps 2 MiB at most; the rest is freed at once, so a
  // burst leaves nothing behind.
  void Give(char* buffer, BufferSize size);
  // Frees what the lists keep.
  void Release();

 private:
  std::array<std::vector<char*>, 3> free_;
};

}  // namespace tidegate
