#include "supervisor/output.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

#include "common/check.h"
#include "common/text.h"

namespace tidegate {
namespace {

constexpr unsigned kDefaultWidth = 80;
constexpr unsigned kDefaultHeight = 24;

// SGR sequences (ECMA-48 8.3.117), in the order of Tint.
constexpr std::array<std::string_view, 7> kSequences = {
    "", "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[2m", "\x1b[1m"};
constexpr std::string_view kPlain = "\x1b[0m";

bool CanRedraw(int fd) {
  const char* term = std::getenv("TERM");
  return ::isatty(fd) == 1 && (term == nullptr || std::string_view(term) != "dumb");
}

bool WantsColor(ColorMode mode, bool is_terminal) {
  if (mode != ColorMode::kAuto) {
    return mode == ColorMode::kAlways;
  }
  // no-color.org: set and not empty.
  const char* refused = std::getenv("NO_COLOR");
  return is_terminal && (refused == nullptr || *refused == '\0');
}

}  // namespace

Output::Output(int fd, ColorMode color)
    : fd_(fd), is_terminal_(CanRedraw(fd)), colored_(WantsColor(color, is_terminal_)) {}

void Output::Write(std::string_view text) {
  while (!text.empty() && !closed_) {
    ssize_t written = ::write(fd_, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
      continue;
    }
    if (errno == EAGAIN) {
      // Somebody who shares the pipe made it non-blocking.
      pollfd writable{.fd = fd_, .events = POLLOUT, .revents = 0};
      ::poll(&writable, 1, -1);
      continue;
    }
    if (errno != EINTR) {
      closed_ = true;
      fault_ = errno == EPIPE ? 0 : errno;
    }
  }
}

unsigned Output::width() const {
  winsize size{};
  if (::ioctl(fd_, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    return kDefaultWidth;
  }
  return size.ws_col;
}

unsigned Output::height() const {
  winsize size{};
  if (::ioctl(fd_, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) {
    return kDefaultHeight;
  }
  return size.ws_row;
}

std::string Output::Paint(Tint tint, std::string_view text) const {
  if (!colored_ || tint == Tint::kNone || text.empty()) {
    return std::string(text);
  }
  return fmt::format("{}{}{}", kSequences[static_cast<std::size_t>(tint)], text, kPlain);
}

std::string Output::PaintDiagnostics(std::string_view text) const {
  struct Word {
    std::string_view word;
    Tint tint;
  };
  // The first word that a line holds is its own; what follows is quoted.
  constexpr std::array kWords = {Word{" error:", Tint::kBad}, Word{" warning:", Tint::kWarning},
                                 Word{" ^~", Tint::kGood}, Word{" ^", Tint::kGood}};
  std::string painted;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const Word* first = nullptr;
    std::size_t at = std::string_view::npos;
    for (const Word& row : kWords) {
      if (line.find(row.word) < at) {
        at = line.find(row.word);
        first = &row;
      }
    }
    bool is_source = line.starts_with(' ') && first != nullptr && first->tint != Tint::kGood;
    if (first == nullptr || is_source) {
      painted += line;
    } else {
      std::size_t end = std::min(line.find(' ', at + 1), line.size());
      painted += line.substr(0, at);
      painted += Paint(first->tint, line.substr(at, end - at));
      painted += line.substr(end);
    }
    painted += '\n';
  }
  return painted;
}

void Outputs::Complain(std::string_view message) {
  diagnostics.Write(fmt::format("{} {}\n", diagnostics.Paint(Tint::kBad, "tidegate:"), message));
}

std::string Fit(std::string_view text, std::size_t columns) {
  if (Utf8Length(text) <= columns) {
    return std::string(text);
  }
  constexpr std::string_view kMark = "...";
  std::size_t kept = columns > kMark.size() ? columns - kMark.size() : 0;
  std::size_t offset = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    offset += std::max<std::size_t>(1, Utf8SequenceLength(text, offset));
  }
  return std::string(text.substr(0, offset)) + std::string(kMark.substr(0, columns - kept));
}

std::string Pad(std::string_view text, std::size_t columns) {
  std::size_t length = Utf8Length(text);
  std::string padded(text);
  padded.append(length < columns ? columns - length : 0, ' ');
  return padded;
}

std::string Printable(std::string_view text) {
  std::string shown(text);
  std::ranges::replace_if(
      shown,
      [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; }, '?');
  return shown;
}

std::string FormatSeconds(double seconds) {
  if (!(seconds >= 0)) {
    seconds = 0;
  }
  if (seconds < 9.995) {
    return fmt::format("{:.2f}s", seconds);
  }
  if (seconds < 59.95) {
    return fmt::format("{:.1f}s", seconds);
  }
  auto whole = static_cast<std::uint64_t>(std::llround(std::min(seconds, 1e15)));
  if (whole < 3600) {
    return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  }
  if (whole < 86400) {
    return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
  }
  return fmt::format("{}d{}h", whole / 86400, whole / 3600 % 24);
}

std::string FormatOctets(std::uint64_t octets) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (octets < 1024) {
    return fmt::format("{}", octets);
  }
  auto value = static_cast<double>(octets);
  std::size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string Table::Format(const Output& output) const {
  std::vector<std::size_t> widths(head_.size(), 0);
  std::size_t last = 0;
  for (const std::vector<Cell>& row : rows_) {
    TG_CHECK(row.size() == head_.size());
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], Utf8Length(row[i].text));
    }
  }
  for (std::size_t i = 0; i < head_.size(); ++i) {
    if (widths[i] > 0) {
      widths[i] = std::max(widths[i], Utf8Length(head_[i]));
      last = i;
    }
  }

  std::string text;
  auto append_cell = [&](std::size_t i, std::string_view words, Tint tint) {
    if (widths[i] == 0) {
      return;
    }
    // Padding comes after the colour, so that the columns do not depend on it.
    text += output.Paint(tint, words);
    if (i == last) {
      text.erase(text.find_last_not_of(' ') + 1);
      text += '\n';
    } else {
      text.append(widths[i] - Utf8Length(words) + 2, ' ');
    }
  };
  for (std::size_t i = 0; i < head_.size(); ++i) {
    append_cell(i, head_[i], Tint::kFaint);
  }
  for (const std::vector<Cell>& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      append_cell(i, row[i].text, row[i].tint);
    }
  }
  return text;
}

}  // namespace tidegate
