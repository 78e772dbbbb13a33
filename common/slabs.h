#pragma once

// Memory for what comes and goes with each connection: objects of about one size side by side, in
// slabs of 64 KiB. A slab goes back to the kernel with its last object. Among the blocks of
// malloc(3) they would lie between those of libraries that stay, and keep their pages from it.

#include <cstddef>

namespace tidegate {

// `size` bytes, aligned for any object; from malloc(3) where it is more than 1 KiB. Never null: out
// of memory ends the process. Freed by the same thread.
void* AllocateInSlab(std::size_t size);
// Gives back what AllocateInSlab returned for the same `size`.
void FreeInSlab(void* memory, std::size_t size) noexcept;
// Of each size one slab is kept in which nothing is: not any more.
void ReleaseFreeSlabs() noexcept;

// A base: new and delete of the class, and of those that derive from it, use slabs. Who deletes
// through another base needs a virtual destructor there.
class InSlab {
 public:
  static void* operator new(std::size_t size) { return AllocateInSlab(size); }
  static void operator delete(void* memory, std::size_t size) noexcept { FreeInSlab(memory, size); }

 protected:
  ~InSlab() = default;
};

}  // namespace tidegate
