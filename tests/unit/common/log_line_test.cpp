#include "common/log_line.h"

#include <unistd.h>

#include <chrono>
#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(LogLineTest, FormatsTimestamps) {
  EXPECT_EQ(FormatTimestamp(std::chrono::milliseconds(1795246800123)), "2026-11-21T07:40:00.123Z");
  EXPECT_EQ(FormatTimestamp(std::chrono::milliseconds(0)), "1970-01-01T00:00:00.000Z");
}

TEST(LogLineTest, SaysWhenHowBadAndWho) {
  SetLogName("worker");
  std::string line = FormatLogLine(LogLevel::kWarn, "endpoint down name=app");
  EXPECT_EQ(line.substr(24),
            " warn worker[" + std::to_string(::getpid()) + "]: endpoint down name=app\n");
  EXPECT_EQ(line[10], 'T');
  EXPECT_EQ(line[23], 'Z');
}

TEST(LogLineTest, KeepsOneLineOneLine) {
  SetLogName("worker");
  std::string line = FormatLogLine(LogLevel::kInfo, "a\nb\x1b[31m\x7f sch\xc3\xb6n");
  EXPECT_TRUE(line.ends_with("]: a\\x0ab\\x1b[31m\\x7f sch\xc3\xb6n\n")) << line;
}

}  // namespace
}  // namespace tidegate
