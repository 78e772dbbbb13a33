#include "common/slabs.h"

#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <cstdlib>

#include "common/check.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TG_SLABS_OFF 1
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

#ifdef TG_SLABS_OFF

// Under AddressSanitizer every object is its own allocation, so that a use after the end is seen.
void* AllocateInSlab(std::size_t size) {
  return MustAllocate(size);
}
void FreeInSlab(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void ReleaseFreeSlabs() noexcept {}

#else

namespace {

// Also the alignment of a slab: that of an object is found by its address.
constexpr std::size_t kSlabBytes = 64 * 1024;
constexpr std::size_t kClassBytes = 64;
constexpr std::size_t kMostBytes = 1024;
constexpr std::size_t kClassCount = kMostBytes / kClassBytes + 1;

struct FreeObject {
  FreeObject* next;
};

// The head of the memory that it stands for.
struct alignas(kClassBytes) Slab {
  explicit Slab(std::size_t size) : object_bytes(size) {}
  bool has_room() const { return free != nullptr || fresh + object_bytes <= kSlabBytes; }
  void* Take();
  void Give(void* memory);

  const std::size_t object_bytes;
  // Of those with room, of one class.
  Slab* next = nullptr;
  Slab* previous = nullptr;
  FreeObject* free = nullptr;
  // Where what was never used begins: its pages are not touched before.
  std::size_t fresh = kClassBytes;
  std::size_t used = 0;
};
static_assert(sizeof(Slab) == kClassBytes);

void* Slab::Take() {
  ++used;
  if (free != nullptr) {
    FreeObject* object = free;
    free = object->next;
    return object;
  }
  void* memory = reinterpret_cast<char*>(this) + fresh;
  fresh += object_bytes;
  return memory;
}

void Slab::Give(void* memory) {
  --used;
  auto* object = static_cast<FreeObject*>(memory);
  object->next = free;
  free = object;
}

Slab* MapSlab(std::size_t object_bytes) {
  void* mapped =
      ::mmap(nullptr, 2 * kSlabBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TG_CHECK(mapped != MAP_FAILED);
  char* begin = static_cast<char*>(mapped);
  const std::size_t before = (kSlabBytes - reinterpret_cast<std::uintptr_t>(begin)) % kSlabBytes;
  if (before > 0) {
    ::munmap(begin, before);
  }
  ::munmap(begin + before + kSlabBytes, kSlabBytes - before);
  return new (begin + before) Slab(object_bytes);
}

void Unmap(Slab* slab) {
  TG_CHECK(::munmap(slab, kSlabBytes) == 0);
}

Slab* SlabOf(void* memory) {
  const std::uintptr_t into = reinterpret_cast<std::uintptr_t>(memory) % kSlabBytes;
  return reinterpret_cast<Slab*>(static_cast<char*>(memory) - into);
}

class SizeClass {
 public:
  void* Allocate(std::size_t object_bytes);
  void Free(void* memory);
  void ReleaseSpare();

 private:
  void Link(Slab* slab);
  void Unlink(Slab* slab);

  Slab* with_room_ = nullptr;
  // Empty; no part of the list.
  Slab* spare_ = nullptr;
};

void* SizeClass::Allocate(std::size_t object_bytes) {
  if (with_room_ == nullptr) {
    Link(spare_ != nullptr ? spare_ : MapSlab(object_bytes));
    spare_ = nullptr;
  }
  Slab* slab = with_room_;
  void* memory = slab->Take();
  if (!slab->has_room()) {
    Unlink(slab);
  }
  return memory;
}

void SizeClass::Free(void* memory) {
  Slab* slab = SlabOf(memory);
  if (!slab->has_room()) {
    Link(slab);
  }
  slab->Give(memory);
  if (slab->used == 0) {
    Unlink(slab);
    ReleaseSpare();
    spare_ = slab;
  }
}

void SizeClass::ReleaseSpare() {
  if (spare_ != nullptr) {
    Unmap(spare_);
    spare_ = nullptr;
  }
}

void SizeClass::Link(Slab* slab) {
  slab->previous = nullptr;
  slab->next = with_room_;
  if (with_room_ != nullptr) {
    with_room_->previous = slab;
  }
  with_room_ = slab;
}

void SizeClass::Unlink(Slab* slab) {
  (slab->previous != nullptr ? slab->previous->next : with_room_) = slab->next;
  if (slab->next != nullptr) {
    slab->next->previous = slab->previous;
  }
}

// Never destroyed in part: objects may outlive other thread-locals at exit.
thread_local constinit std::array<SizeClass, kClassCount> classes;

constexpr std::size_t ClassOf(std::size_t size) {
  return (size + kClassBytes - 1) / kClassBytes;
}

}  // namespace

void* AllocateInSlab(std::size_t size) {
  const std::size_t index = ClassOf(size);
  return index < kClassCount ? classes[index].Allocate(index * kClassBytes) : MustAllocate(size);
}

void FreeInSlab(void* memory, std::size_t size) noexcept {
  const std::size_t index = ClassOf(size);
  if (index < kClassCount) {
    classes[index].Free(memory);
  } else {
    std::free(memory);
  }
}

void ReleaseFreeSlabs() noexcept {
  for (SizeClass& each : classes) {
    each.ReleaseSpare();
  }
}

#endif

}  // namespace tidegate
