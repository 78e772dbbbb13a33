#include "supervisor/name_files_owner.h"

#include <ctime>
#include <utility>

#include "common/control.h"
#include "common/name_files.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;
// Coarser than the clock of any file system that has a file of /etc.
constexpr std::int64_t kRacy = 2 * kNanoseconds;

std::int64_t NanosecondsOf(const timespec& time) {
  return std::int64_t{time.tv_sec} * kNanoseconds + time.tv_nsec;
}

}  // namespace

NameFilesOwner::NameFilesOwner(NameFilePaths paths)
    : files_{File{.path = std::move(paths.resolv_conf), .memfd_name = "tidegate-resolv.conf"},
             File{.path = std::move(paths.hosts), .memfd_name = "tidegate-hosts"}} {}

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

void NameFilesOwner::Say(File& file, const Error& error) {
  std::string fault = error.ToString();
  if (fault != file.fault) {
    LogEvent(LogLevel::kWarn, fault);
    file.fault = std::move(fault);
  }
}

// Whether to wait for the next look.
bool NameFilesOwner::IsBeingWritten(File& file, const std::string& text) {
  const bool was_empty = std::exchange(file.was_empty, text.empty());
  return text.empty() && !was_empty && !file.text.empty();
}

Result<bool> NameFilesOwner::Take(File& file, std::string text) {
  if (file.memfd && text == file.text) {
    return false;
  }
  Result<UniqueFd> memfd = MakeMemfd(file.memfd_name, text);
  if (!memfd) {
    return Fail(std::move(memfd).error());
  }
  file.memfd = std::move(*memfd);
  file.text = std::move(text);
  return true;
}

bool NameFilesOwner::LookAt(File& file) {
  const Mark mark = MarkOf(file.path);
  if (!file.look_again && mark == file.mark) {
    return false;
  }
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  file.look_again = true;
  Result<std::string> text = ReadNameFile(file.path);
  if (!text) {
    Say(file, text.error());
    return !file.memfd && Take(file, {}).value_or(false);
  }
  if (IsBeingWritten(file, *text)) {
    return false;
  }
  Result<bool> is_another = Take(file, std::move(*text));
  if (!is_another) {
    Say(file, is_another.error());
    return false;
  }
  file.fault.clear();
  file.mark = mark;
  file.look_again = mark.changed > NanosecondsOf(now) - kRacy;
  return *is_another;
}

bool NameFilesOwner::Look() {
  bool has_changed = false;
  for (File& file : files_) {
    has_changed = LookAt(file) || has_changed;
  }
  // Before the first look workers go by what they have read themselves: better than by one of two.
  const bool has_both = files_[0].memfd && files_[1].memfd;
  has_changed = has_both && (has_changed || version_ == 0);
  version_ += has_changed ? 1 : 0;
  return has_changed;
}

}  // namespace tidegate
