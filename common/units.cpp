#include "common/units.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

// Largest first.
constexpr std::array<Unit, 5> kDurationUnits = {{
    {"d", 86'400'000},
    {"h", 3'600'000},
    {"m", 60'000},
    {"s", 1'000},
    {"ms", 1},
}};

constexpr std::array<Unit, 7> kSizeUnits = {{
    {"GiB", 1ULL << 30U},
    {"GB", 1'000'000'000},
    {"MiB", 1ULL << 20U},
    {"MB", 1'000'000},
    {"KiB", 1ULL << 10U},
    {"KB", 1'000},
    {"B", 1},
}};

// A hundred years, and an exabyte: more is a slip of the finger, and sums of such values never
// overflow.
constexpr std::uint64_t kMaxMilliseconds = 36'500ULL * 86'400'000;
constexpr std::uint64_t kMaxBytes = 1'000'000'000'000'000'000;

struct Part {
  std::uint64_t number;
  std::string_view unit;
};

// Takes `15ms` off the front of `text`. Nothing if it does not begin with digits, or they are too
// many.
std::optional<Part> TakePart(std::string_view& text) {
  Part part{};
  const char* end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, part.number);
  if (error != std::errc{}) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<std::size_t>(rest - text.data()));
  std::size_t letters = 0;
  while (letters < text.size() && IsAlpha(text[letters])) {
    ++letters;
  }
  part.unit = text.substr(0, letters);
  text.remove_prefix(letters);
  return part;
}

bool AllDigits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, IsDigit);
}

std::unexpected<Error> BadDuration(std::string_view text) {
  if (AllDigits(text)) {
    return Fail(ErrorKind::kConfig, fmt::format("a duration needs a unit; write \"{}s\"", text));
  }
  return Fail(ErrorKind::kConfig,
              fmt::format("\"{}\" is not a duration; write e.g. \"250ms\", \"30s\", "
                          "\"1m30s\", \"2h\" or \"1d\"",
                          text));
}

std::unexpected<Error> BadSize(std::string_view text) {
  if (AllDigits(text)) {
    return Fail(ErrorKind::kConfig, fmt::format("a size needs a unit; write \"{}B\"", text));
  }
  return Fail(
      ErrorKind::kConfig,
      fmt::format("\"{}\" is not a size; write e.g. \"512B\", \"32KiB\", \"10MB\" or \"1GiB\"",
                  text));
}

}  // namespace

Result<Duration> ParseDuration(std::string_view text) {
  if (text == "off") {
    return kNever;
  }
  std::string_view rest = text;
  std::uint64_t total = 0;
  auto next_unit = kDurationUnits.begin();
  do {
    std::optional<Part> part = TakePart(rest);
    if (!part) {
      return BadDuration(text);
    }
    auto unit = std::find_if(next_unit, kDurationUnits.end(),
                             [&](const Unit& known) { return known.name == part->unit; });
    if (unit == kDurationUnits.end()) {
      return BadDuration(text);
    }
    next_unit = unit + 1;
    if (part->number > (kMaxMilliseconds - total) / unit->factor) {
      return Fail(ErrorKind::kConfig,
                  fmt::format("\"{}\" is longer than a hundred years; write \"off\"", text));
    }
    total += part->number * unit->factor;
  } while (!rest.empty());
  return Duration(static_cast<Duration::rep>(total));
}

Result<std::uint64_t> ParseSize(std::string_view text) {
  if (text == "off") {
    return kUnlimited;
  }
  std::string_view rest = text;
  std::optional<Part> part = TakePart(rest);
  if (!part || !rest.empty()) {
    return BadSize(text);
  }
  for (const Unit& unit : kSizeUnits) {
    if (unit.name == part->unit) {
      if (part->number > kMaxBytes / unit.factor) {
        return Fail(ErrorKind::kConfig,
                    fmt::format("\"{}\" is more than an exabyte; write \"off\"", text));
      }
      return part->number * unit.factor;
    }
  }
  return BadSize(text);
}

std::string FormatDuration(Duration value) {
  if (value == kNever) {
    return "off";
  }
  auto left = static_cast<std::uint64_t>(std::max<Duration::rep>(value.count(), 0));
  if (left == 0) {
    return "0s";
  }
  std::string single;
  std::string compound;
  for (const Unit& unit : kDurationUnits) {
    auto whole = static_cast<std::uint64_t>(value.count());
    if (single.empty() && whole % unit.factor == 0) {
      single = fmt::format("{}{}", whole / unit.factor, unit.name);
    }
    if (left >= unit.factor) {
      compound += fmt::format("{}{}", left / unit.factor, unit.name);
      left %= unit.factor;
    }
  }
  return single.size() <= compound.size() ? single : compound;
}

std::string FormatSize(std::uint64_t bytes) {
  if (bytes == kUnlimited) {
    return "off";
  }
  std::string shortest = fmt::format("{}B", bytes);
  for (const Unit& unit : kSizeUnits) {
    if (bytes != 0 && bytes % unit.factor == 0) {
      std::string text = fmt::format("{}{}", bytes / unit.factor, unit.name);
      if (text.size() < shortest.size()) {
        shortest = text;
      }
    }
  }
  return shortest;
}

}  // namespace tidegate
