#include "common/file_text.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

#include <fmt/format.h>

#include "common/unique_fd.h"
#include "common/units.h"

namespace tidegate {
namespace {

std::string ReasonOf(int system_errno) {
  return std::generic_category().message(system_errno);
}

}  // namespace

Result<FileText> ReadFile(const std::string& path, std::size_t max_bytes, FileKind kind) {
  const bool regular = kind == FileKind::kRegular;
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | (regular ? O_NONBLOCK : 0)));
  if (!fd) {
    return Fail(ErrorKind::kConfig, ReasonOf(errno));
  }
  return ReadOpenFile(fd.get(), max_bytes, kind);
}

Result<FileText> ReadOpenFile(int fd, std::size_t max_bytes, FileKind kind) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    return Fail(ErrorKind::kConfig, ReasonOf(errno));
  }
  if (kind == FileKind::kRegular && !S_ISREG(status.st_mode)) {
    return Fail(ErrorKind::kConfig, S_ISDIR(status.st_mode) ? ReasonOf(EISDIR) : "no regular file");
  }
  FileText file{{}, {status.st_dev, status.st_ino}, status.st_mode};
  std::array<char, 65536> buffer{};
  while (file.text.size() <= max_bytes) {
    ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return Fail(ErrorKind::kConfig, ReasonOf(errno));
    }
    if (count == 0) {
      return file;
    }
    file.text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return Fail(ErrorKind::kConfig, "more than " + FormatSize(max_bytes));
}

}  // namespace tidegate
