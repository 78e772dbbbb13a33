#include "common/buffer_pool.h"

#include <cstdlib>

#include "common/check.h"

namespace tidegate {
namespace {

constexpr std::size_t kMaxKeptBytes = std::size_t{2} << 20;

}  // namespace

BufferPool::~BufferPool() {
  Release();
}

void BufferPool::Release() {
  for (auto& list : free_) {
    for (char* buffer : list) {
      std::free(buffer);
    }
    list.clear();
    list.shrink_to_fit();
  }
}

char* BufferPool::Take(BufferSize size) {
  auto& list = free_[static_cast<std::size_t>(size)];
  if (list.empty()) {
    auto* buffer = static_cast<char*>(std::malloc(BytesOf(size)));
    TG_CHECK(buffer != nullptr);
    return buffer;
  }
  char* buffer = list.back();
  list.pop_back();
  return buffer;
}

void BufferPool::Give(char* buffer, BufferSize size) {
  auto& list = free_[static_cast<std::size_t>(size)];
  if (list.size() * BytesOf(size) >= kMaxKeptBytes) {
    std::free(buffer);
    return;
  }
  list.push_back(buffer);
}

}  // namespace tidegate
