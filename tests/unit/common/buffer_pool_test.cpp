#include "common/buffer_pool.h"

#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(BufferPool, SizesAreFourTimesEachOther) {
  EXPECT_EQ(BytesOf(BufferSize::kSmall), 16U * 1024);
  EXPECT_EQ(BytesOf(BufferSize::kMedium), 64U * 1024);
  EXPECT_EQ(BytesOf(BufferSize::kLarge), 256U * 1024);
}

TEST(BufferPool, GivesBackTheOneThatWasUsedLast) {
  BufferPool pool;
  char* first = pool.Take(BufferSize::kSmall);
  char* second = pool.Take(BufferSize::kSmall);
  EXPECT_NE(first, second);
  pool.Give(first, BufferSize::kSmall);
  pool.Give(second, BufferSize::kSmall);
  EXPECT_EQ(pool.Take(BufferSize::kSmall), second);
  pool.Give(second, BufferSize::kSmall);
}

TEST(BufferPool, ABurstIsFreedAgain) {
  BufferPool pool;
  std::vector<char*> burst;
  for (int i = 0; i < 64; ++i) {
    burst.push_back(pool.Take(BufferSize::kLarge));
    burst.back()[BytesOf(BufferSize::kLarge) - 1] = 'x';
  }
  // 2 MiB are kept, 8 of 64; the leak check of the sanitizer build sees the others.
  for (char* buffer : burst) {
    pool.Give(buffer, BufferSize::kLarge);
  }
  pool.Release();
  pool.Give(pool.Take(BufferSize::kLarge), BufferSize::kLarge);
}

}  // namespace
}  // namespace tidegate
