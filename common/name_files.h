#pragma once

// What says on this machine how names become addresses: resolv.conf and /etc/hosts, as texts. The
// supervisor reads them for its workers, which open no files.

#include <string>

#include "common/result.h"

namespace tidegate {

struct NameFilePaths {
  std::string resolv_conf = "/etc/resolv.conf";
  std::string hosts = "/etc/hosts";
};

struct NameFiles {
  std::string resolv_conf;
  std::string hosts;
  bool operator==(const NameFiles&) const = default;
};

// The text of one. A file that is not there, that we may not read, or that is none (a folder, a
// pipe) is an empty one: that is how it is meant, and who asks for a name hears what becomes of it.
// Error: kConfig, with the path, for one of more than 16 MiB (some keep lists of all the world's
// advertisers in /etc/hosts); kSystem for what may pass, as too many open files: that says nothing
// of the file.
Result<std::string> ReadNameFile(const std::string& path);
// Both. One that there is an error of is empty.
NameFiles ReadNameFiles(const NameFilePaths& paths = {});

}  // namespace tidegate
