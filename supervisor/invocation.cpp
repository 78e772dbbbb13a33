#include "supervisor/invocation.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

namespace tidegate {
namespace {

constexpr const char* kSystemSocket = "/run/tidegate/control.sock";
constexpr const char* kDefaultConfig = "/etc/tidegate/tidegate.json";

std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// Where a user's own files of this session belong; not checked for /tmp, where the supervisor makes
// the folder and refuses one that is not its own.
std::string RuntimeFolder() {
  std::string folder = FromEnvironment("XDG_RUNTIME_DIR");
  if (!folder.empty()) {
    return folder + "/tidegate";
  }
  folder = fmt::format("/run/user/{}", ::getuid());
  struct stat status{};
  if (::stat(folder.c_str(), &status) == 0 && status.st_uid == ::getuid()) {
    return folder + "/tidegate";
  }
  return fmt::format("/tmp/tidegate-{}", ::getuid());
}

std::string ChosenSocket(const Invocation& invocation) {
  return invocation.Has("socket") ? invocation.Get("socket") : FromEnvironment("TIDEGATE_SOCKET");
}

}  // namespace

std::string ConfigPathOf(const Invocation& invocation) {
  if (invocation.Has("config")) {
    return invocation.Get("config");
  }
  std::string path = FromEnvironment("TIDEGATE_CONFIG");
  return path.empty() ? kDefaultConfig : path;
}

std::string SocketPathOf(const Invocation& invocation) {
  std::string path = ChosenSocket(invocation);
  if (!path.empty()) {
    return path;
  }
  return ::geteuid() == 0 ? kSystemSocket : RuntimeFolder() + "/control.sock";
}

std::string ClientSocketPathOf(const Invocation& invocation) {
  std::string path = SocketPathOf(invocation);
  if (ChosenSocket(invocation).empty() && ::access(path.c_str(), F_OK) != 0 &&
      ::access(kSystemSocket, F_OK) == 0) {
    return kSystemSocket;
  }
  return path;
}

Duration TimeoutOf(const Invocation& invocation) {
  if (!invocation.Has("timeout")) {
    return invocation.command->timeout;
  }
  return ParseDuration(invocation.Get("timeout")).value_or(invocation.command->timeout);
}

}  // namespace tidegate
