#include "supervisor/file_watch.h"

#include <algorithm>
#include <deque>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "common/test_fault.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

namespace fs = std::filesystem;

// As the kernel: more links on one way are a circle.
constexpr int kMostLinks = 40;

std::string NearestThatIsThere(fs::path directory) {
  std::error_code ignored;
  while (!fs::is_directory(directory, ignored) && directory.has_relative_path()) {
    directory = directory.parent_path();
  }
  return directory.string();
}

}  // namespace

FileWatch::FileWatch(Loop& loop, Callback on_change, StartEvent start_event)
    : loop_(loop),
      on_change_(on_change),
      start_event_(start_event),
      due_(loop.timers(), Bind<&FileWatch::OnDue>(this)),
      look_again_(loop.timers(), Bind<&FileWatch::OnLookAgain>(this)) {}

FileWatch::~FileWatch() {
  StopAll();
}

void FileWatch::Watch(std::vector<std::string> files) {
  files_ = std::move(files);
  changed_.reset();
  due_.Disarm();
  StartAll();
  if (!files_.empty()) {
    NoteChange();
  }
}

std::set<std::string> FileWatch::DirectoriesOf(const std::string& file) {
  std::set<std::string> directories;
  fs::path at = "/";
  fs::path whole = fs::path(file).lexically_normal().relative_path();
  std::deque<fs::path> way(whole.begin(), whole.end());
  for (int links = 0; !way.empty();) {
    const fs::path step = std::exchange(way.front(), {});
    way.pop_front();
    std::error_code no_link;
    const fs::path target = fs::read_symlink(at / step, no_link);
    if (step == "..") {
      at = at.parent_path();
    } else if (no_link || ++links > kMostLinks) {
      at /= step;
    } else {
      directories.insert(at.string());
      at = target.is_absolute() ? fs::path("/") : at;
      const fs::path rest = target.relative_path();
      way.insert(way.begin(), rest.begin(), rest.end());
    }
  }
  directories.insert(NearestThatIsThere(at.parent_path()));
  return directories;
}

void FileWatch::StartAll() {
  StopAll();
  std::set<std::string> directories;
  for (const std::string& file : files_) {
    directories.merge(DirectoriesOf(file));
  }
  int fault = 0;
  std::string where;
  for (const std::string& directory : directories) {
    int error = Start(directory);
    if (error != 0 && fault == 0) {
      fault = error;
      where = directory;
    }
  }
  if (fault != 0 && !said_blind_) {
    LogEvent(LogLevel::kWarn,
             fmt::format("cannot watch {}: {}; its files are looked at every {} (the limits are in "
                         "/proc/sys/fs/inotify)",
                         where, uv_strerror(fault), FormatDuration(kLookAgain)));
  }
  said_blind_ = fault != 0;
  look_again_.Arm(fault != 0 ? kLookAgain : kNever);
}

int FileWatch::Start(const std::string& directory) {
  if (FaultAt("supervisor", "watch") == Fault::kFail) {
    return UV_ENOSPC;
  }
  auto handle = std::make_unique<Handle>();
  int error = uv_fs_event_init(loop_.uv(), &handle->event);
  if (error != 0) {
    return error;
  }
  handle->event.data = handle.get();
  handle->watch = this;
  handles_.push_back(handle.release());
  return start_event_(&handles_.back()->event, &FileWatch::OnEvent, directory.c_str(), 0);
}

void FileWatch::StopAll() {
  for (Handle* handle : std::exchange(handles_, {})) {
    handle->watch = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&handle->event),
             [](uv_handle_t* closed) { delete static_cast<Handle*>(closed->data); });
  }
}

void FileWatch::OnEvent(uv_fs_event_t* event, const char*, int, int) {
  FileWatch* watch = static_cast<Handle*>(event->data)->watch;
  if (watch != nullptr) {
    watch->NoteChange();
  }
}

void FileWatch::NoteChange() {
  const TimePoint now = loop_.now();
  if (!changed_) {
    changed_ = now;
  }
  const TimePoint latest = *changed_ + static_cast<TimePoint>(kPatience.count());
  const Duration left(static_cast<std::int64_t>(latest > now ? latest - now : 0));
  due_.Arm(std::min(kQuiet, left));
}

// The links may lead elsewhere now, and a directory that was replaced is watched no more.
void FileWatch::OnDue() {
  changed_.reset();
  StartAll();
  on_change_();
}

void FileWatch::OnLookAgain() {
  OnDue();
}

}  // namespace tidegate
