// `run` and `proxy`: the invocation becomes the daemon.

#include <unistd.h>

#include <charconv>

#include <fmt/format.h>

#include "supervisor/invocation.h"
#include "supervisor/output.h"
#include "supervisor/proxy_config.h"
#include "supervisor/supervisor.h"

namespace tidegate {
namespace {

RunOptions CommonOptions(const Invocation& invocation) {
  RunOptions options;
  options.socket_path = SocketPathOf(invocation);
  options.pidfile = invocation.Get("pidfile");
  options.argv = invocation.argv;
  if (invocation.Has("workers")) {
    std::string text = invocation.Get("workers");
    unsigned workers = 0;
    std::from_chars(text.data(), text.data() + text.size(), workers);
    options.workers = workers;
  }
  return options;
}

}  // namespace

ExitCode RunCommand(const Invocation& invocation, Outputs& outputs) {
  RunOptions options = CommonOptions(invocation);
  options.config_path = ConfigPathOf(invocation);
  if (!invocation.Has("config") && ::access(options.config_path.c_str(), F_OK) != 0) {
    outputs.Complain(fmt::format("no configuration at {}: name one with -c, or try \"tidegate {}\"",
                                 options.config_path, FindCommand("proxy")->example));
    return ExitCode::kConfigInvalid;
  }
  return static_cast<ExitCode>(RunSupervisor(std::move(options)));
}

ExitCode ProxyCommand(const Invocation& invocation, Outputs& outputs) {
  auto text = ProxyConfigText(invocation.Get("from"), invocation.All("to"));
  if (!text) {
    outputs.Complain(text.error().ToString());
    return ExitCode::kUsage;
  }
  RunOptions options = CommonOptions(invocation);
  options.config_path = "tidegate proxy";
  options.config_text = *text;
  return static_cast<ExitCode>(RunSupervisor(std::move(options)));
}

}  // namespace tidegate
