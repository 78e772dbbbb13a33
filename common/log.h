#pragma once

// The error log of this process, for people: `LogWarn("endpoint {} does not resolve", name)`. One
// log a process, as there is one stderr; used from the loop's thread only. Until SetErrorLog lines
// go to stderr at once; afterwards through a LogSink, so that a slow disk never holds the loop.

#include <cstdint>
#include <string_view>
#include <utility>

#include <fmt/core.h>

#include "common/log_level.h"
#include "common/log_sink.h"
#include "common/loop.h"
#include "common/unique_fd.h"

namespace tidegate {

// Lines go to `fd` from now on; again: what was logged before goes to the old descriptor. The loop
// outlives the log: CloseErrorLog comes before its end.
void SetErrorLog(Loop& loop, UniqueFd fd);
// Writes what is there, here and now, and goes back to stderr. Nothing happens if none is set.
void CloseErrorLog();
// Lines below `level` are not written. kInfo at the start.
void SetErrorLogLevel(LogLevel level);
LogLevel ErrorLogLevel();
// Lines that did not reach the file.
std::uint64_t ErrorLogDropped();

// Whatever the level; `format` was checked by the caller.
void WriteLog(LogLevel level, fmt::string_view format, fmt::format_args arguments);

template <class... Args>
void Log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (level >= ErrorLogLevel()) {
    WriteLog(level, format, fmt::make_format_args(args...));
  }
}
template <class... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kDebug, format, std::forward<Args>(args)...);
}
template <class... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
// Warnings and errors are written at once.
template <class... Args>
void LogWarn(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kWarn, format, std::forward<Args>(args)...);
}
template <class... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kError, format, std::forward<Args>(args)...);
}

}  // namespace tidegate
