#pragma once

// What a line of the error log looks like, and the clock of both logs.

#include <chrono>
#include <string>
#include <string_view>

#include "common/log_level.h"

namespace tidegate {

// "worker" or "supervisor"; what log lines call this process. By default it follows from the name
// of the program. `name` lives for ever.
void SetLogName(std::string_view name);

// `2026-11-21T07:40:00.123Z warn worker[1234]: text` and a newline. Control octets of `text` become
// \xXX: one line stays one line.
std::string FormatLogLine(LogLevel level, std::string_view text);

// Straight to descriptor 2; may block. What cannot be written is lost.
void WriteToStderr(std::string_view line);

// RFC 3339 in UTC with milliseconds: "2026-11-21T07:40:00.123Z".
std::string FormatTimestamp(std::chrono::milliseconds since_epoch);

}  // namespace tidegate
