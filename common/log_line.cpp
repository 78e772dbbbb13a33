#include "common/log_line.h"

#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <iterator>

#include <fmt/format.h>

namespace tidegate {
namespace {

std::string_view NameOfProgram() {
  return std::string_view(program_invocation_short_name).ends_with("worker") ? "worker"
                                                                             : "supervisor";
}

std::string_view& LogName() {
  static std::string_view name = NameOfProgram();
  return name;
}

bool IsControl(char c) {
  auto octet = static_cast<unsigned char>(c);
  return octet < 0x20 || octet == 0x7f;
}

void AppendOnOneLine(std::string_view text, std::string& out) {
  for (char c : text) {
    if (IsControl(c)) [[unlikely]] {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
}

}  // namespace

void SetLogName(std::string_view name) {
  LogName() = name;
}

std::string FormatTimestamp(std::chrono::milliseconds since_epoch) {
  std::time_t seconds = since_epoch.count() / 1000;
  std::tm calendar{};
  gmtime_r(&seconds, &calendar);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", calendar.tm_year + 1900,
                     calendar.tm_mon + 1, calendar.tm_mday, calendar.tm_hour, calendar.tm_min,
                     calendar.tm_sec, since_epoch.count() % 1000);
}

std::string FormatLogLine(LogLevel level, std::string_view text) {
  auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  std::string line =
      fmt::format("{} {} {}[{}]: ", FormatTimestamp(now), NameOf(level), LogName(), ::getpid());
  AppendOnOneLine(text, line);
  line += '\n';
  return line;
}

void WriteToStderr(std::string_view line) {
  while (!line.empty()) {
    ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return;
    }
    line.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace tidegate
