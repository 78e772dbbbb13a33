#include "supervisor/event_log.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <ctime>

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

int log_fd = STDERR_FILENO;
LogLevel log_level = LogLevel::kInfo;

constexpr std::array<std::string_view, 4> kLevelNames = {"debug", "info", "warn", "error"};
// POLLOUT on a pipe promises room for this much (POSIX PIPE_BUF on Linux).
constexpr std::size_t kPipeRoom = 4096;
// Of a text of many lines, in a record.
constexpr std::size_t kMostLines = 3;

}  // namespace

void SetEventLog(int fd) {
  log_fd = fd;
}

void SetEventLevel(LogLevel level) {
  log_level = level;
}

void LogEvent(LogLevel level, std::string_view text) {
  if (level < log_level) {
    return;
  }
  while (!text.empty() && text.back() == '\n') {
    text.remove_suffix(1);
  }
  WriteWithoutBlocking(log_fd,
                       fmt::format("{} {} supervisor[{}]: {}\n", FormatTime(UnixTime()),
                                   kLevelNames[static_cast<std::size_t>(level)], ::getpid(), text));
}

std::string InOneLine(std::string_view text) {
  std::string line;
  std::size_t count = 0;
  while (!text.empty()) {
    const std::string_view next = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), next.size() + 1));
    if (!next.empty() && ++count <= kMostLines) {
      line += line.empty() ? "" : "; ";
      line += next;
    }
  }
  if (count > kMostLines) {
    line += fmt::format(" and {}", CountOf(count - kMostLines, "other"));
  }
  return line;
}

void WriteWithoutBlocking(int fd, std::string_view text) {
  while (!text.empty()) {
    pollfd entry{.fd = fd, .events = POLLOUT, .revents = 0};
    if (::poll(&entry, 1, 0) != 1 || (entry.revents & POLLOUT) == 0) {
      return;
    }
    ssize_t written = ::write(fd, text.data(), std::min(text.size(), kPipeRoom));
    if (written <= 0) {
      return;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::string FormatTime(double unix_seconds) {
  auto milliseconds = static_cast<std::int64_t>(std::floor(unix_seconds * 1000));
  std::time_t seconds = milliseconds / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     milliseconds % 1000);
}

double UnixTime() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace tidegate
