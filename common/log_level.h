#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tidegate {

// How much the error log says. A line is written when its level is at or above the configured one.
enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarn, kError };

inline constexpr std::array<std::string_view, 4> kLogLevelNames = {"debug", "info", "warn",
                                                                   "error"};

constexpr std::string_view NameOf(LogLevel level) {
  return kLogLevelNames[static_cast<std::size_t>(level)];
}

// Nothing if that is no level's name.
constexpr std::optional<LogLevel> LogLevelOf(std::string_view name) {
  for (std::size_t i = 0; i < kLogLevelNames.size(); ++i) {
    if (kLogLevelNames[i] == name) {
      return static_cast<LogLevel>(i);
    }
  }
  return std::nullopt;
}

}  // namespace tidegate
