#pragma once

// What somebody asked for that changes the running system, who waits for it, and how they hear of
// it.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/control_messages.h"
#include "common/units.h"
#include "supervisor/control_server.h"

namespace tidegate {

// In the order in which one request may stand for another: an upgrade reads the configuration as a
// reload does.
enum class OperationKind : std::uint8_t { kReload, kUpgrade, kRollback };

// Of an upgrade, when a client wants its answer: when the new generation serves, when it is stable,
// or when the old one has drained.
enum class AnswerAt : std::uint8_t { kCommit, kStable, kDrained };

struct Operation {
  struct Client {
    ClientId id = 0;
    AnswerAt answer_at = AnswerAt::kDrained;
  };

  OperationKind kind = OperationKind::kReload;
  bool force = false;
  // A reload of the configuration in force with what stands in its certificate files now. Nobody
  // asked, so a configuration file that is just being edited is not put in force by it.
  bool files_only = false;
  // Of the new supervisor; empty: the daemon's own path.
  std::string binary;
  // Over the configuration's.
  std::optional<Duration> drain;
  // Nobody, after a signal.
  std::vector<Client> clients;
  // A reload that had to become an upgrade.
  bool became_upgrade = false;
  // `kind` is an upgrade until it begins, and a reload if no program has changed by then. A version
  // that does not know it does the upgrade.
  bool automatic = false;
};

// Makes of `waiting` one that gives to everybody at least what they want: to who waited, and to who
// wants `added`. False: no operation does, and `waiting` is as it was.
[[nodiscard]] bool Join(Operation& waiting, const Operation& added);

// How it ended: what ControlServer::Finish says to every client.
struct Outcome {
  int exit_code = 0;
  std::string message;
  nlohmann::json data = nlohmann::json::object();
  nlohmann::json more = nlohmann::json::object();
};

// It has found a configuration file that can be used, also if there was nothing to do.
bool HasReadTheFile(const Operation& operation, const Outcome& outcome);
// A reload that somebody asked for has put something in force, or was forced to.
bool HasReloaded(const Operation& operation, const Outcome& outcome);

// What a command's arguments, or the state of another image, say of it.
AnswerAt AnswerAtOf(const nlohmann::json& wishes);

// An automatic operation says in its answer what it was in the end, also if it failed.
void TellWhatItBecame(const Operation& operation, Outcome& outcome);
// What `status` tells of it until another one has ended. Nothing of what nobody asked for.
nlohmann::json RecordOf(const Operation& operation, const Outcome& outcome, double now);

// Tells the clients of an operation, and the log, how it goes. A phase begins, may report, ends;
// its seconds are counted.
class Narrator {
 public:
  Narrator(Loop& loop, ControlServer& server, const std::vector<Operation::Client>& clients)
      : loop_(loop), server_(server), clients_(clients) {}

  void Begin(std::string_view phase, int step, std::string_view text = {});
  // `more` adds fields.
  void Running(std::string_view text, const nlohmann::json& more = nlohmann::json::object());
  void Ok(std::string_view text);
  void Failed(std::string_view text);
  void Warn(std::string_view text);
  // What happened in another image: no phase is under way.
  void Tell(std::string_view phase, int step, std::string_view state, std::string_view text,
            double seconds);
  const std::string& phase() const { return phase_; }
  int step() const { return step_; }

 private:
  void Send(std::string_view state, std::string_view text, const nlohmann::json& more);

  Loop& loop_;
  ControlServer& server_;
  const std::vector<Operation::Client>& clients_;
  std::string phase_;
  int step_ = 0;
  TimePoint began_ = 0;
};

void FinishAll(ControlServer& server, const std::vector<Operation::Client>& clients,
               const Outcome& outcome);

}  // namespace tidegate
