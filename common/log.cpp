#include "common/log.h"

#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "common/log_line.h"

namespace tidegate {
namespace {

struct ErrorLog {
  LogLevel level = LogLevel::kInfo;
  std::unique_ptr<LogSink> sink;
  // Of sinks that are closed.
  std::uint64_t dropped = 0;
};

// Not destroyed: what is logged at exit still finds it.
ErrorLog& TheErrorLog() {
  static ErrorLog& log = *new ErrorLog;
  return log;
}

}  // namespace

void SetErrorLog(Loop& loop, UniqueFd fd) {
  ErrorLog& log = TheErrorLog();
  if (log.sink != nullptr) {
    log.sink->Replace(std::move(fd));
  } else {
    log.sink = std::make_unique<LogSink>(loop, std::move(fd), "error log");
  }
}

void CloseErrorLog() {
  ErrorLog& log = TheErrorLog();
  if (log.sink != nullptr) {
    log.sink->FlushNow();
    log.dropped += log.sink->dropped();
    log.sink.reset();
  }
}

void SetErrorLogLevel(LogLevel level) {
  TheErrorLog().level = level;
}

LogLevel ErrorLogLevel() {
  return TheErrorLog().level;
}

std::uint64_t ErrorLogDropped() {
  const ErrorLog& log = TheErrorLog();
  return log.dropped + (log.sink == nullptr ? 0 : log.sink->dropped());
}

void WriteLog(LogLevel level, fmt::string_view format, fmt::format_args arguments) {
  std::string line = FormatLogLine(level, fmt::vformat(format, arguments));
  LogSink* sink = TheErrorLog().sink.get();
  if (sink == nullptr) {
    WriteToStderr(line);
    return;
  }
  sink->Append(line);
  if (level >= LogLevel::kWarn) {
    sink->Flush();
  }
}

}  // namespace tidegate
