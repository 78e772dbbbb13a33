// What the CLI may ask (shapes: common/control_messages.h).

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "supervisor/event_log.h"
#include "supervisor/start.h"
#include "supervisor/supervisor_body.h"

namespace tidegate {
namespace {

using nlohmann::json;

std::optional<Duration> DurationIn(const json& args, const char* name) {
  Result<Duration> duration = ParseDuration(TextOf(args, name));
  return duration ? std::optional(*duration) : std::nullopt;
}

// "8.0.17": generation, slot, the worker's own number.
struct ConnectionId {
  std::uint64_t generation = 0;
  std::uint64_t slot = 0;
  std::string rest;
};
std::optional<ConnectionId> ParseConnectionId(std::string_view text) {
  ConnectionId id;
  for (std::uint64_t* part : {&id.generation, &id.slot}) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *part);
    if (error != std::errc() || end == text.data() + text.size() || *end != '.') {
      return std::nullopt;
    }
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  }
  id.rest = text;
  return id;
}

// Unix times as people and programs want them.
json WithDates(json certificate) {
  constexpr double kSecondsOfDay = 86400;
  auto at = [](const json& object, const char* name) {
    auto found = object.find(name);
    return found != object.end() && found->is_number() ? found->get<double>() : 0.0;
  };
  const double end = at(certificate, "not_after");
  certificate["days_left"] =
      static_cast<std::int64_t>(std::floor((end - UnixTime()) / kSecondsOfDay));
  certificate["not_before"] = FormatTime(at(certificate, "not_before"));
  certificate["not_after"] = FormatTime(end);
  if (auto ocsp = certificate.find("ocsp"); ocsp != certificate.end() && ocsp->is_object()) {
    // Without an end it is the greatest number.
    constexpr double kYear10000 = 253'402'300'800;
    const double until = at(*ocsp, "until");
    (*ocsp)["until"] = until < kYear10000 ? json(FormatTime(until)) : json(nullptr);
  }
  return certificate;
}

constexpr int kUnhealthy = 3;
constexpr int kPermission = 5;

// Who has not answered by then hangs: the others' answers do not wait for it.
constexpr Duration kAnswerLimit = std::chrono::seconds(2);

constexpr std::string_view kStateNames[] = {"starting", "serving", "reloading", "upgrading",
                                            "stopping"};

}  // namespace

void Supervisor::OnCommand(ClientId client, const std::string& command, const json& args) {
  static const std::map<std::string, Command, std::less<>> kCommands = {
      {"reload", &Supervisor::Reload},     {"upgrade", &Supervisor::Upgrade},
      {"rollback", &Supervisor::RollBack}, {"stop", &Supervisor::StopCommand},
      {"status", &Supervisor::Status},     {"conns", &Supervisor::Connections},
      {"reopen", &Supervisor::Reopen},     {"loglevel", &Supervisor::SetLogLevel},
      {"ping", &Supervisor::Ping},         {"cert", &Supervisor::Certificates},
  };
  auto found = kCommands.find(command);
  if (found == kCommands.end()) {
    holdings_.server.Finish(
        client, 2, fmt::format("the daemon ({}) does not know \"{}\"", TIDEGATE_VERSION, command));
    return;
  }
  (this->*found->second)(client, args);
}

void Supervisor::Reload(ClientId client, const json& args) {
  Enqueue(Operation{
      .kind = OperationKind::kReload, .force = FlagOf(args, "force"), .clients = {{.id = client}}});
}

void Supervisor::Upgrade(ClientId client, const json& args) {
  if (!TextOf(args, "binary").empty() && !holdings_.server.MayNamePrograms(client)) {
    holdings_.server.Finish(client, kPermission,
                            "--binary is for root and the daemon's own user: the program gets the "
                            "daemon's privileges, and the group of the socket may not choose it");
    return;
  }
  Enqueue(Operation{.kind = OperationKind::kUpgrade,
                    .force = FlagOf(args, "force"),
                    .binary = TextOf(args, "binary"),
                    .drain = DurationIn(args, "drain"),
                    .clients = {{.id = client, .answer_at = AnswerAtOf(args)}},
                    // Forced, it is an upgrade in any case: a library has changed, say. Joined with
                    // a forced reload it is told from what only that wants.
                    .automatic = FlagOf(args, "auto") && !FlagOf(args, "force")});
}

void Supervisor::RollBack(ClientId client, const json& args) {
  Enqueue(Operation{.kind = OperationKind::kRollback,
                    .force = true,
                    .drain = DurationIn(args, "drain"),
                    .clients = {{.id = client, .answer_at = AnswerAtOf(args)}}});
}

void Supervisor::StopCommand(ClientId client, const json& args) {
  Stop(FlagOf(args, "now"), client);
}

void Supervisor::Ping(ClientId client, const json&) {
  holdings_.server.Finish(client, 0, "", {{"pid", ::getpid()}, {"version", TIDEGATE_VERSION}});
}

void Supervisor::Status(ClientId client, const json&) {
  scope_.Start(TellStatus(client));
}

// What every worker answers, by generation and slot; `what` as in control_client.h.
Task<Supervisor::Answers> Supervisor::AskWorkers(std::string what, std::uint64_t only,
                                                 Wanted wanted) {
  struct Gathering {
    Answers answers;
    std::size_t missing = 0;
    Event done;
  };
  // Outlives us: an answer may come after the limit.
  auto gathering = std::make_shared<Gathering>();
  for (const auto& generation : holdings_.generations) {
    if (only != 0 && generation->number() != only) {
      continue;
    }
    generation->ForEachWorker([&](WorkerProcess& worker) {
      gathering->answers.push_back(
          Answer{.generation = generation->number(), .slot = worker.slot(), .pid = worker.pid()});
      ++gathering->missing;
    });
  }
  for (std::size_t i = 0; i < gathering->answers.size(); ++i) {
    Answer& answer = gathering->answers[i];
    holdings_.FindGeneration(answer.generation)->ForEachWorker([&](WorkerProcess& worker) {
      if (worker.slot() == answer.slot) {
        worker.Ask(what, {}, [gathering, i, wanted](const json& data) {
          gathering->answers[i].data = data;
          gathering->answers[i].came = true;
          // Who has only just started knows of nothing yet.
          const bool speaks_for_all = wanted == Wanted::kAny && data.is_array() && !data.empty();
          if (--gathering->missing == 0 || speaks_for_all) {
            gathering->done.Set();
          }
        });
      }
    });
  }
  Deadline limit(loop_.timers(), Bind<&Event::Set>(&gathering->done));
  if (gathering->missing > 0) {
    ++holdings_.questions;
    limit.Arm(kAnswerLimit);
    co_await gathering->done.Wait();
    --holdings_.questions;
  }
  co_return gathering->answers;
}

Task<void> Supervisor::TellStatus(ClientId client) {
  Generation* current = holdings_.current();
  Answers answers;
  if (current != nullptr) {
    auto asked = co_await AskWorkers("upstreams", current->number());
    answers = std::move(asked);
  }
  json data = StatusData();
  for (const Answer& answer : answers) {
    if (!answer.came) {
      data["problems"].push_back(fmt::format("worker {} of generation {} (pid {}) does not answer",
                                             answer.slot, answer.generation, answer.pid));
      data["healthy"] = false;
    }
  }
  data["upstreams"] = UpstreamsOf(holdings_.config->config, answers);
  // Nobody is waited for twice.
  const bool any_came = std::ranges::any_of(answers, &Answer::came);
  if (any_came && !holdings_.config->config.certificates.empty()) {
    auto certificates = co_await AskForCertificates();
    if (certificates) {
      data["certificates"] = json::array();
      for (const json& one : *certificates) {
        json& shown = data["certificates"].emplace_back(json::object());
        for (const char* name : {"file", "hosts", "not_after", "days_left"}) {
          shown[name] = one.contains(name) ? one[name] : json(nullptr);
        }
      }
    }
  }
  holdings_.server.Finish(client, FlagOf(data, "healthy") ? 0 : kUnhealthy, "", data);
}

// In the order of the configuration; numbers are sums over the workers.
json Supervisor::UpstreamsOf(const Config& config, const Answers& answers) {
  json upstreams = json::array();
  for (const UpstreamConfig& upstream : config.upstreams) {
    json endpoints = json::array();
    for (const EndpointConfig& endpoint : upstream.endpoints) {
      std::string address = endpoint.address.ToString();
      std::uint64_t in_flight = 0;
      std::uint64_t idle = 0;
      std::string failure;
      for (const Answer& answer : answers) {
        for (const json& entry : answer.data.is_array() ? answer.data : json::array()) {
          if (TextOf(entry, "upstream") == upstream.name && TextOf(entry, "endpoint") == address) {
            in_flight += NumberOf(entry, "in_flight");
            idle += NumberOf(entry, "idle");
            failure = failure.empty() ? TextOf(entry, "failure") : failure;
          }
        }
      }
      endpoints.push_back({{"address", address},
                           {"state", failure.empty() ? "up" : "unresolved"},
                           {"in_flight", in_flight},
                           {"idle", idle}});
      if (!failure.empty()) {
        endpoints.back()["failure"] = failure;
      }
    }
    upstreams.push_back({{"name", upstream.name}, {"endpoints", endpoints}});
  }
  return upstreams;
}

json Supervisor::StatusData() {
  Generation* current = holdings_.current();
  json problems = json::array();
  if (current == nullptr) {
    problems.push_back("no generation serves");
  } else if (current->serving_count() < current->workers()) {
    problems.push_back(
        fmt::format("{} of {} workers serve", current->serving_count(), current->workers()));
  }
  if (holdings_.stragglers.any_silent()) {
    problems.push_back(
        "a worker of a dead supervisor serves an old configuration and does not answer");
  }
  if (!holdings_.config_fault.empty()) {
    problems.push_back(UnusableFileText(holdings_.config_fault));
  }
  json generations = json::array();
  for (const auto& generation : holdings_.generations) {
    if (generation->state() != GenerationState::kExited) {
      generations.push_back(generation->Status());
    }
  }
  json listeners = json::array();
  for (const ListenerInForce& entry : holdings_.listeners.in_force()) {
    const ListenerSockets* sockets = holdings_.listeners.Find(entry.id);
    if (sockets != nullptr) {
      std::string bind = sockets->key.substr(0, sockets->key.find(' '));
      listeners.push_back(
          {{"name", entry.name},
           {"bind", bind},
           {"accept", sockets->accept == AcceptMode::kShared ? "shared" : "reuseport"},
           {"addresses", {sockets->bound}},
           {"sockets", sockets->slots.size()}});
    }
  }
  return {
      {"schema_version", 1},
      {"pid", ::getpid()},
      {"version", holdings_.version},
      {"state", kStateNames[static_cast<std::size_t>(state_)]},
      {"healthy", problems.empty()},
      {"problems", problems},
      {"started", FormatTime(holdings_.started)},
      {"uptime_seconds", UnixTime() - holdings_.started},
      {"config_file", holdings_.options.config_path},
      {"config_loaded", FormatTime(holdings_.config->loaded)},
      {"config_fault",
       holdings_.config_fault.empty() ? json(nullptr) : json(holdings_.config_fault)},
      {"binary", holdings_.supervisor_program.path},
      {"worker_binary", holdings_.worker_program.path},
      {"socket", holdings_.server.path()},
      {"generation", current == nullptr ? 0 : current->number()},
      {"previous_version", holdings_.previous ? json(holdings_.previous->version) : json(nullptr)},
      {"last_operation", holdings_.last_operation},
      {"generations", generations},
      {"listeners", listeners},
      {"counters", holdings_.counters.Sums()}};
}

void Supervisor::Connections(ClientId client, const json& args) {
  if (args.contains("kill")) {
    scope_.Start(KillConnection(client, TextOf(args, "kill")));
  } else {
    // The CLI sends numbers as numbers; a text is taken, too.
    scope_.Start(ListConnections(client, NumberOf(args, "generation"), TextOf(args, "state")));
  }
}

Task<void> Supervisor::ListConnections(ClientId client, std::uint64_t only, std::string state) {
  auto answers = co_await AskWorkers("connections", only);
  json connections = json::array();
  json silent = json::array();
  for (const Answer& answer : answers) {
    if (!answer.came) {
      silent.push_back(
          {{"generation", answer.generation}, {"slot", answer.slot}, {"pid", answer.pid}});
    }
    for (json entry : answer.data.is_array() ? answer.data : json::array()) {
      if (!entry.is_object() || (!state.empty() && TextOf(entry, "state") != state)) {
        continue;
      }
      entry["id"] = fmt::format("{}.{}.{}", answer.generation, answer.slot, NumberOf(entry, "id"));
      entry["generation"] = answer.generation;
      entry["slot"] = answer.slot;
      entry["pid"] = answer.pid;
      connections.push_back(std::move(entry));
    }
  }
  holdings_.server.Finish(client, 0, "",
                          {{"schema_version", 1},
                           {"connections", std::move(connections)},
                           {"silent_workers", std::move(silent)}});
}

void Supervisor::Certificates(ClientId client, const json&) {
  scope_.Start(ListCertificates(client));
}

// All workers of a generation have the same.
Task<std::optional<json>> Supervisor::AskForCertificates() {
  Generation* current = holdings_.current();
  if (current == nullptr) {
    co_return std::nullopt;
  }
  auto answers = co_await AskWorkers("certificates", current->number(), Wanted::kAny);
  const Answer* best = nullptr;
  for (const Answer& each : answers) {
    const bool usable = each.came && each.data.is_array();
    if (usable && (best == nullptr || best->data.size() < each.data.size())) {
      best = &each;
    }
  }
  if (best == nullptr) {
    co_return std::nullopt;
  }
  json certificates = json::array();
  for (json one : best->data) {
    // A worker is not believed that it answers as it must.
    if (one.is_object()) {
      certificates.push_back(WithDates(std::move(one)));
    }
  }
  co_return certificates;
}

Task<void> Supervisor::ListCertificates(ClientId client) {
  auto certificates = co_await AskForCertificates();
  if (!certificates) {
    holdings_.server.Finish(
        client, 1, holdings_.current() == nullptr ? "no generation serves" : "no worker answers");
    co_return;
  }
  holdings_.server.Finish(client, 0, "",
                          {{"schema_version", 1},
                           {"watched", holdings_.config->config.watch},
                           {"certificates", std::move(*certificates)}});
}

Task<void> Supervisor::KillConnection(ClientId client, std::string text) {
  struct Answer {
    bool came = false;
    bool killed = false;
    Event done;
  };
  std::optional<ConnectionId> id = ParseConnectionId(text);
  Generation* generation = id ? holdings_.FindGeneration(id->generation) : nullptr;
  auto answer = std::make_shared<Answer>();
  bool asked = false;
  if (generation != nullptr) {
    generation->ForEachWorker([&](WorkerProcess& worker) {
      if (worker.slot() == id->slot) {
        asked = true;
        worker.Ask("kill_connection", id->rest, [answer](const json& data) {
          answer->came = true;
          answer->killed = data.is_object() && FlagOf(data, "killed");
          answer->done.Set();
        });
      }
    });
  }
  Deadline limit(loop_.timers(), Bind<&Event::Set>(&answer->done));
  if (asked) {
    ++holdings_.questions;
    limit.Arm(kAnswerLimit);
    co_await answer->done.Wait();
    --holdings_.questions;
  }
  std::string message;
  if (asked && !answer->came) {
    message = fmt::format("worker {} of generation {} does not answer", id->slot, id->generation);
  } else if (!answer->killed) {
    message = fmt::format("there is no connection {}", text);
  }
  holdings_.server.Finish(client, answer->killed ? 0 : 1, message, {{"killed", answer->killed}});
}

Result<> Supervisor::ReopenLogs() {
  Result<> reopened = holdings_.logs.Reopen();
  if (reopened) {
    TellOfLogs();
    LogEvent(LogLevel::kInfo, "the logs are open again");
  }
  return reopened;
}

void Supervisor::TellOfLogs() {
  for (const auto& generation : holdings_.generations) {
    generation->ForEachWorker([](WorkerProcess& worker) { worker.SendReopenLogs(); });
  }
}

void Supervisor::Reopen(ClientId client, const json&) {
  Result<> reopened = ReopenLogs();
  holdings_.server.Finish(client, reopened ? 0 : 1,
                          reopened ? std::string() : reopened.error().ToString());
}

void Supervisor::SetLogLevel(ClientId client, const json& args) {
  std::string name = TextOf(args, "level");
  std::optional<LogLevel> level = LogLevelOf(name);
  if (!level) {
    holdings_.server.Finish(client, 2, fmt::format("\"{}\" is no level", name));
    return;
  }
  LogFiles::LevelByHand by_hand{.level = *level};
  std::optional<Duration> limit = DurationIn(args, "for");
  if (limit && *limit != kNever && limit->count() > 0) {
    by_hand.until = loop_.now() + static_cast<TimePoint>(limit->count());
  }
  holdings_.logs.SetLevelByHand(by_hand);
  ArmLogLevel();
  for (const auto& generation : holdings_.generations) {
    generation->ForEachWorker([](WorkerProcess& worker) { worker.SendLogLevel(); });
  }
  holdings_.server.Finish(client, 0, "");
}

// Workers have deadlines of their own.
void Supervisor::ArmLogLevel() {
  const auto& by_hand = holdings_.logs.level_by_hand();
  if (!by_hand || by_hand->until == LogFiles::LevelByHand::kNoEnd) {
    log_level_due_.Disarm();
    return;
  }
  TimePoint now = loop_.now();
  log_level_due_.Arm(
      Duration(static_cast<std::int64_t>(by_hand->until > now ? by_hand->until - now : 0)));
}

void Supervisor::OnLogLevelOver() {
  holdings_.logs.SetLevelByHand(std::nullopt);
}

}  // namespace tidegate
