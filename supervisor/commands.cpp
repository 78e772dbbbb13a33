#include "supervisor/commands.h"

#include <algorithm>
#include <array>

#include "common/log_level.h"
#include "supervisor/invocation.h"

namespace tidegate {
namespace {

using std::chrono::seconds;

constexpr std::array<std::string_view, 3> kColorChoices = {"auto", "always", "never"};
// Of Session in the worker.
constexpr std::array<std::string_view, 5> kStates = {"idle", "request", "response", "tunnel",
                                                     "closing"};
constexpr std::array<std::string_view, 3> kShells = {"bash", "zsh", "fish"};

constexpr std::array kGlobalOptions = {
    OptionRow{.name = "config",
              .letter = 'c',
              .kind = ValueKind::kFile,
              .metavar = "FILE",
              .help = "run and check; TIDEGATE_CONFIG, /etc/tidegate/tidegate.json"},
    OptionRow{.name = "socket",
              .kind = ValueKind::kFile,
              .metavar = "PATH",
              .help = "control socket of the daemon; TIDEGATE_SOCKET"},
    OptionRow{.name = "json", .help = "one JSON object; JSON lines while something runs"},
    OptionRow{.name = "quiet", .letter = 'q', .help = "only errors"},
    OptionRow{.name = "verbose", .letter = 'v', .help = "more detail"},
    OptionRow{.name = "color",
              .kind = ValueKind::kChoice,
              .metavar = "WHEN",
              .help = "auto, always or never; NO_COLOR is obeyed",
              .choices = kColorChoices},
    OptionRow{.name = "timeout",
              .kind = ValueKind::kDuration,
              .metavar = "DUR",
              .help = "give up waiting for the daemon; what it does goes on"},
    OptionRow{.name = "help", .letter = 'h', .help = "this text"},
    OptionRow{.name = "version", .help = "the version"},
};

constexpr OptionRow kWorkers{.name = "workers",
                             .kind = ValueKind::kCount,
                             .metavar = "N",
                             .help = "worker processes, over the configuration",
                             .range = {.least = 1, .most = 1024}};
constexpr OptionRow kPidfile{.name = "pidfile",
                             .kind = ValueKind::kFile,
                             .metavar = "F",
                             .help = "write the process id to this file"};

constexpr std::array kRunOptions = {kWorkers, kPidfile};
constexpr std::array kProxyOptions = {
    OptionRow{.name = "from",
              .kind = ValueKind::kText,
              .metavar = "ADDR",
              .help = "where to listen: :8080, 127.0.0.1:8080, unix:/path",
              .required = true},
    OptionRow{.name = "to",
              .kind = ValueKind::kText,
              .metavar = "ADDR",
              .help = "an endpoint to pass requests to; once for each",
              .repeatable = true,
              .required = true},
    kWorkers,
    kPidfile,
};
constexpr std::array kReloadOptions = {
    OptionRow{.name = "force", .help = "put it in force even if nothing changed"},
};
// What is named is not left to what lies on the disk.
constexpr std::array<std::string_view, 1> kNotWithAuto = {"binary"};
constexpr std::array kUpgradeOptions = {
    OptionRow{.name = "auto",
              .help = "only if the binaries on disk have changed; else a reload",
              .not_with = kNotWithAuto},
    OptionRow{.name = "binary",
              .kind = ValueKind::kFile,
              .metavar = "PATH",
              .help = "the new tidegate; its worker is found beside it"},
    OptionRow{.name = "drain",
              .kind = ValueKind::kDuration,
              .metavar = "DUR",
              .help = "over upgrade.drain of the configuration"},
    OptionRow{.name = "force", .help = "a new generation even if nothing changed"},
    OptionRow{.name = "detach", .help = "answer at commit; do not wait for the drain"},
};
constexpr std::array kStopOptions = {
    OptionRow{.name = "now", .help = "close what is open instead of finishing it"},
};
constexpr std::array kStatusOptions = {
    OptionRow{.name = "watch", .help = "again each second, until Ctrl-C"},
};
constexpr std::array kConnsOptions = {
    OptionRow{.name = "generation",
              .kind = ValueKind::kCount,
              .metavar = "N",
              .help = "only connections of this generation",
              .range = {.least = 1}},
    OptionRow{.name = "state",
              .kind = ValueKind::kChoice,
              .metavar = "S",
              .help = "only connections in this state",
              .choices = kStates},
    OptionRow{.name = "kill",
              .kind = ValueKind::kText,
              .metavar = "ID",
              .help = "close this connection instead of listing"},
};
constexpr std::array kLoglevelOptions = {
    OptionRow{.name = "for",
              .kind = ValueKind::kDuration,
              .metavar = "DUR",
              .help = "back to the configured level after this"},
};
constexpr std::array kCheckOptions = {
    OptionRow{.name = "print", .help = "show the effective configuration with origins"},
};

constexpr std::array kStatusArguments = {
    ArgumentRow{.metavar = "NAME",
                .help = "only this listener, upstream, generation or host of a certificate"},
};
constexpr std::array kLoglevelArguments = {
    ArgumentRow{.metavar = "LEVEL",
                .kind = ValueKind::kChoice,
                .help = "debug, info, warn or error",
                .choices = kLogLevelNames,
                .required = true},
};
constexpr std::array kCheckArguments = {
    ArgumentRow{
        .metavar = "FILE", .kind = ValueKind::kFile, .help = "instead of the usual configuration"},
};
constexpr std::array<std::string_view, 2> kCertActions = {"list", "check"};
constexpr std::array kCertArguments = {
    ArgumentRow{.metavar = "ACTION",
                .kind = ValueKind::kChoice,
                .help = "list what is in force, or check the files",
                .choices = kCertActions,
                .required = true},
};
constexpr std::array kCompletionArguments = {
    ArgumentRow{.metavar = "SHELL",
                .kind = ValueKind::kChoice,
                .help = "bash, zsh or fish",
                .choices = kShells,
                .required = true},
};

constexpr Duration kQuick = seconds(10);

constexpr std::array kCommands = {
    CommandRow{"run",
               CommandGroup::kServe,
               "the daemon, in the foreground",
               "Starts the supervisor and its workers, and stays until it is stopped.\n"
               "Signals: TERM, INT and QUIT stop gracefully (a second TERM or INT stops\n"
               "now), HUP reloads, USR1 reopens the logs, USR2 upgrades.",
               "run -c tidegate.json",
               {},
               kRunOptions,
               kNever,
               RunCommand,
               true},
    CommandRow{"proxy",
               CommandGroup::kServe,
               "the daemon without a file: all from flags",
               "Like run, with a configuration that is made of the flags.\n"
               "An endpoint without a host is on this machine: :9000 is 127.0.0.1:9000.",
               "proxy --from :8080 --to 127.0.0.1:9000",
               {},
               kProxyOptions,
               kNever,
               ProxyCommand},
    CommandRow{"reload",
               CommandGroup::kChange,
               "read the configuration again, in place",
               "Puts the configuration in force in the running workers and prints what\n"
               "changed. No connection is touched. If it is invalid, the old one stays.",
               "",
               {},
               kReloadOptions,
               kNever,
               DaemonCommand},
    CommandRow{"upgrade",
               CommandGroup::kChange,
               "a new generation from the binaries on disk",
               "Starts new workers beside the old ones, moves over when all of them are\n"
               "ready, and drains the old ones. If anything fails, the old ones serve on.\n"
               "--auto is for packages and service managers: whatever is new on disk is in\n"
               "force afterwards, with no more than that takes, or with --force by an upgrade\n"
               "in any case (a library has changed, say); it does not wait for the\n"
               "drain. Ctrl-C ends only the display.",
               "upgrade --drain 1m",
               {},
               kUpgradeOptions,
               kNever,
               DaemonCommand},
    CommandRow{"rollback",
               CommandGroup::kChange,
               "back to the previous binary and configuration",
               "By the same steps as an upgrade.",
               "",
               {},
               {},
               kNever,
               DaemonCommand},
    CommandRow{"stop",
               CommandGroup::kChange,
               "stop the daemon gracefully",
               "Finishes what is under way, for shutdown.timeout at most. --now does not wait.",
               "",
               {},
               kStopOptions,
               kNever,
               DaemonCommand},
    CommandRow{"reopen",
               CommandGroup::kChange,
               "open the log files again, after a rotation",
               "",
               "",
               {},
               {},
               kQuick,
               DaemonCommand},
    CommandRow{"loglevel", CommandGroup::kChange, "change the level of the error log", "",
               "loglevel debug --for 10m", kLoglevelArguments, kLoglevelOptions, kQuick,
               DaemonCommand},
    CommandRow{"status", CommandGroup::kLook,
               "generations, workers, listeners, upstreams, certificates",
               "Exit code 3 says that something is unhealthy.", "status --watch", kStatusArguments,
               kStatusOptions, kQuick, StatusCommand},
    CommandRow{"conns",
               CommandGroup::kLook,
               "live connections: state, age, generation, bytes",
               "",
               "conns --state tunnel",
               {},
               kConnsOptions,
               kQuick,
               DaemonCommand},
    CommandRow{"cert",
               CommandGroup::kLook,
               "certificates: in force, or in the configuration's files",
               "list: what the daemon serves, for which hosts, and for how long.\n"
               "check: without the daemon, whether the files of the configuration can be\n"
               "used. Exit code 78 says that one cannot.",
               "cert check -c tidegate.json",
               kCertArguments,
               {},
               kQuick,
               CertCommand,
               true},
    CommandRow{"check", CommandGroup::kOffline, "validate a configuration, without the daemon",
               "Finds all faults, not only the first. Needs no root and opens no socket.\n"
               "Exit code 78 says that it is invalid.",
               "check --print tidegate.json", kCheckArguments, kCheckOptions, kNever, CheckCommand,
               true},
    CommandRow{"schema",
               CommandGroup::kOffline,
               "the JSON schema of the configuration",
               "",
               "",
               {},
               {},
               kNever,
               SchemaCommand},
    CommandRow{"completion",
               CommandGroup::kOffline,
               "a completion script for a shell",
               "bash: source <(tidegate completion bash)\n"
               "zsh:  tidegate completion zsh > \"${fpath[1]}/_tidegate\"\n"
               "fish: tidegate completion fish > ~/.config/fish/completions/tidegate.fish",
               "",
               kCompletionArguments,
               {},
               kNever,
               CompletionCommand},
    CommandRow{"version",
               CommandGroup::kOffline,
               "the version; with -v, of the libraries and the worker too",
               "",
               "",
               {},
               {},
               kNever,
               VersionCommand},
};

}  // namespace

std::string_view TitleOf(CommandGroup group) {
  switch (group) {
    case CommandGroup::kServe:
      return "Serve";
    case CommandGroup::kChange:
      return "Change the running daemon";
    case CommandGroup::kLook:
      return "Look at the running daemon";
    case CommandGroup::kOffline:
      return "Without the daemon";
  }
  return "";
}

std::span<const CommandRow> Commands() {
  return kCommands;
}

std::span<const OptionRow> GlobalOptions() {
  return kGlobalOptions;
}

std::vector<OptionRow> GlobalOptionsOf(const CommandRow& command) {
  std::vector<OptionRow> rows(kGlobalOptions.begin(), kGlobalOptions.end());
  if (!command.reads_config) {
    std::erase_if(rows, [](const OptionRow& row) { return row.name == "config"; });
  }
  return rows;
}

const CommandRow* FindCommand(std::string_view name) {
  const auto* row = std::ranges::find(kCommands, name, &CommandRow::name);
  return row == kCommands.end() ? nullptr : &*row;
}

}  // namespace tidegate
