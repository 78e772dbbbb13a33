#pragma once

// systemd's protocol (sd_notify(3), sd_pid_notify_with_fds(3), systemd.service(5)
// Type=notify-reload), without its library. Everything is silent where there is no NOTIFY_SOCKET.

#include <cstdint>
#include <string>
#include <string_view>

#include "common/loop.h"
#include "common/unique_fd.h"

namespace tidegate {

class Notify {
 public:
  explicit Notify(Loop& loop);
  Notify(const Notify&) = delete;
  Notify& operator=(const Notify&) = delete;

  void Ready(std::string_view status);
  // A reload or upgrade begins; Ready ends it, whatever came of it.
  void Reloading(std::string_view status);
  void Stopping();
  // What has begun (the start, a reload, the stop) may take as long as `limit`, and some seconds
  // for what is not counted: systemd's own limit for it becomes at least that. kNever: as good as
  // none. Again where another limit turns out to apply: a shorter one changes nothing.
  void MayTake(Duration limit);
  void Status(std::string_view status);

  // What became of a message that nobody waits for.
  enum class Told : std::uint8_t {
    kSent,
    // systemd has not read what came before, or we have no descriptor or memory for it: again
    // later.
    kLater,
    kNobody,
  };
  // A duplicate of `fd` is kept until we forget it by name, or the service is over; the next
  // process of the service gets it (sd_listen_fds(3)). Without an answer: one that it has already,
  // or for which there is no room, is ignored. `name` has no ':'. Never waits.
  Told Store(const std::string& name, int fd);
  Told Forget(const std::string& name);
  // Waits until systemd has done what it was told; false: not within `limit`.
  bool Barrier(Duration limit);
  bool has_manager() const { return !path_.empty(); }

  // Feeds the watchdog at half of WATCHDOG_USEC from now on: from the loop, so a loop that hangs
  // starves it.
  void StartWatchdog();

 private:
  void Send(const std::string& text);
  // Once, with `passed` unless it is -1.
  Told SendOnce(const std::string& text, int passed);
  bool HasSocket();
  void OnWatchdog();

  std::string path_;
  // For all our life: READY=1 must not fail because no descriptor is left.
  UniqueFd socket_;
  Duration watchdog_{};
  Deadline watchdog_due_;
};

}  // namespace tidegate
