#pragma once

// Memory for coroutine frames: free lists by size class, one set a thread. A relay starts and ends
// a few coroutines a request; malloc for each would be most of what they cost.

#include <cstddef>

namespace tidegate {

// `size` bytes, aligned for any object. Never null: out of memory ends the process.
void* AllocateFrame(std::size_t size);
// Gives back what AllocateFrame returned for the same `size`. A list keeps at most 256 frames; the
// rest go back to their slabs.
void FreeFrame(void* frame, std::size_t size) noexcept;
// Frees what the lists of this thread keep.
void ReleaseFreeFrames() noexcept;

}  // namespace tidegate
