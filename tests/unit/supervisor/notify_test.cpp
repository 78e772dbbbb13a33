#include "supervisor/notify.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <gtest/gtest.h>

#include "tests/unit/supervisor/fake_manager.h"

namespace tidegate {
namespace {

using Told = Notify::Told;
using Strings = std::vector<std::string>;

TEST(Notify, IsSilentWithoutAManager) {
  ::unsetenv("NOTIFY_SOCKET");
  Loop loop;
  Notify notify(loop);
  EXPECT_FALSE(notify.has_manager());
  notify.Ready("serving");
  EXPECT_EQ(notify.Store("tidegate.store.a", 0), Told::kNobody);
  EXPECT_EQ(notify.Forget("tidegate.store.a"), Told::kNobody);
  EXPECT_FALSE(notify.Barrier(std::chrono::seconds(1)));
}

TEST(Notify, StoresADuplicateUnderItsNameAndTakesItBack) {
  FakeManager manager;
  Loop loop;
  Notify notify(loop);
  UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(notify.Store("tidegate.store.a", file.get()), Told::kSent);
  EXPECT_EQ(manager.Hear(), Strings{"FDSTORE=1\nFDNAME=tidegate.store.a\nFDPOLL=0\n"});
  EXPECT_EQ(manager.Names(), Strings{"tidegate.store.a"});
  EXPECT_GE(::fcntl(file.get(), F_GETFD), 0) << "ours stays";
  EXPECT_EQ(notify.Forget("tidegate.store.a"), Told::kSent);
  EXPECT_EQ(manager.Hear(), Strings{"FDSTOREREMOVE=1\nFDNAME=tidegate.store.a\n"});
  EXPECT_TRUE(manager.Names().empty());
}

TEST(Notify, DoesNotWaitToStoreWhereNobodyReads) {
  FakeManager manager;
  Loop loop;
  Notify notify(loop);
  manager.Fill();
  EXPECT_EQ(notify.Store("tidegate.store.a", 0), Told::kLater);
  EXPECT_EQ(notify.Forget("tidegate.store.a"), Told::kLater);
  manager.Hear();
  EXPECT_EQ(notify.Forget("tidegate.store.a"), Told::kSent);
}

TEST(Notify, TellsWhereNoDescriptorIsLeft) {
  FakeManager manager;
  Loop loop;
  Notify notify(loop);
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  notify.Ready("serving");
  EXPECT_EQ(notify.Store("tidegate.store.a", 0), Told::kSent);
  Notify late(loop);
  EXPECT_EQ(late.Forget("tidegate.store.a"), Told::kLater) << "it may have a socket another time";
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(late.Forget("tidegate.store.a"), Told::kSent);
  EXPECT_EQ(manager.Hear().size(), 3U);
}

TEST(Notify, ExtendsTheLimitOfWhatHasBegun) {
  FakeManager manager;
  Loop loop;
  Notify notify(loop);
  notify.MayTake(std::chrono::minutes(10));
  notify.MayTake(kNever);
  EXPECT_EQ(manager.Hear(),
            (Strings{"EXTEND_TIMEOUT_USEC=610000000\n", "EXTEND_TIMEOUT_USEC=31536000000000\n"}));
}

TEST(Notify, FeedsTheWatchdogThatAnExtensionPutsOff) {
  FakeManager manager;
  ::setenv("WATCHDOG_USEC", "1000000", 1);
  Loop loop;
  Notify notify(loop);
  ::unsetenv("WATCHDOG_USEC");
  notify.MayTake(std::chrono::seconds(1));
  EXPECT_EQ(manager.Hear(), Strings{"EXTEND_TIMEOUT_USEC=11000000\n"}) << "it has not begun";
  notify.StartWatchdog();
  manager.Hear();
  notify.MayTake(std::chrono::seconds(1));
  EXPECT_EQ(manager.Hear(), (Strings{"EXTEND_TIMEOUT_USEC=11000000\n", "WATCHDOG=1\n"}));
}

TEST(Notify, ABarrierEndsWhenItsDescriptorIsClosed) {
  FakeManager manager;
  Loop loop;
  Notify notify(loop);
  EXPECT_FALSE(notify.Barrier(std::chrono::milliseconds(1))) << "nobody has read it";
  EXPECT_EQ(manager.Hear(), Strings{"BARRIER=1"});
}

TEST(Notify, FeedsOnlyItsOwnWatchdog) {
  FakeManager manager;
  ::setenv("WATCHDOG_USEC", "1000000", 1);
  for (const auto& [pid, expected] :
       {std::pair(std::to_string(::getpid()), true), {std::to_string(::getpid() + 1), false}}) {
    ::setenv("WATCHDOG_PID", pid.c_str(), 1);
    Loop loop;
    Notify notify(loop);
    notify.StartWatchdog();
    EXPECT_EQ(manager.Hear() == Strings{"WATCHDOG=1\n"}, expected) << pid;
  }
  ::unsetenv("WATCHDOG_PID");
  Loop loop;
  Notify notify(loop);
  notify.StartWatchdog();
  EXPECT_EQ(manager.Hear(), Strings{"WATCHDOG=1\n"}) << "nobody else is named";
  ::unsetenv("WATCHDOG_USEC");
}

}  // namespace
}  // namespace tidegate
