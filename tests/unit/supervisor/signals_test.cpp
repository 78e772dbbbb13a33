#include "supervisor/signals.h"

#include <unistd.h>

#include <csignal>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

// Each in a process of its own: signals stay blocked.

// What comes in a turn of a new loop.
std::vector<int> TakenIn(Loop& loop) {
  std::vector<int> taken;
  Signals signals(loop, [&taken](int number) { taken.push_back(number); });
  for (int turn = 0; turn < 10; ++turn) {
    loop.RunNoWait();
  }
  return taken;
}

TEST(Signals, AreTakenFromTheLoop) {
  EXPECT_EXIT(
      {
        std::vector<int> taken;
        Loop loop;
        Signals signals(loop, [&taken](int number) { taken.push_back(number); });
        for (int number : Signals::kNumbers) {
          ::kill(::getpid(), number);
          loop.RunNoWait();
        }
        ::_exit(taken == std::vector<int>(Signals::kNumbers.begin(), Signals::kNumbers.end()) ? 0
                                                                                              : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(Signals, ThatNobodyHasTakenAreTheNextOnes) {
  EXPECT_EXIT(
      {
        Loop loop;
        std::vector<int> before = TakenIn(loop);
        ::kill(::getpid(), SIGTERM);
        ::kill(::getpid(), SIGTERM);
        ::_exit(before.empty() && TakenIn(loop) == std::vector{SIGTERM} ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(Signals, ThatAreLeftAreTakenLater) {
  EXPECT_EXIT(
      {
        std::vector<int> taken;
        Loop loop;
        Signals signals(loop, [&taken](int number) { taken.push_back(number); });
        auto turn = [&loop] {
          for (int i = 0; i < 10; ++i) {
            loop.RunNoWait();
          }
        };
        signals.Leave({SIGHUP});
        ::kill(::getpid(), SIGHUP);
        ::kill(::getpid(), SIGTERM);
        turn();
        const bool left = taken == std::vector{SIGTERM};
        signals.Leave({});
        turn();
        ::_exit(left && taken == std::vector{SIGTERM, SIGHUP} ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(Signals, OthersAreLetThrough) {
  EXPECT_EXIT(
      {
        sigset_t all;
        ::sigfillset(&all);
        ::sigprocmask(SIG_SETMASK, &all, nullptr);
        Loop loop;
        (void)TakenIn(loop);
        ::kill(::getpid(), SIGABRT);
        ::_exit(0);
      },
      testing::KilledBySignal(SIGABRT), "");
}

}  // namespace
}  // namespace tidegate
