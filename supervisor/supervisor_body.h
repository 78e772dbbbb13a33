#pragma once

// The supervisor at work: signals and commands come in, stories run, one operation at a time.
// supervisor.h is what others see.

#include <optional>
#include <string>
#include <vector>

#include "common/task.h"
#include "supervisor/file_watch.h"
#include "supervisor/holdings.h"
#include "supervisor/operation.h"
#include "supervisor/signals.h"
#include "supervisor/way_back.h"

namespace tidegate {

class Supervisor {
 public:
  Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Each runs until the end and returns the exit code. The process must exit then: stories may be
  // left unfinished.
  int Start(RunOptions options);
  // `state` was read and its descriptors are there.
  int Resume(const nlohmann::json& state, Entrance entrance);

 private:
  enum class State : std::uint8_t { kStarting, kServing, kReloading, kUpgrading, kStopping };
  using Command = void (Supervisor::*)(ClientId client, const nlohmann::json& args);

  void ListenToSignals();
  void OnSignal(int number);
  void OnCommand(ClientId client, const std::string& command, const nlohmann::json& args);
  int Run();

  // Stories.
  Task<void> StartStory();
  Task<void> ResumeStory(nlohmann::json state, Entrance entrance);
  Task<void> OperateStory();
  Task<void> StopStory();

  // One runs, one waits, later ones join the one that waits.
  void Enqueue(Operation operation);
  void Operate(Operation operation);
  void EndOperation(const Operation& operation, Outcome outcome);
  void StartTails();
  // As the configuration in force says; what has changed before is found, too. Again after every
  // operation.
  void WatchFiles();
  void OnFilesChanged();
  // After a reload of files has ended: where it may be another time, it is tried again.
  void JudgeFiles(const Outcome& outcome);
  // Later each time, until those in force are right.
  void LookAtFilesLater();
  void OnLookAtFiles();
  void Stop(bool now, ClientId client);
  void Exit(int exit_code);
  std::string StatusLine();

  // Commands, in supervisor_commands.cpp.
  void Reload(ClientId client, const nlohmann::json& args);
  void Upgrade(ClientId client, const nlohmann::json& args);
  void RollBack(ClientId client, const nlohmann::json& args);
  void StopCommand(ClientId client, const nlohmann::json& args);
  void Status(ClientId client, const nlohmann::json& args);
  void Connections(ClientId client, const nlohmann::json& args);
  // What one worker said to a question.
  struct Answer {
    std::uint64_t generation = 0;
    unsigned slot = 0;
    pid_t pid = 0;
    nlohmann::json data;
    // False: nothing within the limit.
    bool came = false;
  };
  using Answers = std::vector<Answer>;
  // Whether all are waited for, or one that answers speaks for the others.
  enum class Wanted : std::uint8_t { kAll, kAny };
  // `only`: of that generation; 0: of all.
  Task<Answers> AskWorkers(std::string what, std::uint64_t only, Wanted wanted = Wanted::kAll);
  // What stands in the certificates of the current generation, if there is one; nothing if no
  // worker says.
  Task<std::optional<nlohmann::json>> AskForCertificates();
  Task<void> TellStatus(ClientId client);
  static nlohmann::json UpstreamsOf(const Config& config, const Answers& answers);
  Task<void> ListConnections(ClientId client, std::uint64_t only, std::string state);
  void Certificates(ClientId client, const nlohmann::json& args);
  Task<void> ListCertificates(ClientId client);
  Task<void> KillConnection(ClientId client, std::string text);
  void Reopen(ClientId client, const nlohmann::json& args);
  void SetLogLevel(ClientId client, const nlohmann::json& args);
  void Ping(ClientId client, const nlohmann::json& args);
  Result<> ReopenLogs();
  // Every worker gets the logs that are open.
  void TellOfLogs();
  // Rotates the ticket keys when it is time, and looks again when it may be.
  void TendKeys();
  // Looks at resolv.conf and /etc/hosts, and again and again while there are names.
  void TendNameFiles();
  void ArmLogLevel();
  void OnLogLevelOver();
  nlohmann::json StatusData();

  Loop loop_;
  Holdings holdings_;
  TaskScope scope_;
  FileWatch file_watch_;
  // Of the last changed files, or faults in them, that were told of; 0: those in force are right.
  std::size_t told_files_ = 0;
  // Nothing was wrong with the files that were not taken: the same are tried again.
  bool try_files_again_ = false;
  Duration files_wait_{};
  Deadline look_at_files_due_;
  // When a level that was set for a while ends.
  Deadline log_level_due_;
  // When to look after the ticket keys.
  Deadline keys_due_;
  Deadline name_files_due_;
  State state_ = State::kStarting;
  // The operation that runs.
  std::optional<Operation> running_;
  std::vector<Operation::Client> stop_clients_;
  bool stop_now_ = false;
  int exit_code_ = 0;
  std::optional<Signals> signals_;
};

}  // namespace tidegate
