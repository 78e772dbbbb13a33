#include "common/file_text.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

class FileTextTest : public ::testing::Test {
 protected:
  FileTextTest() {
    char pattern[] = "/tmp/tidegate-file-XXXXXX";
    folder = mkdtemp(pattern);
    path = folder + "/text";
    std::ofstream(path) << "some text";
  }
  ~FileTextTest() override { std::filesystem::remove_all(folder); }

  std::string folder;
  std::string path;
};

TEST_F(FileTextTest, IsTheWholeFile) {
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  auto file = ReadFile(path, 9);
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->text, "some text");
  EXPECT_EQ(file->mode & 0777U, 0640U);
  struct stat status{};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(file->identity, std::pair(status.st_dev, status.st_ino));
}

TEST_F(FileTextTest, SaysWhyThereIsNone) {
  EXPECT_EQ(ReadFile(folder + "/none", 10).error().detail(), "No such file or directory");
  EXPECT_EQ(ReadFile(folder, 10).error().detail(), "Is a directory");
  EXPECT_EQ(ReadFile(path, 8).error().detail(), "more than 8B");
}

TEST_F(FileTextTest, IsNotWaitedForWhereOnlyAFileWillDo) {
  const std::string pipe = folder + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(ReadFile(pipe, 10, FileKind::kRegular).error().detail(), "no regular file");
  EXPECT_EQ(ReadFile(folder, 10, FileKind::kRegular).error().detail(), "Is a directory");
  EXPECT_EQ(ReadFile(path, 10, FileKind::kRegular)->text, "some text");
}

}  // namespace
}  // namespace tidegate
