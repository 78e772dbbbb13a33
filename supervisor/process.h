#pragma once

// Programs and the processes that run them. A program is held as a descriptor: what was opened is
// what is executed, whatever happens to the path meanwhile.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <uv.h>

#include "common/loop.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace tidegate {

struct Program {
  std::string path;
  UniqueFd fd;

  Program Duplicate() const;
};

// Errors: kSystem; also EACCES for what is no executable file.
Result<Program> OpenProgram(const std::string& path);
// The very file that this process runs.
Result<Program> OpenOwnProgram();
// The worker that belongs to the supervisor at `path`: beside it, or in ../libexec/tidegate.
std::string WorkerPathFor(const std::string& supervisor_path);
// The same file with the same content, as far as size and times tell.
bool IsSameProgram(const Program& a, const Program& b);
// Whether process `pid` executes this very file. False if it is gone, or not ours to look at.
bool Executes(pid_t pid, const Program& program);

// By the name that it has given itself.
bool IsNamedWorker(std::string_view name);

// Of CLOCK_BOOTTIME, in the unit of /proc/PID/stat.
std::uint64_t TicksSinceBoot();
struct Child {
  pid_t pid = 0;
  std::string name;
  // When it was forked, as TicksSinceBoot.
  std::uint64_t started = 0;
};
// Those of this process that live, or have ended and nobody has waited for them, also if they were
// somebody else's before (PR_SET_CHILD_SUBREAPER). None if /proc does not tell.
std::vector<Child> ChildrenOfUs();

// Whom a worker runs as.
struct Identity {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
};
// Error: kConfig if there is no such user.
Result<Identity> LookUpUser(const std::string& name);

struct SpawnRequest {
  const Program* program = nullptr;
  std::vector<std::string> argv;
  // (ours, the child's number). The child has these, 0 (/dev/null), 1 and 2, and nothing else.
  std::vector<std::pair<int, int>> fds;
  // Becomes 1 and 2; -1: inherited.
  int output = -1;
  // Gives up all privileges for good before the program starts; null: stays who we are.
  const Identity* identity = nullptr;
};
// The child has no new privileges ever (PR_SET_NO_NEW_PRIVS), no ignored or blocked signals.
// Returns when the program has been started. Error: kSystem, what failed in the child included.
Result<pid_t> Spawn(const SpawnRequest& request);

// Replaces this process; returns only with an error. Scripts are executed by their path under
// /proc.
Error Execute(int program_fd, const std::vector<std::string>& argv,
              const std::vector<std::string>& environment);

// "exited with 3", "killed by signal 9 (Killed)", for a status of waitpid.
std::string DescribeExit(int status);

// Hears of the end of children.
class Children {
 public:
  using Ended = std::function<void(int status)>;

  explicit Children(Loop& loop);
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  ~Children();

  // `ended` is called once from the loop. A child must be watched in the turn in which it is
  // spawned. Replaces an earlier watch.
  void Watch(pid_t pid, Ended ended);
  // Called for each child that has ended, before its watch: what it has left is still to be known
  // as its own.
  void BeforeEach(std::function<void()> before) { before_each_ = std::move(before); }
  void Forget(pid_t pid) { watched_.erase(pid); }
  // Looks for children that ended while nobody listened: after execve.
  void Reap();

 private:
  uv_signal_t* signal_;
  std::map<pid_t, Ended> watched_;
  std::function<void()> before_each_;
};

// What a child writes to its stdout and stderr: passed on to our stderr, and the end of it kept for
// those who ask why it died.
class ChildOutput {
 public:
  // The child's end is `for_child`; it never blocks the child. Error: kSystem.
  static Result<std::pair<UniqueFd, UniqueFd>> MakePipe();

  // `echo`: to our stderr.
  ChildOutput(Loop& loop, UniqueFd fd, bool echo = true);
  ChildOutput(const ChildOutput&) = delete;
  ChildOutput& operator=(const ChildOutput&) = delete;
  ~ChildOutput();

  // The last lines, complete or not, at most 2 KiB. Reads what is there first.
  std::string Tail();
  int fd() const { return fd_.get(); }

 private:
  void Read();

  UniqueFd fd_;
  bool echo_;
  uv_poll_t* poll_;
  std::string tail_;
};

}  // namespace tidegate
