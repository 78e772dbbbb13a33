#include "supervisor/preflight.h"

#include <sys/wait.h>

#include <csignal>
#include <cstdio>

#include <fmt/format.h>

#include "common/test_fault.h"
#include "supervisor/state.h"

namespace tidegate {
namespace {

constexpr std::string_view kAnswer = "tidegate can adopt the state, version ";

}  // namespace

Task<ProbeEnd> RunProbe(Loop& loop, Children& children, SpawnRequest request, int fd,
                        Duration timeout) {
  ProbeEnd end;
  Result<std::pair<UniqueFd, UniqueFd>> pipe = ChildOutput::MakePipe();
  if (!pipe) {
    end.reason = pipe.error().ToString();
    co_return end;
  }
  request.fds = {{fd, 3}};
  request.output = pipe->second.get();
  Result<pid_t> pid = Spawn(request);
  if (!pid) {
    end.reason = pid.error().ToString();
    co_return end;
  }
  pipe->second.Reset();
  ChildOutput output(loop, std::move(pipe->first), false);
  std::optional<int> status;
  Event changed;
  children.Watch(*pid, [&](int child_status) {
    status = child_status;
    changed.Set();
  });
  Deadline limit(loop.timers(), Bind<&Event::Set>(&changed));
  limit.Arm(timeout);
  co_await changed.Wait();
  bool timed_out = !status;
  if (timed_out) {
    ::kill(*pid, SIGKILL);
    changed.Reset();
    co_await changed.Wait();
  }
  end.output = output.Tail();
  end.exit_code = WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
  end.ok = end.exit_code == 0;
  end.reason = timed_out ? fmt::format("{} did not answer within {}", request.program->path,
                                       FormatDuration(timeout))
                         : fmt::format("{} {}", request.program->path, DescribeExit(*status));
  co_return end;
}

int PreflightState(int fd) {
  Fault fault = FaultAt("supervisor", "preflight");
  if (fault == Fault::kGarbage) {
    std::puts("garbage");
    return 0;
  }
  if (fault == Fault::kFail) {
    std::fputs("a test asked for this fault\n", stderr);
    return 1;
  }
  Result<nlohmann::json> state = ReadState(fd);
  if (!state) {
    std::fprintf(stderr, "%s\n", state.error().ToString().c_str());
    return 1;
  }
  std::printf("%s%s\n", std::string(kAnswer).c_str(), TIDEGATE_VERSION);
  return 0;
}

std::string VersionFromPreflight(const std::string& output) {
  std::size_t found = output.find(kAnswer);
  if (found == std::string::npos) {
    return {};
  }
  std::string version = output.substr(found + kAnswer.size());
  return version.substr(0, version.find('\n'));
}

}  // namespace tidegate
