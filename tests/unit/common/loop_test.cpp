#include "common/loop.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using std::chrono::milliseconds;

// Arms a deadline in a timer of libuv, which runs outside the turn's own callbacks, and stops the
// loop when it fires.
struct Script {
  explicit Script(Loop& the_loop)
      : loop(the_loop), deadline(the_loop.timers(), Bind<&Script::OnDeadline>(this)) {
    uv_timer_init(loop.uv(), &timer);
    timer.data = this;
  }
  void StartAfter(milliseconds delay) {
    uv_timer_start(
        &timer, [](uv_timer_t* handle) { static_cast<Script*>(handle->data)->OnTimer(); },
        static_cast<std::uint64_t>(delay.count()), 0);
  }
  void OnTimer() {
    armed_at = uv_hrtime();
    deadline.Arm(milliseconds(40));
  }
  void OnDeadline() {
    fired_at = uv_hrtime();
    loop.Stop();
  }

  Loop& loop;
  uv_timer_t timer;
  Deadline deadline;
  std::uint64_t armed_at = 0;
  std::uint64_t fired_at = 0;
};

TEST(LoopTest, ADeadlineCountsFromWhenItIsArmedAndNotFromTheTurnBefore) {
  Loop loop;
  Script script(loop);
  // The turns before have ended, whatever time they saw.
  loop.RunNoWait();
  script.StartAfter(milliseconds(60));
  loop.Run();
  constexpr std::uint64_t kNanosecondsEach = 1'000'000;
  EXPECT_GE((script.fired_at - script.armed_at) / kNanosecondsEach, 35U);
  uv_close(reinterpret_cast<uv_handle_t*>(&script.timer), nullptr);
  loop.RunNoWait();
}

}  // namespace
}  // namespace tidegate
