#pragma once

// What the supervisor says about itself: lines in the error log. Never blocks: a line that the log
// does not take is lost.

#include <cstdint>
#include <string>
#include <string_view>

#include "common/log_level.h"

namespace tidegate {

// Where lines go from now on; `fd` stays the caller's and stays open. 2 at first.
void SetEventLog(int fd);
void SetEventLevel(LogLevel level);
void LogEvent(LogLevel level, std::string_view text);

// For a record, which is one line: the first three lines of `text` and how many others it has.
std::string InOneLine(std::string_view text);

// Writes all of `text` if that does not block; what does not fit is lost. For whatever may be a
// pipe that nobody reads.
void WriteWithoutBlocking(int fd, std::string_view text);

// RFC 3339 in UTC, with milliseconds. `unix_seconds` may have a fraction.
std::string FormatTime(double unix_seconds);
// Seconds since 1970, now.
double UnixTime();

}  // namespace tidegate
