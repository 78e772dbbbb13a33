#pragma once

// Octets of a body that have come and were not read. Blocks do not move, so what was handed out
// stays where it is while more is appended. How much may come is the window's business.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "common/buffer_pool.h"
#include "common/check.h"

namespace tidegate {

class H2Inbox {
 public:
  // `pool` outlives this.
  explicit H2Inbox(BufferPool& pool) : pool_(pool) {}
  H2Inbox(const H2Inbox&) = delete;
  H2Inbox& operator=(const H2Inbox&) = delete;
  ~H2Inbox() { Clear(); }

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }

  // From now on its blocks are larger: a large body costs less in large pieces.
  void Widen() { next_size_ = BufferSize::kMedium; }
  void Append(std::span<const char> octets) {
    size_ += octets.size();
    while (!octets.empty()) {
      if (blocks_.empty() || blocks_.back().end == BytesOf(blocks_.back().size)) {
        blocks_.push_back({pool_.Take(next_size_), 0, 0, next_size_});
      }
      Block& block = blocks_.back();
      const std::size_t size = std::min(octets.size(), BytesOf(block.size) - block.end);
      std::memcpy(block.data + block.end, octets.data(), size);
      block.end += size;
      octets = octets.subspan(size);
    }
  }
  // What can be read at once; empty if there is nothing. Valid until Pop has taken it.
  std::span<const char> Front() const {
    if (blocks_.empty()) {
      return {};
    }
    const Block& block = blocks_.front();
    return {block.data + block.begin, block.end - block.begin};
  }
  // Forgets the first `size` octets of Front().
  void Pop(std::size_t size) {
    if (size == 0) {
      return;
    }
    Block& block = blocks_.front();
    TG_CHECK(size <= block.end - block.begin);
    block.begin += size;
    size_ -= size;
    if (block.begin == block.end) {
      pool_.Give(block.data, block.size);
      blocks_.erase(blocks_.begin());
    }
  }
  void Clear() {
    for (const Block& block : blocks_) {
      pool_.Give(block.data, block.size);
    }
    blocks_.clear();
    size_ = 0;
  }

 private:
  struct Block {
    char* data;
    std::size_t begin;
    std::size_t end;
    BufferSize size;
  };

  BufferPool& pool_;
  // Some in practice: a window.
  std::vector<Block> blocks_;
  std::size_t size_ = 0;
  BufferSize next_size_ = BufferSize::kSmall;
};

}  // namespace tidegate
