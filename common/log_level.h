#pragma once

#include <cstdint>

namespace tidegate {

// How much the error log says. A line is written when its level is at or above the configured one.
enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarn, kError };

}  // namespace tidegate
