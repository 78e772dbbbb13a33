#pragma once

// The command line as a table. One row of a command is its help, its options, its completion and
// what runs; the CLI11 front end (arguments.h), help (help.h) and completion.h only read it.
// Everything here lives for ever.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "common/units.h"

namespace tidegate {

struct Invocation;
struct Outputs;

// Exit codes of INTERFACE section 1.
enum class ExitCode : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kUnhealthy = 3,
  kNoDaemon = 4,
  kPermission = 5,
  kConflict = 6,
  kTimedOut = 7,
  kRolledBack = 8,
  kConfigInvalid = 78,
};

// What an option or argument takes: decides its validation, its completion, and how it is sent to
// the daemon.
enum class ValueKind : std::uint8_t {
  kFlag,      // nothing; sent as true
  kText,      // any text that is not empty
  kFile,      // a path; sent absolute
  kCount,     // a whole number within `range`; sent as a number
  kDuration,  // as in the configuration: 30s, 1m30s, off; sent as that text
  kChoice,    // one of `choices`
};

// Both ends included.
struct CountRange {
  std::uint64_t least = 0;
  std::uint64_t most = 0xffff'ffff;
};

struct OptionRow {
  // Without the dashes, e.g. "config".
  std::string_view name;
  // 0: no short form.
  char letter = 0;
  ValueKind kind = ValueKind::kFlag;
  // What help calls the value; empty for a flag.
  std::string_view metavar = {};
  std::string_view help = {};
  std::span<const std::string_view> choices = {};
  CountRange range = {};
  bool repeatable = false;
  bool required = false;
  // Options of the same command that contradict it.
  std::span<const std::string_view> not_with = {};
};

// A positional argument; a command has at most one.
struct ArgumentRow {
  std::string_view metavar;
  ValueKind kind = ValueKind::kText;
  std::string_view help = {};
  std::span<const std::string_view> choices = {};
  bool required = false;
};

enum class CommandGroup : std::uint8_t { kServe, kChange, kLook, kOffline };
std::string_view TitleOf(CommandGroup group);

struct CommandRow {
  std::string_view name;
  CommandGroup group;
  // One line, for the list of commands.
  std::string_view summary;
  // Sentences for `tidegate NAME --help`, separated by '\n'.
  std::string_view details;
  // Without "tidegate"; may be empty.
  std::string_view example;
  std::span<const ArgumentRow> arguments;
  std::span<const OptionRow> options;
  // How long the daemon may take when --timeout is not given; kNever for what drains connections.
  Duration timeout;
  ExitCode (*run)(const Invocation& invocation, Outputs& outputs);
  // Takes --config. The others would ignore it.
  bool reads_config = false;
};

// In the order of help.
std::span<const CommandRow> Commands();
// What every command takes; --config for those that read one.
std::span<const OptionRow> GlobalOptions();
std::vector<OptionRow> GlobalOptionsOf(const CommandRow& command);
// Null if there is none of that name.
const CommandRow* FindCommand(std::string_view name);

}  // namespace tidegate
