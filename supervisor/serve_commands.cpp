// `run` and `proxy`: the invocation becomes the daemon.

#include <unistd.h>

#include <charconv>

#include <fmt/format.h>

#include "supervisor/descriptor_store.h"
#include "supervisor/invocation.h"
#include "supervisor/output.h"
#include "supervisor/proxy_config.h"
#include "supervisor/supervisor.h"

namespace tidegate {
namespace {

Result<RunOptions> CommonOptions(const Invocation& invocation) {
  RunOptions options;
  Result<std::string> socket_path = SocketPathOf(invocation);
  if (!socket_path) {
    return Fail(socket_path.error());
  }
  options.socket_path = *socket_path;
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
  std::string config_path = ConfigPathOf(invocation);
  // After a crash what was in force serves on without a file.
  if (!invocation.Has("config") && ::access(config_path.c_str(), F_OK) != 0 &&
      !DescriptorStore::BringsConfig()) {
    outputs.Complain(fmt::format("no configuration at {}: name one with -c, or try \"tidegate {}\"",
                                 config_path, FindCommand("proxy")->example));
    return ExitCode::kConfigInvalid;
  }
  Result<RunOptions> options = CommonOptions(invocation);
  if (!options) {
    outputs.Complain(options.error().ToString());
    return ExitCode::kFailed;
  }
  options->config_path = config_path;
  return static_cast<ExitCode>(RunSupervisor(std::move(*options)));
}

ExitCode ProxyCommand(const Invocation& invocation, Outputs& outputs) {
  auto text = ProxyConfigText(invocation.Get("from"), invocation.All("to"));
  if (!text) {
    outputs.Complain(text.error().ToString());
    return ExitCode::kUsage;
  }
  Result<RunOptions> options = CommonOptions(invocation);
  if (!options) {
    outputs.Complain(options.error().ToString());
    return ExitCode::kFailed;
  }
  options->config_path = "tidegate proxy";
  options->config_text = *text;
  return static_cast<ExitCode>(RunSupervisor(std::move(*options)));
}

}  // namespace tidegate
