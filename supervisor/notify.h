#pragma once

// systemd's protocol (sd_notify(3), systemd.service(5) Type=notify-reload), without its library.
// Everything is silent where there is no NOTIFY_SOCKET.

#include <string>
#include <string_view>

#include "common/loop.h"

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
  void Status(std::string_view status);
  // Feeds the watchdog at half of WATCHDOG_USEC from now on: from the loop, so a loop that hangs
  // starves it.
  void StartWatchdog();

 private:
  void Send(const std::string& text) const;
  void OnWatchdog();

  std::string path_;
  Duration watchdog_{};
  Deadline watchdog_due_;
};

}  // namespace tidegate
