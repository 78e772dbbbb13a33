#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "common/result.h"

namespace tidegate {

struct FileText {
  std::string text;
  // Which file it is, whatever it is called.
  std::pair<dev_t, ino_t> identity;
  // Its permissions, as in st_mode.
  mode_t mode = 0;
};

// What may be read: also a pipe, which somebody must write to, or nothing that may keep us waiting.
enum class FileKind : std::uint8_t { kAny, kRegular };

// The whole file. Error: kConfig, with the reason in words; also for more than `max_bytes`.
Result<FileText> ReadFile(const std::string& path, std::size_t max_bytes,
                          FileKind kind = FileKind::kAny);
// The same of one that is open, from where it is on.
Result<FileText> ReadOpenFile(int fd, std::size_t max_bytes, FileKind kind = FileKind::kAny);

}  // namespace tidegate
