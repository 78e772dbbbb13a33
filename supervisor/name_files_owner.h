#pragma once

// resolv.conf and /etc/hosts for the workers, which open no files: looked at now and then, because
// where they are mounted alone (a container) no directory tells of a change.
//
//   1. What Look has not told of is not in the descriptors.
//   2. A file that is not there is an empty one. One that cannot be read is as it was before, and
//      is looked at again; the log says why, once until it can be.
//   3. That a file has become empty is believed when it is so at the next look, too: who writes it
//      in place begins so.

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

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

  // True: a text is another than before, or it is the first look, and workers are to be told. Costs
  // two stat() where nothing has changed.
  bool Look();
  // Grows with every change; 0 before the first look.
  std::uint64_t version() const { return version_; }
  // Sealed memfds with the texts: resolv.conf, hosts. Those of before the first look are none.
  std::array<int, 2> fds() const { return {files_[0].memfd.get(), files_[1].memfd.get()}; }

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
  struct File {
    std::string path;
    std::string_view memfd_name;
    // As it was told; the memfd has it. None before the first look.
    std::string text{};
    UniqueFd memfd{};
    Mark mark{};
    // Whatever its mark says: it may change again without another one, or was not understood.
    bool look_again = true;
    bool was_empty = false;
    // The fault that was said last; empty: none.
    std::string fault{};
  };
  static Mark MarkOf(const std::string& path);
  static bool LookAt(File& file);
  static bool IsBeingWritten(File& file, const std::string& text);
  // True: it is another one.
  static Result<bool> Take(File& file, std::string text);
  static void Say(File& file, const Error& error);

  std::array<File, 2> files_;
  std::uint64_t version_ = 0;
};

}  // namespace tidegate
