#pragma once

// One call of the program, understood: which command, with what. And the functions that the rows of
// commands.cpp name.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "supervisor/commands.h"

namespace tidegate {

enum class ColorMode : std::uint8_t { kAuto, kAlways, kNever };

struct Invocation {
  // Never null once parsed.
  const CommandRow* command = nullptr;
  // Valid for their kind; a flag that was given has an empty list. Keys live in the table.
  std::map<std::string_view, std::vector<std::string>> options;
  // Empty or one.
  std::vector<std::string> arguments;
  // As main() got it.
  std::vector<std::string> argv;
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  ColorMode color = ColorMode::kAuto;

  bool Has(std::string_view option) const { return options.contains(option); }
  // The last value given; empty if none was.
  std::string Get(std::string_view option) const {
    auto found = options.find(option);
    return found == options.end() || found->second.empty() ? std::string() : found->second.back();
  }
  std::vector<std::string> All(std::string_view option) const {
    auto found = options.find(option);
    return found == options.end() ? std::vector<std::string>() : found->second;
  }
};

// --config, TIDEGATE_CONFIG, the default.
std::string ConfigPathOf(const Invocation& invocation);
// Where `run` puts its socket: --socket, TIDEGATE_SOCKET, /run/tidegate/control.sock as root,
// $XDG_RUNTIME_DIR/tidegate/control.sock otherwise; without that variable /run/user/UID if it is
// there, else /tmp/tidegate-UID, which is made. Error: EnsureOwnFolder's, of the last one only.
Result<std::string> SocketPathOf(const Invocation& invocation);
// Where a client looks: the same, but who is not root and has no daemon of their own means the
// system's. Makes nothing.
Result<std::string> ClientSocketPathOf(const Invocation& invocation);
// In /tmp anybody may take a name first, and then hear our commands or answer them. Error, which
// names `folder` and the way out: it is no directory itself, another user's, or others may write to
// it. One that is not there is made for us alone if `make`, and otherwise no error.
Result<> EnsureOwnFolder(const std::string& folder, bool make);
// --timeout, or the row's.
Duration TimeoutOf(const Invocation& invocation);

// serve_commands.cpp
ExitCode RunCommand(const Invocation& invocation, Outputs& outputs);
ExitCode ProxyCommand(const Invocation& invocation, Outputs& outputs);
// daemon_commands.cpp
ExitCode DaemonCommand(const Invocation& invocation, Outputs& outputs);
ExitCode StatusCommand(const Invocation& invocation, Outputs& outputs);
ExitCode CertCommand(const Invocation& invocation, Outputs& outputs);
// offline_commands.cpp
ExitCode CheckCommand(const Invocation& invocation, Outputs& outputs);
ExitCode CertCheckCommand(const Invocation& invocation, Outputs& outputs);
ExitCode SchemaCommand(const Invocation& invocation, Outputs& outputs);
ExitCode CompletionCommand(const Invocation& invocation, Outputs& outputs);
ExitCode VersionCommand(const Invocation& invocation, Outputs& outputs);

}  // namespace tidegate
