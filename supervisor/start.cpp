#include "supervisor/start.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include <fmt/format.h>

#include "common/text.h"
#include "supervisor/event_log.h"
#include "supervisor/takeover.h"

namespace tidegate {
namespace {

constexpr int kFailed = 1;
constexpr int kOccupied = 6;
constexpr int kInvalid = 78;
constexpr Duration kCommitLimit = std::chrono::seconds(5);
constexpr int kBindTries = 20;
constexpr int kBindPauseMilliseconds = 50;

// Before there is a log, people read stderr.
int Refuse(int exit_code, const std::string& text) {
  std::fputs(fmt::format("tidegate: {}\n", text).c_str(), stderr);
  return exit_code;
}

// --- which configuration

// What was in force before a crash takes the place of the one that cannot be used, once; `why` is
// for the log and `status`. False: there is none, it cannot be used either, or it is the same.
bool FallBack(Holdings& holdings, std::string why) {
  const auto& stored = holdings.store.stored_config();
  if (!stored || !holdings.config_fault.empty()) {
    return false;
  }
  Result<ActiveConfigPtr> config = ActivateText(
      stored->effective, stored->loaded > 0 ? std::optional(stored->loaded) : std::nullopt);
  Result<> usable;
  if (!config) {
    usable = Fail(config.error());
  } else if (auto identity = IdentityFor((*config)->config); !identity) {
    usable = Fail(identity.error());
  }
  if (!usable) {
    std::fputs(fmt::format("tidegate: what was in force before cannot be used either: {}\n",
                           usable.error().ToString())
                   .c_str(),
               stderr);
    return false;
  }
  if (holdings.config != nullptr && holdings.config->config == (*config)->config) {
    return false;
  }
  holdings.config = *config;
  holdings.config_fault = std::move(why);
  return true;
}

std::string FirstFault(const std::vector<Diagnostic>& diagnostics) {
  auto first = std::ranges::find(diagnostics, Severity::kError, &Diagnostic::severity);
  std::string text = first == diagnostics.end() ? std::string() : FormatDiagnostics({*first});
  text.resize(std::min(text.find('\n'), text.size()));
  return text;
}

int OpenConfiguration(Holdings& holdings) {
  auto loaded = LoadConfiguration(holdings.options);
  if (!loaded) {
    std::fputs(FormatDiagnostics(loaded.error()).c_str(), stderr);
    return FallBack(holdings, FirstFault(loaded.error())) ? 0 : kInvalid;
  }
  std::fputs(FormatDiagnostics(loaded->warnings).c_str(), stderr);
  Result<std::optional<Identity>> identity = IdentityFor(loaded->config);
  if (!identity) {
    auto origin = loaded->origins.find("user");
    std::string place = origin == loaded->origins.end() ? "" : origin->second + ": ";
    std::string fault = place + identity.error().ToString();
    int refused = Refuse(kInvalid, fault);
    return FallBack(holdings, std::move(fault)) ? 0 : refused;
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

// --- what it needs

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
  holdings.store.Bring();
  Result<> counters = holdings.counters.Modernize();
  for (const Result<>& result : {adopted, counters}) {
    if (!result) {
      return Refuse(kFailed, result.error().ToString());
    }
  }
  holdings.surroundings.control_listener = holdings.server.listener_fd();
  return 0;
}

Error PidfileError(const std::string& path, std::string_view why) {
  return Error(ErrorKind::kConfig, fmt::format("cannot write the pidfile {}: {}", path, why));
}

// Never half a number: written beside `path`, to be renamed. The name of that file.
Result<std::string> WriteBesidePidfile(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return Fail(PidfileError(path, "it is there and is no file"));
  }
  std::string beside = fmt::format("{}.{}", path, ::getpid());
  std::string number = fmt::format("{}\n", ::getpid());
  UniqueFd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) {
    return Fail(PidfileError(path, std::strerror(errno)));
  }
  errno = ENOSPC;  // Of a write that does less.
  if (::write(fd.get(), number.data(), number.size()) != static_cast<ssize_t>(number.size())) {
    Error error = PidfileError(path, std::strerror(errno));
    ::unlink(beside.c_str());
    return Fail(error);
  }
  return beside;
}

// It gets its number when we serve; who counts on it hears now that it never would.
int TryPidfile(Holdings& holdings) {
  if (holdings.options.pidfile.empty()) {
    return 0;
  }
  Result<std::string> beside = WriteBesidePidfile(holdings.options.pidfile);
  if (!beside) {
    return Refuse(kFailed, beside.error().ToString());
  }
  ::unlink(beside->c_str());
  return 0;
}

void WritePidfile(const std::string& path) {
  if (path.empty()) {
    return;
  }
  Result<std::string> beside = WriteBesidePidfile(path);
  if (beside && ::rename(beside->c_str(), path.c_str()) != 0) {
    Error error = PidfileError(path, std::strerror(errno));
    ::unlink(beside->c_str());
    beside = Fail(error);
  }
  if (!beside) {
    LogEvent(LogLevel::kWarn, beside.error().ToString());
  }
}

// What systemd has kept and the configuration does not want must not keep it from what it wants.
// The rest stays until we serve. With orphans it does, too: they accept there.
void MakeWay(Holdings& holdings) {
  std::vector<std::uint64_t> ids = holdings.listeners.InTheWay(holdings.config->config);
  if (ids.empty() || !holdings.generations.empty()) {
    return;
  }
  for (std::uint64_t id : ids) {
    LogEvent(LogLevel::kInfo, fmt::format("{} is bound anew: the configuration wants it otherwise",
                                          holdings.listeners.Find(id)->bound));
  }
  holdings.store.Release(ids);
}

Result<> Bind(Holdings& holdings) {
  MakeWay(holdings);
  const Config& config = holdings.config->config;
  Result<> bound = holdings.listeners.Prepare(config, WorkerCountOf(config));
  for (int tries = 0; tries < kBindTries && !bound && holdings.store.has_taken_back() &&
                      bound.error().system_errno() == EADDRINUSE;
       ++tries) {
    ::poll(nullptr, 0, kBindPauseMilliseconds);
    bound = holdings.listeners.Prepare(config, WorkerCountOf(config));
  }
  return bound;
}

// Listeners and logs of the configuration. Error: kSystem, kConfig; nothing is left then.
Result<> OpenItsFiles(Holdings& holdings) {
  const Config& config = holdings.config->config;
  Result<> opened = holdings.logs.Prepare(config.logging);
  if (opened) {
    opened = Bind(holdings);
  }
  if (opened) {
    // Workers get the error log when they are spawned, before anything is committed.
    holdings.logs.Commit();
    opened = holdings.logs.Prepare(config.logging);
  }
  if (!opened) {
    holdings.listeners.Abandon();
    return opened;
  }
  if (!holdings.config_fault.empty()) {
    LogEvent(LogLevel::kWarn, UnusableFileText(holdings.config_fault));
  }
  return {};
}

// The generation of the configuration, ready, and its listeners listen. Null: `failure` says why
// not, and nothing of it is left; or we have been told to stop, and the stop ends what is there.
Task<Generation*> MakeReady(Holdings& holdings, GenerationFailure& failure) {
  const ActiveConfigPtr config = holdings.config;
  const Duration limit = config->config.upgrade.ready_timeout;
  Result<std::optional<Identity>> identity = IdentityFor(config->config);
  holdings.generations.push_back(std::make_unique<Generation>(
      holdings.surroundings,
      Generation::Parts{.number = holdings.next_generation++,
                        .config = config,
                        .worker_program = holdings.worker_program.Duplicate(),
                        .version = holdings.version,
                        .workers = WorkerCountOf(config->config),
                        .identity = identity ? *identity : std::nullopt}));
  Generation& generation = *holdings.generations.back();
  holdings.notify.MayTake(limit);
  bool ready = generation.Spawn();
  if (ready) {
    auto prepared = co_await generation.Prepare(config, limit);
    ready = prepared;
  }
  failure = generation.failure();
  if (holdings.stopping) {
    co_return nullptr;
  }
  if (ready) {
    Result<> listening = holdings.listeners.Listen();
    if (listening) {
      co_return &generation;
    }
    failure.reason = listening.error().ToString();
  }
  generation.Kill("the start has failed");
  co_await generation.WaitExited(kCommitLimit);
  holdings.RemoveGeneration(generation.number());
  --holdings.next_generation;
  holdings.listeners.Abandon();
  co_return nullptr;
}

// The first line of what workers say, and why it counts.
std::string InShort(const GenerationFailure& failure) {
  return failure.diagnostics.empty()
             ? failure.reason
             : failure.reason + ": " +
                   InOneLine(failure.diagnostics.substr(0, failure.diagnostics.find('\n')));
}

int RefuseFor(const GenerationFailure& failure) {
  if (!failure.diagnostics.empty()) {
    std::fputs(failure.diagnostics.c_str(), stderr);
  }
  return Refuse(kFailed, failure.reason);
}

}  // namespace

std::string UnusableFileText(const std::string& fault) {
  return fmt::format(
      "the configuration file cannot be used ({}): what was in force before the crash serves",
      fault);
}

int OpenAll(Holdings& holdings) {
  std::vector<GivenSocket> given = TakeGivenSockets();
  holdings.store.Take(given);
  holdings.listeners.SetGiven(std::move(given));
  for (auto step : {&OpenConfiguration, &OpenPrograms, &TryPidfile, &OpenControl}) {
    int exit_code = step(holdings);
    if (exit_code != 0) {
      return exit_code;
    }
  }
  Result<> opened = OpenItsFiles(holdings);
  if (!opened && FallBack(holdings, opened.error().ToString())) {
    Refuse(kFailed, opened.error().ToString());
    opened = OpenItsFiles(holdings);
  }
  return opened ? 0 : Refuse(kFailed, opened.error().ToString());
}

Task<int> StartServing(Holdings& holdings) {
  std::vector<Generation*> adopted;
  for (const auto& generation : holdings.generations) {
    adopted.push_back(generation.get());
  }
  GenerationFailure failure;
  auto ready = co_await MakeReady(holdings, failure);
  if (ready == nullptr && !holdings.stopping && FallBack(holdings, InShort(failure))) {
    RefuseFor(failure);
    Result<> opened = OpenItsFiles(holdings);
    if (!opened) {
      co_return Refuse(kFailed, opened.error().ToString());
    }
    auto other = co_await MakeReady(holdings, failure);
    ready = other;
  }
  if (holdings.stopping) {
    co_return kFailed;
  }
  if (ready == nullptr) {
    co_return RefuseFor(failure);
  }
  Generation& generation = *ready;
  const Config& config = holdings.config->config;
  std::vector<std::uint64_t> dropped = holdings.listeners.Commit();
  holdings.store.Follow(dropped);
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
    bool hands_over = config.upgrade.hand_over && !holdings.stopping;
    if (hands_over) {
      old->HandOver(generation);
    }
    old->Drain(config.upgrade.drain, config.upgrade.drain_tunnels);
    auto tail = std::make_shared<Tail>();
    tail->generation = old->number();
    tail->began = UnixTime();
    tail->hands_over = hands_over;
    holdings.tails.push_back(tail);
  }
  co_await holdings.CloseListeners(dropped);
  for (const ListenerInForce& listener : holdings.listeners.in_force()) {
    const ListenerSockets* sockets = holdings.listeners.Find(listener.id);
    LogEvent(LogLevel::kInfo, fmt::format("listening on {}", sockets->bound));
  }
  LogEvent(LogLevel::kInfo,
           fmt::format("tidegate {} serves: generation {}, {}", holdings.version,
                       generation.number(), CountOf(generation.workers(), "worker")));
  WritePidfile(holdings.options.pidfile);
  co_return 0;
}

}  // namespace tidegate
