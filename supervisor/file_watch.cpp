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

FileWatch::Way FileWatch::WayTo(const std::string& file) {
  Way way;
  fs::path at = "/";
  const fs::path whole = fs::path(file).relative_path();
  std::deque<fs::path> steps(whole.begin(), whole.end());
  for (int links = 0; !steps.empty();) {
    const fs::path step = std::exchange(steps.front(), {});
    steps.pop_front();
    if (step.empty() || step == ".") {
      continue;
    }
    if (step == "..") {
      at = at.parent_path();
      continue;
    }
    std::error_code ignored;
    if (fs::is_directory(at, ignored)) {
      way[at.string()].insert(step.string());
    }
    std::error_code no_link;
    const fs::path target = fs::read_symlink(at / step, no_link);
    if (no_link || ++links > kMostLinks) {
      at /= step;
    } else {
      at = target.is_absolute() ? fs::path("/") : at;
      const fs::path rest = target.relative_path();
      steps.insert(steps.begin(), rest.begin(), rest.end());
    }
  }
  return way;
}

void FileWatch::StartAll() {
  StopAll();
  // In this order a directory is watched before those that are in it: one that is replaced
  // meanwhile is told of.
  Way ways;
  for (const std::string& file : files_) {
    for (auto& [directory, names] : WayTo(file)) {
      ways[directory].merge(names);
    }
  }
  int fault = 0;
  std::string where;
  for (auto& [directory, names] : ways) {
    int error = Start(directory, std::move(names));
    if (error != 0 && fault == 0) {
      fault = error;
      where = directory;
    }
  }
  if (fault != 0 && !said_blind_) {
    LogEvent(LogLevel::kWarn,
             fmt::format("cannot watch {}: {}; the files are looked at every {} (the limits are in "
                         "/proc/sys/fs/inotify)",
                         where, uv_strerror(fault), FormatDuration(kLookAgain)));
  }
  said_blind_ = fault != 0;
  look_again_.Arm(fault != 0 ? kLookAgain : kNever);
}

int FileWatch::Start(const std::string& directory, std::set<std::string> names) {
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
  handle->names = std::move(names);
  // What happens to the directory itself comes with its own name.
  handle->names.insert(fs::path(directory).filename().string());
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

void FileWatch::OnEvent(uv_fs_event_t* event, const char* name, int, int) {
  const Handle& handle = *static_cast<Handle*>(event->data);
  if (handle.watch != nullptr && (name == nullptr || handle.names.contains(name))) {
    handle.watch->NoteChange();
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
