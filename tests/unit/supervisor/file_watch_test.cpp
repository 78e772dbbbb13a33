#include "supervisor/file_watch.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

namespace fs = std::filesystem;

class FileWatchTest : public ::testing::Test {
 protected:
  FileWatchTest() {
    char pattern[] = "/tmp/tidegate-watch-XXXXXX";
    folder = mkdtemp(pattern);
    Write("file");
  }
  ~FileWatchTest() override {
    watch.reset();
    loop.RunUntilClosed();
    fs::remove_all(folder);
  }

  std::string Path(const std::string& name) const { return folder + "/" + name; }
  void Write(const std::string& name, const std::string& text = "x") const {
    std::ofstream(Path(name)) << text;
  }
  void Start(std::vector<std::string> files,
             FileWatch::StartEvent start_event = &uv_fs_event_start) {
    watch.emplace(loop, Bind<&FileWatchTest::OnChange>(this), start_event);
    watch->Watch(std::move(files));
  }
  void OnChange() { ++changes; }
  // As if so much time had passed; what the kernel has to tell is heard before.
  void Pass(Duration time) {
    loop.RunNoWait();
    loop.timers().Advance(loop.now() + static_cast<TimePoint>(time.count()));
    loop.RunNoWait();
  }
  // Past what is told because nobody can tell what was before.
  void StartQuietly(std::vector<std::string> files) {
    Start(std::move(files));
    Pass(FileWatch::kQuiet);
    EXPECT_EQ(std::exchange(changes, 0), 1);
  }

  Loop loop;
  std::string folder;
  std::optional<FileWatch> watch;
  int changes = 0;
};

TEST_F(FileWatchTest, TellsOnceOfManyChanges) {
  StartQuietly({Path("file")});
  for (int i = 0; i < 10; ++i) {
    Write("file", std::to_string(i));
    Pass(FileWatch::kQuiet / 2);
  }
  EXPECT_LE(changes, 1) << "within kPatience";
  Pass(FileWatch::kQuiet);
  Pass(FileWatch::kQuiet);
  EXPECT_GE(changes, 1);
  changes = 0;
  Pass(FileWatch::kLookAgain);
  EXPECT_EQ(changes, 0);
}

TEST_F(FileWatchTest, TellsInTheEndWhereItNeverGetsQuiet) {
  StartQuietly({Path("file")});
  for (Duration passed{}; passed <= FileWatch::kPatience; passed += FileWatch::kQuiet / 2) {
    Write("file");
    Pass(FileWatch::kQuiet / 2);
  }
  EXPECT_EQ(changes, 1);
}

TEST_F(FileWatchTest, SeesFilesThatAreMadeRemovedAndMovedOver) {
  StartQuietly({Path("file"), Path("later")});
  for (const auto& change : std::vector<std::function<void()>>{
           [&] { Write("later"); }, [&] { fs::remove(Path("later")); },
           [&] {
             Write("fresh");
             fs::rename(Path("fresh"), Path("file"));
           }}) {
    change();
    Pass(FileWatch::kQuiet);
    EXPECT_EQ(std::exchange(changes, 0), 1);
  }
}

TEST_F(FileWatchTest, WaitsForAFolderInTheOneAbove) {
  StartQuietly({Path("a/b/file")});
  fs::create_directories(Path("a/b"));
  Pass(FileWatch::kQuiet);
  EXPECT_EQ(std::exchange(changes, 0), 1);
  Write("a/b/file");
  Pass(FileWatch::kQuiet);
  EXPECT_EQ(std::exchange(changes, 0), 1);
  fs::remove_all(Path("a"));
  fs::create_directories(Path("a/b"));
  Pass(FileWatch::kQuiet);
  EXPECT_EQ(std::exchange(changes, 0), 1);
  Write("a/b/file");
  Pass(FileWatch::kQuiet);
  EXPECT_EQ(changes, 1);
}

TEST_F(FileWatchTest, WatchesNothingAnyMoreWhenToldSo) {
  StartQuietly({Path("file")});
  Write("file");
  watch->Watch({});
  Pass(FileWatch::kPatience);
  Write("file");
  Pass(FileWatch::kPatience);
  EXPECT_EQ(changes, 0);
}

TEST_F(FileWatchTest, FollowsEveryLinkOnTheWay) {
  fs::create_directories(Path("real/1"));
  fs::create_directories(Path("live"));
  fs::create_directory_symlink("1", Path("real/current"));
  fs::create_directory_symlink("../real/current", Path("live/site"));
  fs::create_symlink(Path("file"), Path("real/1/site.pem"));
  const FileWatch::Way above = {{"/", {"tmp"}}, {"/tmp", {fs::path(folder).filename()}}};
  auto with = [&](FileWatch::Way way) {
    way.insert(above.begin(), above.end());
    return way;
  };
  EXPECT_EQ(FileWatch::WayTo(Path("live/site/site.pem")),
            with({{Path("live"), {"site"}},
                  {Path("real"), {"current", "1"}},
                  {Path("real/1"), {"site.pem"}},
                  {folder, {"live", "real", "file"}}}));
  EXPECT_EQ(FileWatch::WayTo(Path("./file")), with({{folder, {"file"}}}));
  EXPECT_EQ(FileWatch::WayTo(Path("no/such/file")), with({{folder, {"no"}}}));
  EXPECT_EQ(FileWatch::WayTo(Path("live/site/../file")),
            with({{Path("live"), {"site"}},
                  {Path("real"), {"current", "1", "file"}},
                  {folder, {"live", "real"}}}))
      << "above where the link leads to";
  fs::create_symlink("loop", Path("loop"));
  EXPECT_EQ(FileWatch::WayTo(Path("loop")), with({{folder, {"loop"}}}));
}

// As a release is put into place.
TEST_F(FileWatchTest, SeesThatADirectoryAboveIsReplaced) {
  fs::create_directories(Path("current/certs"));
  fs::create_directories(Path("next/certs"));
  StartQuietly({Path("current/certs/file")});
  fs::rename(Path("current"), Path("old"));
  fs::rename(Path("next"), Path("current"));
  Pass(FileWatch::kQuiet);
  EXPECT_EQ(std::exchange(changes, 0), 1);
  Write("current/certs/file");
  Pass(FileWatch::kQuiet);
  EXPECT_EQ(std::exchange(changes, 0), 1) << "in the new one";
  Write("old/certs/file");
  Pass(FileWatch::kPatience);
  EXPECT_EQ(changes, 0) << "in the old one";
}

TEST_F(FileWatchTest, IsNotWokenByWhatElseHappensInThoseDirectories) {
  fs::create_directories(Path("certs"));
  StartQuietly({Path("certs/file")});
  Write("file", "other");
  Write("certs/other");
  fs::create_directories(Path("elsewhere"));
  Pass(FileWatch::kPatience);
  EXPECT_EQ(changes, 0);
}

// Invariant 4. (Without a descriptor left for inotify the sanitizers die before we see it.)
TEST_F(FileWatchTest, LooksNowAndThenWhereNothingCanBeWatched) {
  static bool full = true;
  testing::internal::CaptureStderr();
  Start({Path("file")},
        [](uv_fs_event_t* event, uv_fs_event_cb callback, const char* path, unsigned flags) {
          return full ? int{UV_ENOSPC} : uv_fs_event_start(event, callback, path, flags);
        });
  Pass(FileWatch::kQuiet);
  EXPECT_EQ(std::exchange(changes, 0), 1);
  Write("file");
  Pass(FileWatch::kPatience);
  EXPECT_EQ(changes, 0);
  Pass(FileWatch::kLookAgain);
  EXPECT_EQ(std::exchange(changes, 0), 1);
  full = false;
  Pass(FileWatch::kLookAgain);
  EXPECT_EQ(std::exchange(changes, 0), 1);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("cannot watch /: "), std::string::npos) << said;
  EXPECT_EQ(said.find("cannot watch"), said.rfind("cannot watch")) << "once";
  // It can be watched again.
  Write("file");
  Pass(FileWatch::kQuiet);
  EXPECT_EQ(changes, 1);
}

}  // namespace
}  // namespace tidegate
