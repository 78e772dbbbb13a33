#include "supervisor/event_log.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(EventLog, HasRecordsOfOneLine) {
  EXPECT_EQ(InOneLine(""), "");
  EXPECT_EQ(InOneLine("a: b\n"), "a: b");
  EXPECT_EQ(InOneLine("a\n\nb\nc"), "a; b; c");
  EXPECT_EQ(InOneLine("a\nb\nc\nd\n"), "a; b; c and 1 other");
  EXPECT_EQ(InOneLine("a\nb\nc\nd\ne"), "a; b; c and 2 others");
}

}  // namespace
}  // namespace tidegate
