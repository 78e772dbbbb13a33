#pragma once

// Notices that files change on disk: by inotify on every directory that leads to them, because
// tools replace files, and links and directories on the way to them, more often than they write
// into them (certbot; the ..data of Kubernetes; a release that is moved into place). What has
// changed, if anything, is the owner's to find out.
//
//   1. A change that comes while somebody looks is told of once more: directories are watched
//   first, files read after.
//   2. Many changes are one: it is told when it has been quiet for kQuiet, at the latest kPatience
//   after the first.
//   3. A directory that is not there is waited for in the nearest one above that is. What else
//   happens in a directory than to the names that lead on, which in /tmp is much, is nothing.
//   4. Where the system does not let us watch (inotify has limits), that is said once, and it is
//   told every kLookAgain as if something had changed.

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <uv.h>

#include "common/loop.h"

namespace tidegate {

class FileWatch {
 public:
  static constexpr Duration kQuiet = std::chrono::seconds(1);
  static constexpr Duration kPatience = std::chrono::seconds(5);
  static constexpr Duration kLookAgain = std::chrono::seconds(60);

  // uv_fs_event_start; a test has its own that fails.
  using StartEvent = int (*)(uv_fs_event_t*, uv_fs_event_cb, const char*, unsigned);

  // `on_change` may call Watch; it must not destroy this.
  FileWatch(Loop& loop, Callback on_change, StartEvent start_event = &uv_fs_event_start);
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;
  // The loop must turn once more (RunUntilClosed).
  ~FileWatch();

  // From now on these, absolute paths; they need not exist. `on_change` comes after kQuiet also if
  // nothing changes: nobody can tell what has before. None: `on_change` does not come any more.
  void Watch(std::vector<std::string> files);

  // By directory, without links in its own path: the names in it that lead on to `file`, or are it.
  // Only directories that are there. For tests.
  using Way = std::map<std::string, std::set<std::string>>;
  static Way WayTo(const std::string& file);

 private:
  struct Handle {
    uv_fs_event_t event;
    // Null once it is closed.
    FileWatch* watch;
    // Of interest in this directory.
    std::set<std::string> names;
  };
  static void OnEvent(uv_fs_event_t* event, const char* name, int events, int status);

  void StartAll();
  // A libuv error; 0: none.
  int Start(const std::string& directory, std::set<std::string> names);
  void StopAll();
  void NoteChange();
  void OnDue();
  void OnLookAgain();

  Loop& loop_;
  Callback on_change_;
  StartEvent start_event_;
  std::vector<std::string> files_;
  std::vector<Handle*> handles_;
  // When the first change came that nobody was told of.
  std::optional<TimePoint> changed_;
  Deadline due_;
  Deadline look_again_;
  bool said_blind_ = false;
};

}  // namespace tidegate
