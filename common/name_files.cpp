#include "common/name_files.h"

#include <cstddef>
#include <utility>

#include "common/file_text.h"

namespace tidegate {
namespace {

constexpr std::size_t kMostBytes = std::size_t{16} << 20;

std::string TextIn(const std::string& path) {
  // A pipe at such a place must not keep anybody waiting.
  Result<FileText> file = ReadFile(path, kMostBytes, FileKind::kRegular);
  return file ? std::move(file->text) : std::string();
}

}  // namespace

NameFiles ReadNameFiles(const NameFilePaths& paths) {
  return NameFiles{.resolv_conf = TextIn(paths.resolv_conf), .hosts = TextIn(paths.hosts)};
}

}  // namespace tidegate
