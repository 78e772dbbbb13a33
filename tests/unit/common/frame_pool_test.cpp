#include "common/frame_pool.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(FramePool, FramesOfEverySizeAreWholeAndApart) {
  std::vector<void*> frames;
  for (std::size_t size = 1; size < 10000; size += 97) {
    void* frame = AllocateFrame(size);
    std::memset(frame, static_cast<int>(size & 0xff), size);
    frames.push_back(frame);
  }
  std::size_t size = 1;
  for (void* frame : frames) {
    auto* octets = static_cast<unsigned char*>(frame);
    EXPECT_EQ(octets[0], size & 0xff);
    EXPECT_EQ(octets[size - 1], size & 0xff);
    FreeFrame(frame, size);
    size += 97;
  }
}

TEST(FramePool, ManyFramesMoreThanAreKept) {
  std::vector<void*> frames;
  for (int i = 0; i < 1000; ++i) {
    frames.push_back(AllocateFrame(200));
  }
  for (void* frame : frames) {
    FreeFrame(frame, 200);
  }
  // What was kept is freed, and the lists work on; the leak check of the sanitizer build watches.
  ReleaseFreeFrames();
  FreeFrame(AllocateFrame(200), 200);
}

}  // namespace
}  // namespace tidegate
