#include "supervisor/state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>

#include <fmt/format.h>

#include "supervisor/event_log.h"
#include "supervisor/process.h"

namespace tidegate {
namespace {

using nlohmann::json;

json SaveProgram(const Program& program, std::vector<int>& fds) {
  fds.push_back(program.fd.get());
  return {{"path", program.path}, {"fd", program.fd.get()}};
}

// None if an image after us has closed it: by then the number is somebody else's, or will be.
UniqueFd Taken(const json& state, int fd) {
  return UniqueFd(IsStillThere(state, fd) ? fd : -1);
}

Program RestoreProgram(const json& state, const json& saved) {
  return Program{.path = saved.at("path").get<std::string>(),
                 .fd = Taken(state, saved.at("fd").get<int>())};
}

json SaveConfig(const ActiveConfig& config) {
  return {{"effective", config.effective}, {"loaded", config.loaded}};
}

// What is not as it should be throws; whatever it is, the state is refused.
template <typename Read>
auto Guarded(Read read) -> decltype(read()) {
  try {
    return read();
  } catch (const std::exception& fault) {
    return Fail(ErrorKind::kProtocol,
                fmt::format("the state of the running supervisor is damaged: {}", fault.what()));
  }
}

Result<ActiveConfigPtr> RestoreConfig(const json& saved) {
  return ActivateText(saved.at("effective").get<std::string>(), saved.at("loaded").get<double>());
}

json SaveOptions(const RunOptions& options) {
  json saved = {{"config_path", options.config_path},
                {"socket_path", options.socket_path},
                {"pidfile", options.pidfile},
                {"argv", options.argv}};
  if (options.config_text) {
    saved["config_text"] = *options.config_text;
  }
  if (options.workers) {
    saved["workers"] = *options.workers;
  }
  return saved;
}

RunOptions RestoreOptions(const json& saved) {
  RunOptions options;
  options.config_path = saved.at("config_path").get<std::string>();
  options.socket_path = saved.at("socket_path").get<std::string>();
  options.pidfile = saved.at("pidfile").get<std::string>();
  options.argv = saved.at("argv").get<std::vector<std::string>>();
  if (saved.contains("config_text")) {
    options.config_text = saved["config_text"].get<std::string>();
  }
  if (saved.contains("workers")) {
    options.workers = saved["workers"].get<unsigned>();
  }
  return options;
}

// Whatever is wrong with them, new ones do: an image that has no ring comes and goes like any
// other.
void RestoreKeys(Holdings& holdings, const json& state) {
  int fd = static_cast<int>(NumberOf(state, "ticket_keys"));
  if (!state.contains("ticket_keys") || !IsStillThere(state, fd) ||
      !holdings.keys.Restore(UniqueFd(fd), KeyRing::Now())) {
    LogEvent(LogLevel::kInfo, "new keys for session tickets: the program before had none for us");
  }
}

// What waits at the control socket is judged while every worker of the image before is known: one
// may have connected and died since.
void AcceptAmongFormerWorkers(Holdings& holdings, const json& state) {
  holdings.former_workers = WorkersOf(state);
  holdings.server.AcceptWaiting();
  holdings.former_workers.clear();
}

// A channel that has been closed since is not there; its worker is, and goes: what it said last
// counts, and what it wrote is told.
void DropWhatHasGone(Holdings& holdings, const json& state, json& slot) {
  json& worker = slot["worker"];
  int output = worker.at("output").get<int>();
  if (output >= 0 && !IsStillThere(state, output)) {
    output = -1;
    worker["output"] = output;
  }
  if (IsStillThere(state, worker.at("channel").get<int>())) {
    return;
  }
  if (output >= 0) {
    ChildOutput(holdings.surroundings.loop, UniqueFd(output)).Tail();
  }
  if (worker.contains("drain")) {
    slot["gone"] = worker["drain"];
  }
  slot.erase("worker");
}

Result<> RestoreGenerations(Holdings& holdings, const json& state) {
  for (json saved : state.at("generations")) {
    for (json& slot : saved.at("slots")) {
      if (slot.contains("worker")) {
        DropWhatHasGone(holdings, state, slot);
      }
    }
    Result<ActiveConfigPtr> config = RestoreConfig(saved.at("config"));
    if (!config) {
      return Fail(config.error());
    }
    Result<std::optional<Identity>> identity = IdentityFor((*config)->config);
    if (!identity) {
      return Fail(identity.error());
    }
    Generation::Parts parts{
        .number = saved.at("number").get<std::uint64_t>(),
        .config = *config,
        .worker_program = Program{.path = saved.at("worker_path").get<std::string>(),
                                  .fd = Taken(state, saved.at("worker_fd").get<int>())},
        .version = saved.at("version").get<std::string>(),
        .workers = static_cast<unsigned>(saved.at("slots").size()),
        .identity = *identity};
    auto generation = std::make_unique<Generation>(holdings.surroundings, std::move(parts));
    generation->Restore(saved);
    holdings.generations.push_back(std::move(generation));
  }
  return {};
}

Result<> Restore(Holdings& holdings, const json& state) {
  holdings.options = RestoreOptions(state.at("options"));
  holdings.started = state.at("started").get<double>();
  holdings.version = state.at("version").get<std::string>();
  holdings.next_generation = state.at("next_generation").get<std::uint64_t>();
  holdings.last_operation = state.value("last_operation", json());
  holdings.config_fault = TextOf(state, "config_fault");
  holdings.store.Restore(state.value("descriptor_store", json::object()));
  RestoreKeys(holdings, state);
  holdings.server.Adopt(UniqueFd(state.at("control_listener").get<int>()),
                        holdings.options.socket_path);
  holdings.surroundings.control_listener = holdings.server.listener_fd();
  Result<> counters = holdings.counters.Restore(state.at("counters"));
  if (!counters) {
    return counters;
  }
  holdings.listeners.Restore(state.at("listeners"));
  Result<ActiveConfigPtr> config = RestoreConfig(state.at("config"));
  if (!config) {
    return Fail(config.error());
  }
  holdings.config = *config;
  holdings.logs.Restore(state.at("logs"), holdings.config->config.logging,
                        [&state](int fd) { return IsStillThere(state, fd); });
  holdings.supervisor_program = RestoreProgram(state, state.at("supervisor_program"));
  holdings.worker_program = RestoreProgram(state, state.at("worker_program"));
  if (!state.at("previous").is_null()) {
    const json& saved = state["previous"];
    Result<ActiveConfigPtr> previous_config = RestoreConfig(saved.at("config"));
    if (previous_config) {
      holdings.previous =
          Previous{.supervisor_program = RestoreProgram(state, saved.at("supervisor")),
                   .worker_program = RestoreProgram(state, saved.at("worker")),
                   .version = saved.at("version").get<std::string>(),
                   .config = *previous_config};
    }
  }
  for (const json& fd : state.value("silent_clients", json::array())) {
    if (IsStillThere(state, fd.get<int>())) {
      holdings.server.AdoptClient(UniqueFd(fd.get<int>()), false);
    }
  }
  if (!state.at("waiting").is_null()) {
    holdings.waiting = RestoreOperation(state["waiting"], holdings.server, state);
  }
  for (const json& saved : state.at("tails")) {
    holdings.tails.push_back(std::make_shared<Tail>(
        Tail{.generation = saved.at("generation").get<std::uint64_t>(),
             .clients = RestoreOperation(saved.at("clients"), holdings.server, state).clients,
             .outcome = RestoreOutcome(saved.at("outcome")),
             .began = saved.at("began").get<double>(),
             .hands_over = FlagOf(saved, "hands_over")}));
  }
  Result<> generations = RestoreGenerations(holdings, state);
  if (generations) {
    AcceptAmongFormerWorkers(holdings, state);
    holdings.addresses.Learn(KnownAddressesOf(state, "known_addresses"), holdings.UpstreamNames());
  }
  return generations;
}

}  // namespace

json SaveOutcome(const Outcome& outcome) {
  return {{"exit_code", outcome.exit_code},
          {"message", outcome.message},
          {"data", outcome.data},
          {"more", outcome.more}};
}

Outcome RestoreOutcome(const json& saved) {
  return Outcome{.exit_code = static_cast<int>(NumberOf(saved, "exit_code", 1)),
                 .message = TextOf(saved, "message"),
                 .data = saved.value("data", json::object()),
                 .more = saved.value("more", json::object())};
}

Result<SavedState> SaveState(const Holdings& holdings, const json& upgrade,
                             const std::vector<int>& more_fds) {
  SavedState saved;
  saved.fds = more_fds;
  json state = {{"format", kStateFormat},
                {"pid", ::getpid()},
                {"started", holdings.started},
                {"version", holdings.version},
                {"options", SaveOptions(holdings.options)},
                {"next_generation", holdings.next_generation},
                {"control_listener", holdings.server.listener_fd()},
                {"counters", holdings.counters.Save(saved.fds)},
                {"listeners", holdings.listeners.Save(saved.fds)},
                {"logs", holdings.logs.Save(saved.fds)},
                {"config", SaveConfig(*holdings.config)},
                {"supervisor_program", SaveProgram(holdings.supervisor_program, saved.fds)},
                {"worker_program", SaveProgram(holdings.worker_program, saved.fds)},
                {"previous", nullptr},
                {"last_operation", holdings.last_operation},
                {"config_fault", holdings.config_fault},
                {"descriptor_store", holdings.store.Save()},
                {"known_addresses", holdings.addresses.all()},
                {"generations", json::array()},
                {"upgrade", upgrade},
                {"waiting", nullptr},
                {"tails", json::array()}};
  saved.fds.push_back(holdings.server.listener_fd());
  // A command that nobody has read yet is read by the next image.
  state["silent_clients"] = holdings.server.SilentFds();
  for (int fd : holdings.server.SilentFds()) {
    saved.fds.push_back(fd);
  }
  if (holdings.waiting) {
    state["waiting"] = SaveOperation(*holdings.waiting, holdings.server, saved.fds);
  }
  for (const auto& tail : holdings.tails) {
    Operation clients{.clients = tail->clients};
    state["tails"].push_back({{"generation", tail->generation},
                              {"clients", SaveOperation(clients, holdings.server, saved.fds)},
                              {"outcome", SaveOutcome(tail->outcome)},
                              {"began", tail->began},
                              {"hands_over", tail->hands_over}});
  }
  if (holdings.previous) {
    state["previous"] = {
        {"supervisor", SaveProgram(holdings.previous->supervisor_program, saved.fds)},
        {"worker", SaveProgram(holdings.previous->worker_program, saved.fds)},
        {"version", holdings.previous->version},
        {"config", SaveConfig(*holdings.previous->config)}};
  }
  for (const auto& generation : holdings.generations) {
    if (generation->state() != GenerationState::kExited) {
      json entry = generation->Save(saved.fds);
      entry["config"] = SaveConfig(*generation->config());
      state["generations"].push_back(entry);
    }
  }
  Result<UniqueFd> keys = holdings.keys.Pack();
  if (keys) {
    state["ticket_keys"] = keys->get();
    saved.fds.push_back(keys->get());
    saved.keys = std::move(*keys);
  } else {
    LogEvent(LogLevel::kError, keys.error().ToString());
  }
  // The inode tells a descriptor from another that has got its number since.
  state["fds"] = json::array();
  for (int fd : saved.fds) {
    struct stat info{};
    if (::fstat(fd, &info) == 0) {
      state["fds"].push_back({fd, info.st_ino});
    }
  }
  // Not everything in it is ours: what a program wrote before it died, the name of a file.
  const std::string text = state.dump(-1, ' ', false, json::error_handler_t::replace);
  Result<UniqueFd> memfd = MakeMemfd("tidegate-state", text);
  if (!memfd) {
    return Fail(memfd.error());
  }
  saved.memfd = std::move(*memfd);
  return saved;
}

namespace {

Result<json> ReadStateOrThrow(int fd) {
  Result<std::string> text = ReadMemfd(fd);
  if (!text) {
    return Fail(text.error());
  }
  json state = json::parse(*text, nullptr, false);
  if (!state.is_object()) {
    return Fail(ErrorKind::kProtocol, "the state of the running supervisor is unreadable");
  }
  std::uint64_t format = NumberOf(state, "format");
  if (format != kStateFormat) {
    return Fail(ErrorKind::kProtocol,
                fmt::format("the state of the running supervisor has format {}, {} is known here",
                            format, kStateFormat));
  }
  for (const char* part : {"options", "counters", "listeners", "logs", "config", "generations",
                           "supervisor_program", "worker_program", "fds"}) {
    if (!state.contains(part)) {
      return Fail(ErrorKind::kProtocol,
                  fmt::format("the state of the running supervisor has no {}", part));
    }
  }
  Result<Config> config = ParseEffectiveConfig(TextOf(state["config"], "effective"));
  if (!config) {
    return Fail(config.error());
  }
  return state;
}

Result<> CheckDescriptorsOrThrow(const json& state) {
  std::vector<int> needed = {state.at("control_listener").get<int>(),
                             state.at("supervisor_program").at("fd").get<int>(),
                             state.at("worker_program").at("fd").get<int>()};
  for (const json& sockets : state.at("listeners").at("sockets")) {
    for (const json& fd : sockets.at("fds")) {
      needed.push_back(fd.get<int>());
    }
  }
  for (const json& memory : state.at("counters").at("memories")) {
    needed.push_back(memory.at("fd").get<int>());
  }
  for (int fd : needed) {
    if (!IsStillThere(state, fd)) {
      return Fail(ErrorKind::kProtocol, fmt::format("descriptor {} of the state is missing", fd));
    }
  }
  return {};
}

}  // namespace

Result<json> ReadState(int fd) {
  return Guarded([fd] { return ReadStateOrThrow(fd); });
}

Result<std::vector<int>> DescriptorsOf(const json& state) {
  return Guarded([&state]() -> Result<std::vector<int>> {
    std::vector<int> fds;
    for (const json& entry : state.at("fds")) {
      fds.push_back(entry.at(0).get<int>());
    }
    return fds;
  });
}

bool IsStillThere(const json& state, int fd) {
  struct stat info{};
  if (fd < 0 || ::fstat(fd, &info) != 0) {
    return false;
  }
  for (const json& entry : state.at("fds")) {
    if (entry.at(0) == fd) {
      return entry.at(1) == info.st_ino;
    }
  }
  return false;
}

std::set<pid_t> WorkersOf(const json& state) {
  std::set<pid_t> pids;
  for (const json& generation : state.at("generations")) {
    for (const json& slot : generation.at("slots")) {
      if (slot.contains("worker")) {
        pids.insert(slot["worker"].at("pid").get<pid_t>());
      }
    }
  }
  return pids;
}

Result<> CheckDescriptors(const json& state) {
  return Guarded([&state] { return CheckDescriptorsOrThrow(state); });
}

Result<> RestoreState(Holdings& holdings, const json& state) {
  return Guarded([&] { return Restore(holdings, state); });
}

json SaveOperation(const Operation& operation, const ControlServer& server, std::vector<int>& fds) {
  json saved = {{"kind", static_cast<int>(operation.kind)},
                {"force", operation.force},
                {"binary", operation.binary},
                {"became_upgrade", operation.became_upgrade},
                {"auto", operation.automatic},
                {"clients", json::array()}};
  if (operation.drain) {
    saved["drain_ms"] = operation.drain->count();
  }
  for (const Operation::Client& client : operation.clients) {
    int fd = server.FdOf(client.id);
    if (fd >= 0) {
      saved["clients"].push_back({{"fd", fd},
                                  {"detach", client.answer_at == AnswerAt::kCommit},
                                  {"stable", client.answer_at == AnswerAt::kStable}});
      fds.push_back(fd);
    }
  }
  return saved;
}

Operation RestoreOperation(const json& saved, ControlServer& server, const json& state) {
  Operation operation;
  operation.kind = static_cast<OperationKind>(NumberOf(saved, "kind"));
  operation.force = FlagOf(saved, "force");
  operation.binary = TextOf(saved, "binary");
  operation.became_upgrade = FlagOf(saved, "became_upgrade");
  operation.automatic = FlagOf(saved, "auto");
  if (saved.contains("drain_ms")) {
    operation.drain = Duration(saved["drain_ms"].get<std::int64_t>());
  }
  for (const json& client : saved.value("clients", json::array())) {
    int fd = static_cast<int>(NumberOf(client, "fd"));
    if (IsStillThere(state, fd)) {
      operation.clients.push_back(Operation::Client{.id = server.AdoptClient(UniqueFd(fd), true),
                                                    .answer_at = AnswerAtOf(client)});
    }
  }
  return operation;
}

void KeepAcrossExec(const std::vector<int>& fds, bool keep) {
  for (int fd : fds) {
    ::fcntl(fd, F_SETFD, keep ? 0 : FD_CLOEXEC);
  }
}

}  // namespace tidegate
