#include "proxy/net/tls_output.h"

#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

class TlsOutputTest : public ::testing::Test {
 protected:
  std::string HandOver() {
    TlsOutput::Buffers buffers;
    count = output.HandOver(buffers);
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
      text.append(buffers[i].base, buffers[i].len);
    }
    return text;
  }
  bool Append(const std::string& text) { return output.Append(text.data(), text.size()); }

  BufferPool pool;
  TlsOutput output{pool};
  std::size_t count = 0;
};

TEST_F(TlsOutputTest, HoldsNothingOnceEverythingIsWritten) {
  EXPECT_EQ(output.held_bytes(), 0U);
  EXPECT_TRUE(Append("one"));
  EXPECT_TRUE(Append("two"));
  EXPECT_EQ(output.waiting(), 6U);
  EXPECT_EQ(output.held_bytes(), BytesOf(BufferSize::kSmall));
  EXPECT_EQ(HandOver(), "onetwo");
  EXPECT_EQ(count, 1U);
  EXPECT_EQ(output.waiting(), 0U);
  output.Written();
  EXPECT_EQ(output.held_bytes(), 0U);
}

TEST_F(TlsOutputTest, TakesMoreWhileAWriteIsPending) {
  EXPECT_TRUE(Append("first"));
  EXPECT_EQ(HandOver(), "first");
  EXPECT_TRUE(Append("second"));
  output.Written();
  EXPECT_EQ(output.waiting(), 6U);
  EXPECT_EQ(HandOver(), "second");
  output.Written();
  EXPECT_EQ(output.held_bytes(), 0U);
}

TEST_F(TlsOutputTest, TakesWhatOneWriteOfAChunkAndItsHeadMakes) {
  std::string text;
  for (int i = 0; i < 82000; ++i) {
    text += static_cast<char>('a' + i % 26);
  }
  output.Expect(80 * 1024);
  for (std::size_t at = 0; at < text.size(); at += 1000) {
    ASSERT_TRUE(Append(text.substr(at, 1000)));
  }
  EXPECT_LE(output.held_bytes(), 96U * 1024);
  EXPECT_EQ(HandOver(), text);
  EXPECT_LE(count, Stream::kMaxBuffers);
}

TEST_F(TlsOutputTest, RefusesWhatHasNoRoomAndKeepsTheRest) {
  EXPECT_TRUE(Append(std::string(288 * 1024, 'x')));
  EXPECT_TRUE(Append(std::string(16 * 1024, 'y')));
  EXPECT_FALSE(Append("z"));
  EXPECT_EQ(output.waiting(), 304U * 1024);
  EXPECT_EQ(HandOver().size(), 304U * 1024);
  EXPECT_EQ(count, Stream::kMaxBuffers);
  output.Release();
  EXPECT_EQ(output.held_bytes(), 0U);
}

}  // namespace
}  // namespace tidegate
