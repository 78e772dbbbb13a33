#pragma once

// Everything that the supervisor holds while workers, generations and its own images come and go.
// One a process. The stories (start, reload, upgrade, stop) work on it; state.h carries it from one
// image to the next.

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/config_load.h"
#include "supervisor/active_config.h"
#include "supervisor/address_book.h"
#include "supervisor/control_server.h"
#include "supervisor/counters_owner.h"
#include "supervisor/descriptor_store.h"
#include "supervisor/generation.h"
#include "supervisor/key_ring.h"
#include "supervisor/listeners.h"
#include "supervisor/log_files.h"
#include "supervisor/name_files_owner.h"
#include "supervisor/notify.h"
#include "supervisor/operation.h"
#include "supervisor/process.h"
#include "supervisor/stragglers.h"
#include "supervisor/supervisor.h"

namespace tidegate {

// What a roll-back goes to.
struct Previous {
  Program supervisor_program;
  Program worker_program;
  std::string version;
  ActiveConfigPtr config;
};

// The end of an upgrade that is under way: the old generation drains while the next operation may
// begin.
struct Tail {
  // What drains.
  std::uint64_t generation = 0;
  std::vector<Operation::Client> clients;
  // The answer so far.
  Outcome outcome;
  // Unix time.
  double began = 0;
  // It was told to hand its connections over; how that went is to be told yet.
  bool hands_over = false;
};

struct Holdings {
  Holdings(Loop& the_loop, ControlServer::OnCommand on_command);
  Holdings(const Holdings&) = delete;
  Holdings& operator=(const Holdings&) = delete;

  Loop& loop;
  RunOptions options;
  double started = 0;
  Children children;
  CountersOwner counters;
  Listeners listeners;
  LogFiles logs;
  AddressBook addresses;
  KeyRing keys;
  NameFilesOwner name_files;
  Notify notify;
  DescriptorStore store;
  ControlServer server;
  Stragglers stragglers;
  WorkerSurroundings surroundings;

  // What runs, and what is in force.
  Program supervisor_program;
  Program worker_program;
  std::string version = TIDEGATE_VERSION;
  ActiveConfigPtr config;
  std::optional<Previous> previous;
  // Why the configuration file could not be used at the start, so that `config` is what was in
  // force before a crash; until a reload or an upgrade has read one that can be used. Empty: it
  // could.
  std::string config_fault;

  // Oldest first. The last that serves is the current one.
  std::vector<std::unique_ptr<Generation>> generations;
  std::uint64_t next_generation = 1;
  // While a state is restored: those that it knows, who may have ended since.
  std::set<pid_t> former_workers;
  // How the last operation ended (RecordOf); null before the first one.
  nlohmann::json last_operation;
  // The operation that waits until the running one has ended.
  std::optional<Operation> waiting;
  std::vector<std::shared_ptr<Tail>> tails;
  // Commands that wait for answers of workers: another image would not know of them.
  unsigned questions = 0;
  // No new generation is wanted any more.
  bool stopping = false;

  // Null before the first commit.
  Generation* current();
  Generation* FindGeneration(std::uint64_t number);
  // Whether a worker of some generation has this process id, or it executes a worker's program: we
  // may not know of it, as of one that a dead supervisor left.
  bool IsWorker(pid_t pid);
  // Addresses of names that only it had are forgotten.
  void RemoveGeneration(std::uint64_t number);
  // Names that some generation, or a roll-back, may want to resolve.
  NameSet UpstreamNames() const;
  // "Still serving 1.0.0 (generation 7)."; empty if nothing serves.
  std::string StillServing();
  // A worker serves in the place of a lost one.
  void OnReplaced(std::uint64_t number, unsigned slot);
  // Every worker of every generation gets the ticket keys of now.
  void SendKeys();
  // Those of `ids`, which the store was told of (DescriptorStore::Follow), once systemd has been
  // told to let go of them, or half a second later: while it holds a socket that nobody accepts on,
  // connections go there.
  Task<void> CloseListeners(std::vector<std::uint64_t> ids);
  // Looks at resolv.conf and /etc/hosts; every worker that has others gets them.
  void LookAtNameFiles();
};

// Reads the configuration again, from the file or text that `options` names; --workers goes before
// it.
std::expected<LoadedConfig, std::vector<Diagnostic>> LoadConfiguration(const RunOptions& options);
// `config`, which is in force, with what stands in the files that it names now.
std::expected<LoadedConfig, std::vector<Diagnostic>> LoadFilesAgain(const Config& config);
// For what a generation gets. Error: kSystem.
Result<ActiveConfigPtr> Activate(Config config);
// The same for an effective text that another image has written, which is kept octet for octet:
// that image may get it back, and does not know what we would add. `loaded`: when it was read, unix
// time; now if nobody knows. Also kConfig.
Result<ActiveConfigPtr> ActivateText(std::string effective,
                                     std::optional<double> loaded = std::nullopt);
// How many workers `config` means.
unsigned WorkerCountOf(const Config& config);
// Whom workers run as: nobody else unless we are root. Without a `user`, root takes "tidegate", or
// else "nobody"; "root" stays root. Error: kConfig.
Result<std::optional<Identity>> IdentityFor(const Config& config);
// Where the daemon's program is looked for at an upgrade: as it was started, which may be a link
// that now leads elsewhere.
std::string OwnPath(const RunOptions& options, const Program& running);

}  // namespace tidegate
