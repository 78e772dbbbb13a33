#include "supervisor/name_files_owner.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "common/control.h"

namespace tidegate {
namespace {

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
  bool Changed() {
    Result<bool> looked = owner_.Look();
    EXPECT_TRUE(looked);
    return looked && *looked;
  }
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
  EXPECT_TRUE(Changed());
  EXPECT_EQ(Text(1), "");
}

TEST_F(NameFilesOwnerTest, IsSilentAboutAFileThatSaysTheSameAgain) {
  EXPECT_TRUE(Changed());
  Write("new", "192.0.2.1 app\n");
  std::filesystem::rename(directory_ + "/new", directory_ + "/hosts");
  EXPECT_FALSE(Changed());
  EXPECT_EQ(owner_.version(), 1U);
}

TEST_F(NameFilesOwnerTest, KeepsWhatItHasWhenThereAreNoDescriptors) {
  EXPECT_TRUE(Changed());
  Write("hosts", "192.0.2.2 app\n");
  // The files can still be read: one after the other needs one descriptor.
  int spare = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(spare) + 1;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  ::close(spare);
  Result<bool> looked = owner_.Look();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(looked);
  EXPECT_EQ(Text(1), "192.0.2.1 app\n");
  EXPECT_TRUE(Changed()) << "it is tried again";
  EXPECT_EQ(Text(1), "192.0.2.2 app\n");
}

}  // namespace
}  // namespace tidegate
