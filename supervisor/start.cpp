#include "supervisor/start.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "supervisor/event_log.h"
#include "supervisor/takeover.h"

namespace tidegate {
namespace {

constexpr int kFailed = 1;
constexpr int kOccupied = 6;
constexpr int kInvalid = 78;
constexpr Duration kCommitLimit = std::chrono::seconds(5);

// Before there is a log, people read stderr.
int Refuse(int exit_code, const std::string& text) {
  std::fputs(fmt::format("tidegate: {}\n", text).c_str(), stderr);
  return exit_code;
}

int OpenConfiguration(Holdings& holdings) {
  auto loaded = LoadConfiguration(holdings.options);
  if (!loaded) {
    std::fputs(FormatDiagnostics(loaded.error()).c_str(), stderr);
    return kInvalid;
  }
  std::fputs(FormatDiagnostics(loaded->warnings).c_str(), stderr);
  Result<std::optional<Identity>> identity = IdentityFor(loaded->config);
  if (!identity) {
    return Refuse(kInvalid, identity.error().ToString());
  }
  if (*identity && loaded->config.user.empty()) {
    LogEvent(LogLevel::kInfo,
             fmt::format("no user is configured: workers run as \"{}\"", (*identity)->name));
  }
  Result<ActiveConfigPtr> config = Activate(std::move(loaded->config));
  if (!config) {
    return Refuse(kFailed, config.error().ToString());
  }
  holdings.config = *config;
  return 0;
}

int OpenPrograms(Holdings& holdings) {
  Result<Program> own = OpenOwnProgram();
  if (!own) {
    return Refuse(kFailed, own.error().ToString());
  }
  Result<Program> worker = OpenProgram(WorkerPathFor(own->path));
  if (!worker) {
    return Refuse(kFailed, worker.error().ToString());
  }
  holdings.supervisor_program = std::move(*own);
  holdings.worker_program = std::move(*worker);
  return 0;
}

// Two that start at once would each take the socket of the other for a stale one. The folder is the
// lock, while we look and bind: nothing is left behind. Who cannot get it goes on after a while;
// the lock only closes a race.
UniqueFd LockFolder(const std::string& socket_path) {
  std::filesystem::path folder = std::filesystem::path(socket_path).parent_path();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int tries = 0; fd && tries < 300 && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0; ++tries) {
    ::poll(nullptr, 0, 10);
  }
  return fd;
}

int OpenControl(Holdings& holdings) {
  const std::string& path = holdings.options.socket_path;
  UniqueFd lock = LockFolder(path);
  Result<std::vector<Orphan>> orphans = TakeOver(path, holdings.server);
  if (!orphans) {
    bool occupied = orphans.error().kind() == ErrorKind::kProtocol;
    return Refuse(occupied ? kOccupied : kFailed, orphans.error().ToString());
  }
  Result<> adopted = AdoptOrphans(holdings, std::move(*orphans), holdings.config);
  Result<> counters = holdings.counters.Modernize();
  for (const Result<>& result : {adopted, counters}) {
    if (!result) {
      return Refuse(kFailed, result.error().ToString());
    }
  }
  holdings.surroundings.control_listener = holdings.server.listener_fd();
  return 0;
}

void WritePidfile(const std::string& path) {
  if (path.empty()) {
    return;
  }
  // Never half a number: written beside it, then renamed.
  std::string beside = path + ".new";
  std::ofstream(beside) << ::getpid() << '\n';
  std::error_code error;
  std::filesystem::rename(beside, path, error);
  if (error) {
    LogEvent(LogLevel::kWarn,
             fmt::format("cannot write the pidfile {}: {}", path, error.message()));
  }
}

}  // namespace

int OpenAll(Holdings& holdings) {
  holdings.listeners.SetGiven(TakeGivenSockets());
  for (auto step : {&OpenConfiguration, &OpenPrograms, &OpenControl}) {
    int exit_code = step(holdings);
    if (exit_code != 0) {
      return exit_code;
    }
  }
  const Config& config = holdings.config->config;
  Result<> opened = holdings.logs.Prepare(config.logging);
  if (opened) {
    opened = holdings.listeners.Prepare(config, WorkerCountOf(config));
  }
  if (!opened) {
    return Refuse(kFailed, opened.error().ToString());
  }
  // Workers get the error log when they are spawned, before anything is committed.
  holdings.logs.Commit();
  opened = holdings.logs.Prepare(config.logging);
  return opened ? 0 : Refuse(kFailed, opened.error().ToString());
}

Task<int> StartServing(Holdings& holdings) {
  const Config& config = holdings.config->config;
  std::vector<Generation*> adopted;
  for (const auto& generation : holdings.generations) {
    adopted.push_back(generation.get());
  }
  Result<std::optional<Identity>> identity = IdentityFor(config);
  holdings.generations.push_back(std::make_unique<Generation>(
      holdings.surroundings,
      Generation::Parts{.number = holdings.next_generation++,
                        .config = holdings.config,
                        .worker_program = holdings.worker_program.Duplicate(),
                        .version = holdings.version,
                        .workers = WorkerCountOf(config),
                        .identity = identity ? *identity : std::nullopt}));
  Generation& generation = *holdings.generations.back();
  bool ready = generation.Spawn();
  if (ready) {
    auto prepared = co_await generation.Prepare(holdings.config, config.upgrade.ready_timeout);
    ready = prepared;
  }
  if (!ready) {
    const GenerationFailure& failure = generation.failure();
    if (!failure.diagnostics.empty()) {
      std::fputs(failure.diagnostics.c_str(), stderr);
    }
    co_return Refuse(kFailed, failure.reason);
  }
  if (holdings.stopping) {
    co_return kFailed;
  }
  Result<> listening = holdings.listeners.Listen();
  if (!listening) {
    co_return Refuse(kFailed, listening.error().ToString());
  }
  std::vector<std::uint64_t> dropped = holdings.listeners.Commit();
  holdings.logs.Commit();
  auto committed = co_await generation.Commit(kCommitLimit);
  if (!committed) {
    LogEvent(LogLevel::kWarn, generation.failure().reason);
  }
  for (Generation* old : adopted) {
    old->StopAccepting();
  }
  for (Generation* old : adopted) {
    co_await old->DropListeners(dropped);
    old->Drain(config.upgrade.drain, config.upgrade.drain_tunnels);
    auto tail = std::make_shared<Tail>();
    tail->generation = old->number();
    tail->began = UnixTime();
    holdings.tails.push_back(tail);
  }
  holdings.listeners.Close(dropped);
  for (const ListenerInForce& listener : holdings.listeners.in_force()) {
    const ListenerSockets* sockets = holdings.listeners.Find(listener.id);
    LogEvent(LogLevel::kInfo, fmt::format("listening on {}", sockets->bound));
  }
  LogEvent(LogLevel::kInfo,
           fmt::format("tidegate {} serves: generation {}, {} workers", holdings.version,
                       generation.number(), generation.workers()));
  WritePidfile(holdings.options.pidfile);
  co_return 0;
}

}  // namespace tidegate
