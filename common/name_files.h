#pragma once

// What says on this machine how names become addresses: resolv.conf and /etc/hosts, as texts. The
// supervisor reads them for its workers, which open no files.

#include <string>

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

// A file that is not there, that we may not read, that is none, or that has more than 16 MiB (some
// keep lists of all the world's advertisers in /etc/hosts) is an empty one: there is no better
// answer, and who asks for a name hears what becomes of it.
NameFiles ReadNameFiles(const NameFilePaths& paths = {});

}  // namespace tidegate
