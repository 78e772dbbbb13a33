#include "common/log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

std::string ContentOf(int fd) {
  char buffer[4096];
  ssize_t size = ::pread(fd, buffer, sizeof(buffer), 0);
  return std::string(buffer, size > 0 ? static_cast<std::size_t>(size) : 0);
}

TEST(LogTest, GoesToStderrAtFirst) {
  testing::internal::CaptureStderr();
  LogWarn("endpoint {} does not resolve ttl={}", "app", 5);
  std::string line = testing::internal::GetCapturedStderr();
  EXPECT_NE(line.find(" warn "), std::string::npos);
  EXPECT_TRUE(line.ends_with("]: endpoint app does not resolve ttl=5\n")) << line;
}

TEST(LogTest, SaysOnlyWhatTheLevelLetsThrough) {
  testing::internal::CaptureStderr();
  LogDebug("hidden");
  SetErrorLogLevel(LogLevel::kDebug);
  LogDebug("shown");
  SetErrorLogLevel(LogLevel::kError);
  LogWarn("hidden");
  LogError("shown");
  SetErrorLogLevel(LogLevel::kInfo);
  std::string lines = testing::internal::GetCapturedStderr();
  EXPECT_EQ(lines.find("hidden"), std::string::npos);
  EXPECT_NE(lines.find(" debug "), std::string::npos);
  EXPECT_NE(lines.find(" error "), std::string::npos);
}

TEST(LogTest, GoesThroughASinkOnceItIsSet) {
  Loop loop;
  UniqueFd first(::memfd_create("first", MFD_CLOEXEC));
  UniqueFd second(::memfd_create("second", MFD_CLOEXEC));
  testing::internal::CaptureStderr();
  SetErrorLog(loop, UniqueFd(::dup(first.get())));
  LogInfo("one");
  LogError("two");
  SetErrorLog(loop, UniqueFd(::dup(second.get())));
  LogInfo("three");
  CloseErrorLog();
  LogInfo("four");
  std::string on_stderr = testing::internal::GetCapturedStderr();
  EXPECT_NE(ContentOf(first.get()).find("]: one\n"), std::string::npos);
  EXPECT_TRUE(ContentOf(first.get()).ends_with("]: two\n"));
  EXPECT_TRUE(ContentOf(second.get()).ends_with("]: three\n"));
  EXPECT_TRUE(on_stderr.ends_with("]: four\n"));
  EXPECT_EQ(on_stderr.find("]: one\n"), std::string::npos);
  EXPECT_EQ(ErrorLogDropped(), 0u);
}

}  // namespace
}  // namespace tidegate
