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
    // A FIFO that nobody reads would be waited for.
    fd.Reset(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                    0640));
  }
  if (!fd) {
    return Fail(Error::System(errno, "open the log " + path));
  }
  if (path != "stderr" && path != "stdout") {
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
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
  bool other_level = prepared_.config.level != in_force_.config.level;
  in_force_ = std::exchange(prepared_, {});
  if (other_level) {
    SetLevelByHand(std::nullopt);
  }
  SetEventLog(error_fd());
}

void LogFiles::SetLevelByHand(std::optional<LevelByHand> level) {
  level_by_hand_ = level;
  SetEventLevel(level ? level->level : in_force_.config.level);
}

Result<> LogFiles::Reopen() {
  Result<> reopened;
  // What is in force does not wait for what is not yet.
  for (Open* each : {&prepared_, &in_force_}) {
    if (!each->error) {
      continue;
    }
    Result<Open> open = OpenAll(each->config);
    if (open) {
      *each = std::move(*open);
    } else {
      reopened = Fail(open.error());
    }
  }
  SetEventLog(error_fd());
  return reopened;
}

nlohmann::json LogFiles::Save(std::vector<int>& fds) const {
  for (const UniqueFd* fd : {&in_force_.error, &in_force_.access}) {
    if (*fd) {
      fds.push_back(fd->get());
    }
  }
  nlohmann::json state = {{"error", in_force_.error.get()}, {"access", in_force_.access.get()}};
  if (level_by_hand_) {
    state["level_by_hand"] = {{"level", static_cast<int>(level_by_hand_->level)},
                              {"until_ms", level_by_hand_->until}};
  }
  return state;
}

void LogFiles::Restore(const nlohmann::json& state, const LoggingConfig& config,
                       const std::function<bool(int fd)>& is_there) {
  in_force_.config = config;
  // Both are looked at before one is opened, which may get the number of the other.
  auto taken = [&](const char* name) {
    int fd = state.at(name).get<int>();
    return UniqueFd(is_there(fd) ? fd : -1);
  };
  in_force_.error = taken("error");
  in_force_.access = taken("access");
  auto open = [](UniqueFd& log, const std::string& path) {
    Result<UniqueFd> opened = log ? std::move(log) : OpenLog(path);
    if (opened) {
      log = std::move(*opened);
    } else {
      LogEvent(LogLevel::kError, opened.error().ToString());
    }
  };
  open(in_force_.error, config.error);
  if (!in_force_.error) {
    in_force_.error = OpenLog("stderr").value_or(UniqueFd());
  }
  SetEventLog(error_fd());
  if (config.access) {
    open(in_force_.access, config.access->path);
  }
  std::optional<LevelByHand> by_hand;
  if (state.contains("level_by_hand")) {
    const nlohmann::json& saved = state["level_by_hand"];
    by_hand = LevelByHand{.level = static_cast<LogLevel>(saved.at("level").get<int>()),
                          .until = saved.at("until_ms").get<TimePoint>()};
  }
  SetLevelByHand(by_hand);
}

}  // namespace tidegate
