#include "supervisor/name_files_owner.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "common/control.h"

namespace tidegate {
namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;
// Coarser than the clock of any file system that has a file of /etc.
constexpr std::int64_t kRacy = 2 * kNanoseconds;

std::int64_t NanosecondsOf(const timespec& time) {
  return std::int64_t{time.tv_sec} * kNanoseconds + time.tv_nsec;
}

}  // namespace

NameFilesOwner::NameFilesOwner(NameFilePaths paths) : paths_(std::move(paths)) {}

NameFilesOwner::Mark NameFilesOwner::MarkOf(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    return {};
  }
  return Mark{.device = status.st_dev,
              .inode = status.st_ino,
              .size = status.st_size,
              .modified = NanosecondsOf(status.st_mtim),
              .changed = NanosecondsOf(status.st_ctim)};
}

Result<bool> NameFilesOwner::Look() {
  std::array<Mark, 2> marks = {MarkOf(paths_.resolv_conf), MarkOf(paths_.hosts)};
  if (version_ > 0 && !may_be_racy_ && marks == marks_) {
    return false;
  }
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  bool may_be_racy = std::ranges::any_of(
      marks, [&now](const Mark& mark) { return mark.changed > NanosecondsOf(now) - kRacy; });
  NameFiles files = ReadNameFiles(paths_);
  if (version_ == 0 || files != files_) {
    Result<UniqueFd> resolv_conf = MakeMemfd("tidegate-resolv.conf", files.resolv_conf);
    Result<UniqueFd> hosts = MakeMemfd("tidegate-hosts", files.hosts);
    if (!resolv_conf || !hosts) {
      return Fail(!resolv_conf ? resolv_conf.error() : hosts.error());
    }
    resolv_conf_ = std::move(*resolv_conf);
    hosts_ = std::move(*hosts);
    files_ = std::move(files);
    ++version_;
    marks_ = marks;
    may_be_racy_ = may_be_racy;
    return true;
  }
  marks_ = marks;
  may_be_racy_ = may_be_racy;
  return false;
}

}  // namespace tidegate
