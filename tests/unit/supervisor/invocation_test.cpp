#include "supervisor/invocation.h"

#include <unistd.h>

#include <cstdlib>

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
  EXPECT_EQ(SocketPathOf(invocation_), "/from/environment.sock");
  EXPECT_EQ(ClientSocketPathOf(invocation_), "/from/environment.sock");
  invocation_.options["config"] = {"/from/flag.json"};
  invocation_.options["socket"] = {"/from/flag.sock"};
  EXPECT_EQ(ConfigPathOf(invocation_), "/from/flag.json");
  EXPECT_EQ(SocketPathOf(invocation_), "/from/flag.sock");
}

TEST_F(InvocationTest, TheDefaultSocketBelongsToTheUser) {
  ::setenv("XDG_RUNTIME_DIR", "/run/user/1234", 1);
  EXPECT_EQ(SocketPathOf(invocation_), ::geteuid() == 0 ? "/run/tidegate/control.sock"
                                                        : "/run/user/1234/tidegate/control.sock");
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
