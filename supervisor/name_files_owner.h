#pragma once

// resolv.conf and /etc/hosts for the workers, which open no files: looked at now and then, because
// where they are mounted alone (a container) no directory tells of a change.
//
//   1. What Look has not told of is not in the descriptors.
//   2. A file that cannot be read is an empty one; so is one that is not there.

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <optional>

#include "common/name_files.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "common/units.h"

namespace tidegate {

class NameFilesOwner {
 public:
  // How often to look, where somebody has names.
  static constexpr Duration kLookEvery = std::chrono::seconds(1);

  explicit NameFilesOwner(NameFilePaths paths = {});

  // True: the texts are others than before, or it is the first look, and workers are to be told.
  // Costs two stat() where nothing has changed. Error: kSystem; the texts are those of before.
  Result<bool> Look();
  // Grows with every change; 0 before the first look.
  std::uint64_t version() const { return version_; }
  // Sealed memfds with the texts: resolv.conf, hosts. Those of before the first look are none.
  std::array<int, 2> fds() const { return {resolv_conf_.get(), hosts_.get()}; }

 private:
  // What tells a file from the same path's file of before.
  struct Mark {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = -1;
    std::int64_t modified = 0;
    std::int64_t changed = 0;
    bool operator==(const Mark&) const = default;
  };
  static Mark MarkOf(const std::string& path);

  NameFilePaths paths_;
  std::array<Mark, 2> marks_;
  // So fresh a file may change again without another mark.
  bool may_be_racy_ = false;
  NameFiles files_;
  UniqueFd resolv_conf_;
  UniqueFd hosts_;
  std::uint64_t version_ = 0;
};

}  // namespace tidegate
