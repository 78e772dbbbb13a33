#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "common/result.h"

namespace tidegate {

using Duration = std::chrono::milliseconds;
// What "off" means for a timeout: it never fires.
inline constexpr Duration kNever = Duration::max();
// What "off" means for a size or a count: no limit.
inline constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

// "30s", "1m30s", "250ms", "off". Integers with ms, s, m, h, d, largest unit first; a bare number
// is refused. Error: kConfig, the detail says what to write instead.
Result<Duration> ParseDuration(std::string_view text);
// "32KiB", "10MB", "512B", "off". Error: kConfig.
Result<std::uint64_t> ParseSize(std::string_view text);

// The shortest text that parses to the same value.
std::string FormatDuration(Duration value);
std::string FormatSize(std::uint64_t bytes);

}  // namespace tidegate
