#include "common/frame_pool.h"

#include <array>
#include <cstdlib>
#include <utility>

#include "common/check.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TG_FRAME_POOL_OFF 1
#endif
#endif

namespace tidegate {
namespace {

void* MustAllocate(std::size_t size) {
  void* memory = std::malloc(size);
  TG_CHECK(memory != nullptr);
  return memory;
}

}  // namespace

#ifdef TG_FRAME_POOL_OFF

// Under AddressSanitizer every frame is its own allocation, so that a use after the end is seen.
void* AllocateFrame(std::size_t size) {
  return MustAllocate(size);
}
void FreeFrame(void* frame, std::size_t) noexcept {
  std::free(frame);
}
void ReleaseFreeFrames() noexcept {}

#else

namespace {

constexpr std::size_t kClassBytes = 128;
constexpr std::size_t kClassCount = 32;
constexpr std::size_t kMaxKept = 256;

struct FreeList {
  struct Node {
    Node* next;
  };
  Node* head = nullptr;
  std::size_t count = 0;
};

// Never destroyed in part: frames may outlive other thread-locals at exit.
thread_local std::array<FreeList, kClassCount> lists;

}  // namespace

void* AllocateFrame(std::size_t size) {
  std::size_t index = (size + kClassBytes - 1) / kClassBytes;
  if (index >= kClassCount) {
    return MustAllocate(size);
  }
  FreeList& list = lists[index];
  if (list.head == nullptr) {
    return MustAllocate(index * kClassBytes);
  }
  FreeList::Node* node = list.head;
  list.head = node->next;
  --list.count;
  return node;
}

void FreeFrame(void* frame, std::size_t size) noexcept {
  std::size_t index = (size + kClassBytes - 1) / kClassBytes;
  if (index >= kClassCount || lists[index].count >= kMaxKept) {
    std::free(frame);
    return;
  }
  FreeList& list = lists[index];
  auto* node = static_cast<FreeList::Node*>(frame);
  node->next = list.head;
  list.head = node;
  ++list.count;
}

void ReleaseFreeFrames() noexcept {
  for (FreeList& list : lists) {
    while (list.head != nullptr) {
      std::free(std::exchange(list.head, list.head->next));
    }
    list.count = 0;
  }
}

#endif

}  // namespace tidegate
