#include "supervisor/invocation.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

class InvocationTest : public testing::Test {
 protected:
  void SetUp() override {
    ::unsetenv("TIDEGATE_SOCKET");
    ::unsetenv("TIDEGATE_CONFIG");
    invocation_.command = FindCommand("status");
  }
  void TearDown() override { SetUp(); }

  Invocation invocation_;
};

TEST_F(InvocationTest, AFlagGoesBeforeTheEnvironmentBeforeTheDefault) {
  EXPECT_EQ(ConfigPathOf(invocation_), "/etc/tidegate/tidegate.json");
  ::setenv("TIDEGATE_CONFIG", "/from/environment.json", 1);
  ::setenv("TIDEGATE_SOCKET", "/from/environment.sock", 1);
  EXPECT_EQ(ConfigPathOf(invocation_), "/from/environment.json");
  EXPECT_EQ(SocketPathOf(invocation_).value(), "/from/environment.sock");
  EXPECT_EQ(ClientSocketPathOf(invocation_).value(), "/from/environment.sock");
  invocation_.options["config"] = {"/from/flag.json"};
  invocation_.options["socket"] = {"/from/flag.sock"};
  EXPECT_EQ(ConfigPathOf(invocation_), "/from/flag.json");
  EXPECT_EQ(SocketPathOf(invocation_).value(), "/from/flag.sock");
}

TEST_F(InvocationTest, TheDefaultSocketBelongsToTheUser) {
  ::setenv("XDG_RUNTIME_DIR", "/run/user/1234", 1);
  EXPECT_EQ(SocketPathOf(invocation_).value(), ::geteuid() == 0
                                                   ? "/run/tidegate/control.sock"
                                                   : "/run/user/1234/tidegate/control.sock");
}

class OwnFolderTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(base_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(base_); }

  std::string FaultOf(const std::string& folder, bool make) {
    Result<> own = EnsureOwnFolder(folder, make);
    return own ? "" : own.error().ToString();
  }

  std::string base_ = testing::TempDir() + "tidegate_own_XXXXXX";
};

TEST_F(OwnFolderTest, IsMadeForUsAloneByTheDaemonOnly) {
  std::string folder = base_ + "/folder";
  EXPECT_EQ(FaultOf(folder, false), "");
  EXPECT_FALSE(std::filesystem::exists(folder));
  EXPECT_EQ(FaultOf(folder, true), "");
  struct stat status{};
  ASSERT_EQ(::stat(folder.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700U);
  EXPECT_EQ(FaultOf(folder, true), "");
  EXPECT_EQ(FaultOf(folder, false), "");
}

TEST_F(OwnFolderTest, OfSomebodyElseIsRefusedOnBothSides) {
  std::string open = base_ + "/open";
  ASSERT_EQ(::mkdir(open.c_str(), 0700), 0);
  ASSERT_EQ(::chmod(open.c_str(), 0770), 0);
  std::string link = base_ + "/link";
  ASSERT_EQ(::symlink(base_.c_str(), link.c_str()), 0);
  std::string file = base_ + "/file";
  std::ofstream(file) << "text";
  for (bool make : {false, true}) {
    EXPECT_NE(FaultOf(open, make).find(open + " may be written to by others"), std::string::npos);
    EXPECT_NE(FaultOf(link, make).find(link + " is no folder"), std::string::npos);
    EXPECT_NE(FaultOf(file, make).find(file + " is no folder"), std::string::npos);
    // Whoever we are, one of the two is another's.
    std::string others = "/proc/1";
    if (::geteuid() == 0) {
      others = base_ + "/others";
      ::mkdir(others.c_str(), 0700);
      ASSERT_EQ(::chown(others.c_str(), 65534, 65534), 0);
    }
    EXPECT_NE(FaultOf(others, make).find("belongs to another user"), std::string::npos);
  }
  EXPECT_NE(FaultOf("/nowhere/folder", true).find("No such file"), std::string::npos);
}

TEST_F(InvocationTest, TheTimeoutIsTheCommandsUnlessOneIsGiven) {
  EXPECT_EQ(TimeoutOf(invocation_), std::chrono::seconds(10));
  invocation_.options["timeout"] = {"250ms"};
  EXPECT_EQ(TimeoutOf(invocation_), std::chrono::milliseconds(250));
  invocation_.options["timeout"] = {"off"};
  EXPECT_EQ(TimeoutOf(invocation_), kNever);
}

}  // namespace
}  // namespace tidegate
