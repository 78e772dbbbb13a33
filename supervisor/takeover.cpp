#include "supervisor/takeover.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <ranges>

#include <fmt/format.h>

#include "common/control.h"
#include "common/test_fault.h"
#include "supervisor/event_log.h"
#include "supervisor/stragglers.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr Duration kPeerLimit = std::chrono::seconds(1);
// Orphans that end while we ask them.
constexpr int kMostFailures = 20;

// A worker's word is not trusted: we kill, later, whom it says it is, and make room for its slot.
constexpr std::uint64_t kMostSlots = 4096;
constexpr std::uint64_t kMostSockets = 65536;
constexpr std::uint64_t kHighestGeneration = 1'000'000'000'000;

bool IsWorker(std::uint64_t pid) {
  std::string name;
  std::ifstream comm(fmt::format("/proc/{}/comm", pid));
  std::getline(comm, name);
  return pid > 1 && IsNamedWorker(name);
}

Result<Orphan> ReadOrphan(UniqueFd channel, ControlMessage adopted) {
  std::uint64_t expected = NumberOf(adopted.body, "sockets");
  if (adopted.fds.size() != 1 || !IsWorker(NumberOf(adopted.body, "pid")) ||
      NumberOf(adopted.body, "slot") >= kMostSlots || expected > kMostSockets ||
      NumberOf(adopted.body, "generation") > kHighestGeneration) {
    return Fail(ErrorKind::kProtocol, "an orphaned worker makes no sense");
  }
  Orphan orphan;
  orphan.pid = static_cast<pid_t>(NumberOf(adopted.body, "pid"));
  orphan.version = TextOf(adopted.body, "version");
  orphan.generation = NumberOf(adopted.body, "generation");
  orphan.slot = static_cast<unsigned>(NumberOf(adopted.body, "slot"));
  orphan.confinement = ConfinementReportOf(adopted.body.value("confinement", nlohmann::json()));
  orphan.row = static_cast<unsigned>(NumberOf(adopted.body, "row"));
  orphan.counters = std::move(adopted.fds[0]);
  for (const json& entry : adopted.body.value("listeners", json::array())) {
    orphan.listeners.push_back(Orphan::Listener{.name = TextOf(entry, "name"),
                                                .id = NumberOf(entry, "id"),
                                                .bound = TextOf(entry, "bound"),
                                                .key = TextOf(entry, "key")});
  }
  orphan.known_addresses = KnownAddressesOf(adopted.body, "known_addresses");
  while (orphan.sockets.size() < expected) {
    Result<ControlMessage> batch = ReceiveControl(channel.get(), kPeerLimit);
    if (!batch) {
      return Fail(batch.error());
    }
    const json names = batch->body.value("sockets", json::array());
    if (batch->type() != "sockets" || !names.is_array() || names.size() != batch->fds.size() ||
        names.empty()) {
      return Fail(ErrorKind::kProtocol, "an orphaned worker does not send its sockets");
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
      orphan.sockets.push_back(
          Orphan::Socket{.listener_id = NumberOf(names[i], "listener"),
                         .slot = static_cast<unsigned>(NumberOf(names[i], "slot")),
                         .fd = std::move(batch->fds[i])});
    }
  }
  if (FlagOf(adopted.body, "ticket_keys")) {
    Result<ControlMessage> keys = ReceiveControl(channel.get(), kPeerLimit);
    if (!keys) {
      return Fail(keys.error());
    }
    if (keys->type() != "ticket_keys" || keys->fds.size() != 1) {
      return Fail(ErrorKind::kProtocol, "an orphaned worker does not send its ticket keys");
    }
    orphan.keys = std::move(keys->fds[0]);
  }
  orphan.channel = std::move(channel);
  return orphan;
}

Error Occupied(const std::string& path, pid_t pid) {
  return Error(ErrorKind::kProtocol,
               fmt::format("another tidegate (pid {}) runs with the control socket {}", pid, path));
}

bool IsThere(const std::string& path) {
  struct stat info{};
  return ::lstat(path.c_str(), &info) == 0;
}

Result<> ListenBeside(const std::string& path, ControlServer& server) {
  std::vector<std::string> free;
  std::ranges::copy_if(PlacesBeside(path), std::back_inserter(free),
                       [](const std::string& place) { return !IsThere(place); });
  // One for us, one for who does not answer.
  if (free.size() < 2) {
    return Fail(ErrorKind::kConfig,
                fmt::format("{0}.0 to {0}.9 are there, of starts that failed; remove them", path));
  }
  return server.Listen(free.front());
}

enum class Answered : std::uint8_t { kAll, kSomeAreSilent };

// Everyone who waits at `place` is asked; who agrees is added to `orphans`. An error only if a
// supervisor may live there: where one orphan was found, there is none.
Result<Answered> AskOrphans(const std::string& place, int next_listener,
                            std::vector<Orphan>& orphans) {
  for (int failures = 0; failures < kMostFailures;) {
    Result<UniqueFd> channel = ConnectControl(place, kPeerLimit);
    if (!channel) {
      int reason = channel.error().system_errno();
      if (reason == ENOENT || reason == ECONNREFUSED) {
        return Answered::kAll;
      }
      if (!orphans.empty()) {
        return Answered::kSomeAreSilent;
      }
      if (reason == ETIMEDOUT) {
        // Its queue is full: somebody lives, and hangs.
        return Fail(
            ErrorKind::kProtocol,
            fmt::format("another tidegate holds the control socket {} and does not answer", place));
      }
      return Fail(channel.error());
    }
    // Who has called listen(): the supervisor, also when it is dead and its workers hold the
    // socket.
    Result<PeerCredentials> listener = PeerOf(channel->get());
    pid_t pid = listener ? listener->pid : 0;
    Result<> asked = SendControl(channel->get(), MakeControlMessage("takeover"), {}, kPeerLimit);
    Result<ControlMessage> answer =
        asked ? ReceiveControl(channel->get(), kPeerLimit) : Fail(asked.error());
    if (!answer) {
      if (answer.error().kind() == ErrorKind::kTimeout) {
        // Silence of a living process: it hangs, and still owns its sockets.
        bool lives = pid > 0 && pid != ::getpid() && (::kill(pid, 0) == 0 || errno == EPERM);
        if (lives && orphans.empty()) {
          return Fail(Occupied(place, pid));
        }
        LogEvent(LogLevel::kWarn,
                 "a worker of a dead supervisor does not answer; it will be told to drain when it "
                 "does");
        return Answered::kSomeAreSilent;
      }
      ++failures;
      continue;
    }
    if (answer->type() != "adopted") {
      if (orphans.empty()) {
        return Fail(Occupied(place, pid));
      }
      return Answered::kSomeAreSilent;
    }
    Result<Orphan> orphan = ReadOrphan(std::move(*channel), std::move(*answer));
    int fds[] = {next_listener};
    if (orphan && SendControl(orphan->channel.get(), MakeControlMessage("control_listener"), fds,
                              kPeerLimit)) {
      LogEvent(LogLevel::kInfo, fmt::format("took over worker {} of generation {} (pid {})",
                                            orphan->slot, orphan->generation, orphan->pid));
      orphans.push_back(std::move(*orphan));
      FaultAt("supervisor", "takeover");
    } else {
      ++failures;
    }
  }
  return Answered::kSomeAreSilent;
}

// Makes room at `path` for us, and keeps who waits there reachable (stragglers.h).
void MoveAside(const std::string& path) {
  for (const std::string& place : PlacesBeside(path)) {
    if (!IsThere(place)) {
      ::rename(path.c_str(), place.c_str());
      return;
    }
  }
}

}  // namespace

Result<std::vector<Orphan>> TakeOver(const std::string& path, ControlServer& server) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode)) {
    return Fail(ErrorKind::kConfig,
                fmt::format("{} is there and is no socket; it is left alone", path));
  }
  std::vector<std::string> places = {path};
  std::ranges::copy_if(PlacesBeside(path), std::back_inserter(places), IsThere);
  if (!IsThere(path) && places.size() == 1) {
    // Nobody to ask. Also the only way for a path so long that nothing fits beside it.
    Result<> listening = server.Listen(path);
    return listening ? Result<std::vector<Orphan>>() : Fail(listening.error());
  }
  Result<> listening = ListenBeside(path, server);
  if (!listening) {
    return Fail(listening.error());
  }
  std::vector<Orphan> orphans;
  for (const std::string& place : places) {
    Result<Answered> answered = AskOrphans(place, server.listener_fd(), orphans);
    if (!answered) {
      server.StopListening();
      return Fail(answered.error());
    }
    if (*answered == Answered::kAll) {
      ::unlink(place.c_str());
    } else if (place == path) {
      MoveAside(path);
    }
  }
  Result<> moved = server.MoveTo(path);
  if (!moved) {
    return Fail(moved.error());
  }
  return orphans;
}

Result<> AdoptOrphans(Holdings& holdings, std::vector<Orphan> orphans,
                      const ActiveConfigPtr& config) {
  // The newest generation knows the listeners best.
  std::sort(orphans.begin(), orphans.end(), [](const Orphan& a, const Orphan& b) {
    return std::pair(a.generation, b.slot) > std::pair(b.generation, a.slot);
  });
  NameSet names;
  AddUpstreamNames(config->config, names);
  // It also has resolved last, as far as anybody can tell: its word counts in the end.
  for (const Orphan& orphan : std::views::reverse(orphans)) {
    holdings.addresses.Learn(orphan.known_addresses, names);
    if (orphan.keys && !holdings.keys.Learn(orphan.keys.get(), KeyRing::Now())) {
      LogEvent(LogLevel::kWarn,
               fmt::format("the ticket keys of worker {} of generation {} (pid {}) "
                           "cannot be read",
                           orphan.slot, orphan.generation, orphan.pid));
    }
  }
  for (Orphan& orphan : orphans) {
    for (const Orphan::Listener& listener : orphan.listeners) {
      std::map<unsigned, UniqueFd> by_slot;
      for (Orphan::Socket& socket : orphan.sockets) {
        if (socket.listener_id == listener.id) {
          by_slot[socket.slot] = std::move(socket.fd);
        }
      }
      std::vector<UniqueFd> slots;
      for (auto& [slot, fd] : by_slot) {
        slots.push_back(std::move(fd));
      }
      holdings.listeners.Adopt(listener.key, listener.name, listener.bound, listener.id,
                               std::move(slots));
    }
    Result<CountersRow> row = holdings.counters.Adopt(std::move(orphan.counters), orphan.row);
    if (!row) {
      // It serves on until it has drained; what it counts is lost.
      LogEvent(
          LogLevel::kWarn,
          fmt::format("worker {} of generation {} (pid {}) cannot be taken over and drains: {}",
                      orphan.slot, orphan.generation, orphan.pid, row.error().ToString()));
      DismissStraggler(orphan.channel.get(), config->config.upgrade.drain,
                       config->config.upgrade.drain_tunnels);
      continue;
    }
    Generation* generation = holdings.FindGeneration(orphan.generation);
    if (generation == nullptr) {
      holdings.generations.insert(
          holdings.generations.begin(),
          std::make_unique<Generation>(
              holdings.surroundings,
              Generation::Parts{.number = orphan.generation,
                                .config = config,
                                .worker_program = holdings.worker_program.Duplicate(),
                                .version = orphan.version,
                                .workers = 1,
                                .identity = std::nullopt}));
      generation = holdings.generations.front().get();
    }
    generation->AdoptWorker(orphan.slot, orphan.pid, std::move(orphan.channel), *row,
                            orphan.confinement);
    holdings.next_generation = std::max(holdings.next_generation, orphan.generation + 1);
  }
  holdings.counters.FoldUnclaimed();
  return {};
}

}  // namespace tidegate
