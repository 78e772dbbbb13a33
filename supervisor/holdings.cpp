#include "supervisor/holdings.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "common/config_files.h"
#include "common/control.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

constexpr Duration kFlushLimit = std::chrono::milliseconds(500);
constexpr Duration kFlushPause = std::chrono::milliseconds(5);

}  // namespace

Holdings::Holdings(Loop& the_loop, ControlServer::OnCommand on_command)
    : loop(the_loop),
      started(UnixTime()),
      children(the_loop),
      keys(KeyRing::Now()),
      notify(the_loop),
      store(the_loop, notify, {listeners, counters, keys, next_generation, config}),
      server(the_loop, std::move(on_command), [this](pid_t pid) { return IsWorker(pid); }),
      stragglers(the_loop),
      surroundings{.loop = the_loop,
                   .children = children,
                   .counters = counters,
                   .listeners = listeners,
                   .logs = logs,
                   .addresses = addresses,
                   .keys = keys,
                   .name_files = name_files,
                   .on_replaced = [this](std::uint64_t number, unsigned slot) {
                     OnReplaced(number, slot);
                   }} {
  // It connects no more, and is still known as a worker.
  children.BeforeEach([this] { server.AcceptWaiting(); });
}

bool Holdings::IsWorker(pid_t pid) {
  bool found = former_workers.contains(pid) || Executes(pid, worker_program) ||
               (previous && Executes(pid, previous->worker_program));
  for (const auto& generation : generations) {
    found = found || Executes(pid, generation->worker_program());
    generation->ForEachWorker(
        [&](const WorkerProcess& worker) { found = found || worker.pid() == pid; });
  }
  return found;
}

// Older generations may have given their connections to the one that was lost.
void Holdings::OnReplaced(std::uint64_t number, unsigned slot) {
  Generation* to = FindGeneration(number);
  for (const auto& generation : generations) {
    if (to != nullptr && generation.get() != to) {
      generation->HandOverAgain(*to, slot);
    }
  }
}

Generation* Holdings::current() {
  for (auto generation = generations.rbegin(); generation != generations.rend(); ++generation) {
    if ((*generation)->state() == GenerationState::kServing) {
      return generation->get();
    }
  }
  return nullptr;
}

Generation* Holdings::FindGeneration(std::uint64_t number) {
  auto found = std::find_if(generations.begin(), generations.end(),
                            [&](const auto& generation) { return generation->number() == number; });
  return found == generations.end() ? nullptr : found->get();
}

void Holdings::RemoveGeneration(std::uint64_t number) {
  std::erase_if(generations,
                [&](const auto& generation) { return generation->number() == number; });
  addresses.KeepOnly(UpstreamNames());
}

NameSet Holdings::UpstreamNames() const {
  NameSet names;
  for (const auto& generation : generations) {
    generation->AddNames(names);
  }
  if (config) {
    AddUpstreamNames(config->config, names);
  }
  if (previous) {
    AddUpstreamNames(previous->config->config, names);
  }
  return names;
}

std::string Holdings::StillServing() {
  Generation* generation = current();
  return generation == nullptr ? std::string()
                               : fmt::format("Still serving {} (generation {}).",
                                             generation->version(), generation->number());
}

void Holdings::SendKeys() {
  for (const auto& generation : generations) {
    generation->ForEachWorker([](WorkerProcess& worker) { worker.SendKeys(); });
  }
}

Task<void> Holdings::CloseListeners(std::vector<std::uint64_t> ids) {
  TimePoint until = loop.now() + static_cast<TimePoint>(kFlushLimit.count());
  while (!ids.empty() && !store.is_flushed() && loop.now() < until) {
    co_await Sleep(loop.timers(), kFlushPause);
  }
  listeners.Close(ids);
}

void Holdings::LookAtNameFiles() {
  name_files.Look();
  for (const auto& generation : generations) {
    generation->ForEachWorker([](WorkerProcess& worker) { worker.SendNameFiles(); });
  }
}

std::expected<LoadedConfig, std::vector<Diagnostic>> LoadConfiguration(const RunOptions& options) {
  auto loaded = options.config_text ? LoadConfigText(options.config_path, *options.config_text,
                                                     ProcessEnvironment())
                                    : LoadConfig(options.config_path, ProcessEnvironment());
  if (loaded && options.workers) {
    loaded->config.workers = options.workers;
    loaded->effective = EffectiveJson(loaded->config);
  }
  return loaded;
}

std::expected<LoadedConfig, std::vector<Diagnostic>> LoadFilesAgain(const Config& config) {
  Result<Config> fresh = RereadNamedFiles(config);
  if (!fresh) {
    return std::unexpected(
        std::vector{Diagnostic{.path = "certificates", .message = fresh.error().detail()}});
  }
  LoadedConfig loaded;
  loaded.config = std::move(*fresh);
  loaded.effective = EffectiveJson(loaded.config);
  return loaded;
}

namespace {

Result<ActiveConfigPtr> ActivateAs(Config config, std::string effective, double loaded) {
  auto active = std::make_shared<ActiveConfig>();
  active->effective = std::move(effective);
  active->config = std::move(config);
  active->loaded = loaded;
  Result<UniqueFd> memfd = MakeMemfd("tidegate-config", active->effective);
  if (!memfd) {
    return Fail(memfd.error());
  }
  active->memfd = std::move(*memfd);
  return active;
}

}  // namespace

Result<ActiveConfigPtr> Activate(Config config) {
  std::string effective = EffectiveJson(config);
  return ActivateAs(std::move(config), std::move(effective), UnixTime());
}

Result<ActiveConfigPtr> ActivateText(std::string effective, std::optional<double> loaded) {
  Result<Config> config = ParseEffectiveConfig(effective);
  if (!config) {
    return Fail(std::move(config).error());
  }
  return ActivateAs(std::move(*config), std::move(effective), loaded.value_or(UnixTime()));
}

unsigned WorkerCountOf(const Config& config) {
  if (config.workers) {
    return std::max(1U, *config.workers);
  }
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof(cores), &cores) != 0) {
    return 1;
  }
  return static_cast<unsigned>(std::max(1, CPU_COUNT(&cores)));
}

Result<std::optional<Identity>> IdentityFor(const Config& config) {
  if (::geteuid() != 0) {
    Result<Identity> wanted =
        config.user.empty() ? Identity{.uid = ::geteuid()} : LookUpUser(config.user);
    if (!wanted || wanted->uid != ::geteuid()) {
      LogEvent(
          LogLevel::kWarn,
          fmt::format("not started as root: workers run as we do, not as \"{}\"", config.user));
    }
    return std::nullopt;
  }
  if (config.user == "root") {
    return std::nullopt;
  }
  Result<Identity> identity = LookUpUser(config.user.empty() ? "tidegate" : config.user);
  if (!identity && config.user.empty()) {
    identity = LookUpUser("nobody");
  }
  if (!identity) {
    return Fail(identity.error());
  }
  return std::optional<Identity>(std::move(*identity));
}

std::string OwnPath(const RunOptions& options, const Program& running) {
  std::error_code error;
  if (!options.argv.empty() && options.argv.front().starts_with('/') &&
      std::filesystem::equivalent(options.argv.front(), running.path, error)) {
    return options.argv.front();
  }
  return running.path;
}

}  // namespace tidegate
