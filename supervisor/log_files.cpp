#include "supervisor/log_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "supervisor/event_log.h"

namespace tidegate {
namespace {

Result<UniqueFd> OpenLog(const std::string& path) {
  UniqueFd fd;
  if (path == "stderr" || path == "stdout") {
    fd.Reset(::fcntl(path == "stderr" ? STDERR_FILENO : STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  } else {
    fd.Reset(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640));
  }
  if (!fd) {
    return Fail(Error::System(errno, "open the log " + path));
  }
  return fd;
}

}  // namespace

Result<LogFiles::Open> LogFiles::OpenAll(const LoggingConfig& config) {
  Open open{.config = config, .error = {}, .access = {}};
  Result<UniqueFd> error = OpenLog(config.error);
  if (!error) {
    return Fail(error.error());
  }
  open.error = std::move(*error);
  if (config.access) {
    Result<UniqueFd> access = OpenLog(config.access->path);
    if (!access) {
      return Fail(access.error());
    }
    open.access = std::move(*access);
  }
  return open;
}

Result<> LogFiles::Prepare(const LoggingConfig& config) {
  Result<Open> open = OpenAll(config);
  if (!open) {
    return Fail(open.error());
  }
  prepared_ = std::move(*open);
  return {};
}

void LogFiles::Commit() {
  // A level that somebody set by hand stays until a configuration says another.
  if (prepared_.config.level != in_force_.config.level) {
    SetEventLevel(prepared_.config.level);
  }
  in_force_ = std::exchange(prepared_, {});
  SetEventLog(error_fd());
}

Result<> LogFiles::Reopen() {
  Result<Open> open = OpenAll(in_force_.config);
  if (!open) {
    return Fail(open.error());
  }
  in_force_ = std::move(*open);
  SetEventLog(error_fd());
  return {};
}

nlohmann::json LogFiles::Save(std::vector<int>& fds) const {
  for (const UniqueFd* fd : {&in_force_.error, &in_force_.access}) {
    if (*fd) {
      fds.push_back(fd->get());
    }
  }
  return {{"error", in_force_.error.get()}, {"access", in_force_.access.get()}};
}

void LogFiles::Restore(const nlohmann::json& state, const LoggingConfig& config) {
  in_force_.config = config;
  in_force_.error.Reset(state.at("error").get<int>());
  in_force_.access.Reset(state.at("access").get<int>());
  SetEventLog(error_fd());
  SetEventLevel(config.level);
}

}  // namespace tidegate
