#include "common/frame_pool.h"

#include <array>
#include <utility>

#include "common/slabs.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TG_FRAME_POOL_OFF 1
#endif
#endif

namespace tidegate {

#ifdef TG_FRAME_POOL_OFF

// Under AddressSanitizer every frame is its own allocation, so that a use after the end is seen.
void* AllocateFrame(std::size_t size) {
  return AllocateInSlab(size);
}
void FreeFrame(void* frame, std::size_t size) noexcept {
  FreeInSlab(frame, size);
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
    return AllocateInSlab(size);
  }
  FreeList& list = lists[index];
  if (list.head == nullptr) {
    return AllocateInSlab(index * kClassBytes);
  }
  FreeList::Node* node = list.head;
  list.head = node->next;
  --list.count;
  return node;
}

void FreeFrame(void* frame, std::size_t size) noexcept {
  std::size_t index = (size + kClassBytes - 1) / kClassBytes;
  if (index >= kClassCount) {
    FreeInSlab(frame, size);
    return;
  }
  if (lists[index].count >= kMaxKept) {
    FreeInSlab(frame, index * kClassBytes);
    return;
  }
  FreeList& list = lists[index];
  auto* node = static_cast<FreeList::Node*>(frame);
  node->next = list.head;
  list.head = node;
  ++list.count;
}

void ReleaseFreeFrames() noexcept {
  for (std::size_t index = 0; index < kClassCount; ++index) {
    FreeList& list = lists[index];
    while (list.head != nullptr) {
      FreeInSlab(std::exchange(list.head, list.head->next), index * kClassBytes);
    }
    list.count = 0;
  }
}

#endif

}  // namespace tidegate
