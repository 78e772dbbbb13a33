#include "common/name_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "common/file_text.h"
#include "common/unique_fd.h"
#include "common/units.h"

namespace tidegate {
namespace {

constexpr std::size_t kMostBytes = std::size_t{16} << 20;

bool SaysThatThereIsNone(int system_errno) {
  return system_errno == ENOENT || system_errno == ENOTDIR || system_errno == EACCES;
}

}  // namespace

Result<std::string> ReadNameFile(const std::string& path) {
  // A pipe at such a place must not keep anybody waiting.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    if (SaysThatThereIsNone(errno)) {
      return {};
    }
    return Fail(Error::System(errno, "read " + path));
  }
  if (!S_ISREG(status.st_mode)) {
    return {};
  }
  // Before it is read: it may be asked for every second.
  if (std::cmp_greater(status.st_size, kMostBytes)) {
    return Fail(ErrorKind::kConfig,
                fmt::format("{} is not read: it has more than {}", path, FormatSize(kMostBytes)));
  }
  Result<FileText> file = ReadOpenFile(fd.get(), kMostBytes);
  if (!file) {
    return Fail(ErrorKind::kConfig, fmt::format("read {}: {}", path, file.error().detail()));
  }
  return std::move(file->text);
}

NameFiles ReadNameFiles(const NameFilePaths& paths) {
  return NameFiles{.resolv_conf = ReadNameFile(paths.resolv_conf).value_or(std::string()),
                   .hosts = ReadNameFile(paths.hosts).value_or(std::string())};
}

}  // namespace tidegate
