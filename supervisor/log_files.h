#pragma once

// The log files: the supervisor opens them, workers get descriptors. Prepared and committed with
// the configuration.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/control_messages.h"
#include "common/log_level.h"
#include "common/result.h"
#include "common/timers.h"
#include "common/unique_fd.h"

namespace tidegate {

class LogFiles {
 public:
  // Opens what `config` names, whether it is open already or not. Error: kSystem with the path;
  // nothing has changed then.
  Result<> Prepare(const LoggingConfig& config);
  // What was prepared is in force; the event log goes there.
  void Commit();
  void Abandon() { prepared_ = {}; }
  // The same files by their names, after a rotation, also those that are prepared. Error: kSystem;
  // what could not be opened stays as it was.
  Result<> Reopen();

  // A level that somebody set by hand, of the error log: it goes before the configuration's until
  // `until` (of the loop; kNoEnd: for good), or until a configuration names another level.
  struct LevelByHand {
    static constexpr TimePoint kNoEnd = ~TimePoint{0};
    LogLevel level = LogLevel::kInfo;
    TimePoint until = kNoEnd;
  };
  void SetLevelByHand(std::optional<LevelByHand> level);
  const std::optional<LevelByHand>& level_by_hand() const { return level_by_hand_; }

  int error_fd() const { return in_force_.error.get(); }
  // -1: no access log.
  int access_fd() const { return in_force_.access.get(); }
  // Of what is prepared.
  int prepared_access_fd() const { return prepared_.access.get(); }

  nlohmann::json Save(std::vector<int>& fds) const;
  // A file that is not there any more, since an image after us has rotated it, is opened by its
  // name; what cannot be opened is told to our standard error, where records go then.
  void Restore(const nlohmann::json& state, const LoggingConfig& config,
               const std::function<bool(int fd)>& is_there);

 private:
  struct Open {
    LoggingConfig config;
    UniqueFd error;
    UniqueFd access;
  };
  static Result<Open> OpenAll(const LoggingConfig& config);

  std::optional<LevelByHand> level_by_hand_;
  Open in_force_;
  Open prepared_;
};

}  // namespace tidegate
