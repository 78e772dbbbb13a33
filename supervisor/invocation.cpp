#include "supervisor/invocation.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include <fmt/format.h>

namespace tidegate {
namespace {

constexpr const char* kSystemSocket = "/run/tidegate/control.sock";
constexpr const char* kDefaultConfig = "/etc/tidegate/tidegate.json";

std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// Where a user's own files of this session belong.
Result<std::string> RuntimeFolder(bool make) {
  std::string folder = FromEnvironment("XDG_RUNTIME_DIR");
  if (!folder.empty()) {
    return folder + "/tidegate";
  }
  folder = fmt::format("/run/user/{}", ::getuid());
  struct stat status{};
  if (::stat(folder.c_str(), &status) == 0 && status.st_uid == ::getuid()) {
    return folder + "/tidegate";
  }
  folder = fmt::format("/tmp/tidegate-{}", ::getuid());
  Result<> own = EnsureOwnFolder(folder, make);
  if (!own) {
    return Fail(own.error());
  }
  return folder;
}

std::string ChosenSocket(const Invocation& invocation) {
  return invocation.Has("socket") ? invocation.Get("socket") : FromEnvironment("TIDEGATE_SOCKET");
}

Result<std::string> SocketPath(const Invocation& invocation, bool make) {
  std::string path = ChosenSocket(invocation);
  if (!path.empty()) {
    return path;
  }
  if (::geteuid() == 0) {
    return kSystemSocket;
  }
  Result<std::string> folder = RuntimeFolder(make);
  if (!folder) {
    return Fail(folder.error());
  }
  return *folder + "/control.sock";
}

}  // namespace

std::string ConfigPathOf(const Invocation& invocation) {
  if (invocation.Has("config")) {
    return invocation.Get("config");
  }
  std::string path = FromEnvironment("TIDEGATE_CONFIG");
  return path.empty() ? kDefaultConfig : path;
}

Result<std::string> SocketPathOf(const Invocation& invocation) {
  return SocketPath(invocation, true);
}

Result<std::string> ClientSocketPathOf(const Invocation& invocation) {
  Result<std::string> path = SocketPath(invocation, false);
  if (path && ChosenSocket(invocation).empty() && ::access(path->c_str(), F_OK) != 0 &&
      ::access(kSystemSocket, F_OK) == 0) {
    return kSystemSocket;
  }
  return path;
}

Result<> EnsureOwnFolder(const std::string& folder, bool make) {
  if (make && ::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return Fail(Error::System(errno, "make the folder " + folder));
  }
  struct stat status{};
  // Not through a link: that is another name's folder.
  if (::lstat(folder.c_str(), &status) != 0) {
    return errno == ENOENT && !make ? Result<>()
                                    : Fail(Error::System(errno, "look at the folder " + folder));
  }
  const char* fault = !S_ISDIR(status.st_mode)                      ? "is no folder"
                      : status.st_uid != ::geteuid()                ? "belongs to another user"
                      : (status.st_mode & (S_IWGRP | S_IWOTH)) != 0 ? "may be written to by others"
                                                                    : nullptr;
  if (fault != nullptr) {
    return Fail(ErrorKind::kConfig,
                fmt::format("{} {}: a control socket there is not trusted; remove it, or choose a "
                            "place with --socket",
                            folder, fault));
  }
  return {};
}

Duration TimeoutOf(const Invocation& invocation) {
  if (!invocation.Has("timeout")) {
    return invocation.command->timeout;
  }
  return ParseDuration(invocation.Get("timeout")).value_or(invocation.command->timeout);
}

}  // namespace tidegate
