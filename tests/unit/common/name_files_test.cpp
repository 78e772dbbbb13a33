#include "common/name_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

class NameFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "tidegate-names-" + std::to_string(::getpid());
    std::filesystem::create_directories(directory_);
    paths_ = {.resolv_conf = directory_ + "/resolv.conf", .hosts = directory_ + "/hosts"};
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  NameFilePaths paths_;
};

TEST_F(NameFilesTest, ReadsBoth) {
  std::ofstream(paths_.resolv_conf) << "nameserver 192.0.2.1\n";
  std::ofstream(paths_.hosts) << "192.0.2.7 app\n";
  NameFiles files = ReadNameFiles(paths_);
  EXPECT_EQ(files.resolv_conf, "nameserver 192.0.2.1\n");
  EXPECT_EQ(files.hosts, "192.0.2.7 app\n");
}

TEST_F(NameFilesTest, TakesAFileThatCannotBeReadForAnEmptyOne) {
  EXPECT_EQ(ReadNameFiles(paths_), NameFiles{});
  // Neither waits: a pipe that nobody writes to, and a folder.
  ASSERT_EQ(::mkfifo(paths_.resolv_conf.c_str(), 0600), 0);
  std::filesystem::create_directory(paths_.hosts);
  EXPECT_EQ(ReadNameFiles(paths_), NameFiles{});
}

TEST_F(NameFilesTest, RefusesAFileThatIsTooLong) {
  std::ofstream(paths_.hosts) << "192.0.2.7 app\n";
  std::filesystem::resize_file(paths_.hosts, (16 << 20) + 1);
  Result<std::string> text = ReadNameFile(paths_.hosts);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().detail(), paths_.hosts + " is not read: it has more than 16MiB");
  EXPECT_EQ(ReadNameFiles(paths_).hosts, "");
  std::filesystem::resize_file(paths_.hosts, 16 << 20);
  EXPECT_TRUE(ReadNameFile(paths_.hosts));
}

TEST_F(NameFilesTest, DoesNotTakeAFaultForAFileThatIsNotThere) {
  std::ofstream(paths_.hosts) << "192.0.2.7 app\n";
  EXPECT_EQ(ReadNameFile(paths_.hosts + "/below").value_or("fault"), "");
  EXPECT_EQ(ReadNameFile(paths_.hosts + ".none").value_or("fault"), "");
  std::filesystem::create_symlink("loop", directory_ + "/loop");
  Result<std::string> text = ReadNameFile(directory_ + "/loop");
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().system_errno(), ELOOP);
}

}  // namespace
}  // namespace tidegate
