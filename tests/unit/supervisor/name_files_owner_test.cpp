#include "supervisor/name_files_owner.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "common/control.h"
#include "common/unique_fd.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

// What the event log gets while it is there.
class Said {
 public:
  Said() {
    EXPECT_EQ(::pipe2(ends_.data(), O_CLOEXEC | O_NONBLOCK), 0);
    SetEventLog(ends_[1]);
  }
  ~Said() {
    SetEventLog(2);
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  Said(const Said&) = delete;
  Said& operator=(const Said&) = delete;

  // Since the last time.
  int Count(const std::string& words) {
    std::array<char, 4096> buffer{};
    const ssize_t size = ::read(ends_[0], buffer.data(), buffer.size());
    const std::string text(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    int count = 0;
    for (std::size_t at = text.find(words); at != std::string::npos;
         at = text.find(words, at + 1)) {
      ++count;
    }
    return count;
  }

 private:
  std::array<int, 2> ends_{};
};

class NameFilesOwnerTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "tidegate-owner-" + std::to_string(::getpid());
    std::filesystem::create_directories(directory_);
    Write("hosts", "192.0.2.1 app\n");
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ + "/" + name) << text;
  }
  bool Changed() { return owner_.Look(); }
  std::string Text(std::size_t which) const {
    Result<std::string> text = ReadMemfd(owner_.fds()[which]);
    return text ? *text : text.error().ToString();
  }

  std::string directory_ = testing::TempDir() + "tidegate-owner-" + std::to_string(::getpid());
  NameFilesOwner owner_{
      {.resolv_conf = directory_ + "/resolv.conf", .hosts = directory_ + "/hosts"}};
};

TEST_F(NameFilesOwnerTest, TellsAtTheFirstLookAndThenOfChangesOnly) {
  EXPECT_EQ(owner_.version(), 0U);
  EXPECT_TRUE(Changed());
  EXPECT_EQ(owner_.version(), 1U);
  EXPECT_EQ(Text(0), "") << "there is none";
  EXPECT_EQ(Text(1), "192.0.2.1 app\n");
  EXPECT_FALSE(Changed());
  Write("resolv.conf", "nameserver 192.0.2.53\n");
  EXPECT_TRUE(Changed());
  EXPECT_EQ(owner_.version(), 2U);
  EXPECT_EQ(Text(0), "nameserver 192.0.2.53\n");
  EXPECT_FALSE(Changed());
}

TEST_F(NameFilesOwnerTest, SeesAFileThatIsWrittenInPlaceReplacedOrRemoved) {
  EXPECT_TRUE(Changed());
  // Of the same length, and maybe within the same tick of the clock.
  Write("hosts", "192.0.2.2 app\n");
  EXPECT_TRUE(Changed());
  EXPECT_EQ(Text(1), "192.0.2.2 app\n");
  Write("new", "192.0.2.3 app\n");
  std::filesystem::rename(directory_ + "/new", directory_ + "/hosts");
  EXPECT_TRUE(Changed());
  EXPECT_EQ(Text(1), "192.0.2.3 app\n");
  Write("elsewhere", "192.0.2.4 app\n");
  std::filesystem::remove(directory_ + "/hosts");
  std::filesystem::create_symlink("elsewhere", directory_ + "/hosts");
  EXPECT_TRUE(Changed());
  EXPECT_EQ(Text(1), "192.0.2.4 app\n");
  Write("elsewhere", "192.0.2.5 app\n");
  EXPECT_TRUE(Changed());
  std::filesystem::remove(directory_ + "/elsewhere");
  EXPECT_FALSE(Changed());
  EXPECT_TRUE(Changed());
  EXPECT_EQ(Text(1), "");
}

TEST_F(NameFilesOwnerTest, Rule3DoesNotTakeAFileThatIsBeingWrittenForAnEmptyOne) {
  EXPECT_TRUE(Changed());
  Write("hosts", "");
  EXPECT_FALSE(Changed());
  EXPECT_EQ(Text(1), "192.0.2.1 app\n");
  Write("hosts", "192.0.2.2 app\n");
  EXPECT_TRUE(Changed());
  EXPECT_EQ(Text(1), "192.0.2.2 app\n");
  Write("hosts", "");
  EXPECT_FALSE(Changed());
  EXPECT_TRUE(Changed());
  EXPECT_EQ(Text(1), "");
  EXPECT_FALSE(Changed());
}

TEST_F(NameFilesOwnerTest, IsSilentAboutAFileThatSaysTheSameAgain) {
  EXPECT_TRUE(Changed());
  Write("new", "192.0.2.1 app\n");
  std::filesystem::rename(directory_ + "/new", directory_ + "/hosts");
  EXPECT_FALSE(Changed());
  EXPECT_EQ(owner_.version(), 1U);
}

TEST_F(NameFilesOwnerTest, Rule2KeepsWhatItHasOfAFileThatIsTooLongAndSaysSoOnce) {
  EXPECT_TRUE(Changed());
  Said said;
  std::filesystem::resize_file(directory_ + "/hosts", (16 << 20) + 1);
  EXPECT_FALSE(Changed());
  EXPECT_FALSE(Changed());
  EXPECT_EQ(Text(1), "192.0.2.1 app\n");
  Write("resolv.conf", "nameserver 192.0.2.53\n");
  EXPECT_TRUE(Changed()) << "the other is told";
  EXPECT_EQ(said.Count("hosts is not read: it has more than 16MiB"), 1);
  Write("hosts", "192.0.2.2 app\n");
  EXPECT_TRUE(Changed());
  EXPECT_EQ(Text(1), "192.0.2.2 app\n");
  std::filesystem::resize_file(directory_ + "/hosts", (16 << 20) + 1);
  EXPECT_FALSE(Changed());
  EXPECT_EQ(said.Count("hosts is not read: it has more than 16MiB"), 1) << "it is another time";
}

TEST_F(NameFilesOwnerTest, Rule2IsAnEmptyOneWhereItHasNeverBeenReadYet) {
  std::filesystem::resize_file(directory_ + "/hosts", (16 << 20) + 1);
  Said said;
  EXPECT_TRUE(Changed());
  EXPECT_EQ(Text(1), "");
  EXPECT_FALSE(Changed());
  EXPECT_EQ(owner_.version(), 1U);
}

// Nothing of this process is written while it is there.
class Limit {
 public:
  Limit(decltype(RLIMIT_NOFILE) resource, rlim_t most) : resource_(resource) {
    EXPECT_EQ(::getrlimit(resource_, &before_), 0);
    rlimit tight = before_;
    tight.rlim_cur = most;
    EXPECT_EQ(::setrlimit(resource_, &tight), 0);
  }
  ~Limit() { EXPECT_EQ(::setrlimit(resource_, &before_), 0); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

 private:
  decltype(RLIMIT_NOFILE) resource_;
  rlimit before_{};
};

TEST_F(NameFilesOwnerTest, Rule2KeepsWhatItHasWhenThereAreNoDescriptors) {
  EXPECT_TRUE(Changed());
  // Once with descriptors: UBSan looks at each kind of object through a pipe, but only once.
  std::filesystem::resize_file(directory_ + "/hosts", (16 << 20) + 1);
  EXPECT_FALSE(Changed());
  Write("hosts", "192.0.2.2 app\n");
  Said said;
  UniqueFd spare(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  {
    Limit tight(RLIMIT_NOFILE, static_cast<rlim_t>(spare.get()));
    spare = UniqueFd();
    EXPECT_FALSE(Changed());
    EXPECT_FALSE(Changed());
  }
  EXPECT_EQ(said.Count("Too many open files"), 1);
  EXPECT_EQ(Text(1), "192.0.2.1 app\n");
  EXPECT_TRUE(Changed()) << "it is tried again";
  EXPECT_EQ(Text(1), "192.0.2.2 app\n");
}

TEST_F(NameFilesOwnerTest, Rule1KeepsWhatItHasWhenATextCannotBePassedOnAndSaysSoOnce) {
  EXPECT_TRUE(Changed());
  Write("hosts", "192.0.2.2 app\n");
  Said said;
  auto before = std::signal(SIGXFSZ, SIG_IGN);
  {
    Limit tight(RLIMIT_FSIZE, 1);
    EXPECT_FALSE(Changed());
    EXPECT_FALSE(Changed());
  }
  std::signal(SIGXFSZ, before);
  EXPECT_EQ(said.Count("File too large"), 1);
  EXPECT_EQ(Text(1), "192.0.2.1 app\n");
  EXPECT_EQ(owner_.version(), 1U);
  EXPECT_TRUE(Changed()) << "it is tried again";
  EXPECT_EQ(Text(1), "192.0.2.2 app\n");
}

}  // namespace
}  // namespace tidegate
