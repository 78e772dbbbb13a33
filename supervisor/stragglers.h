#pragma once

// Workers of a dead supervisor that did not answer when they were asked (takeover.h): stopped, or
// busy for longer than we waited. They still accept, by a configuration that is not in force any
// more, so each that comes round is told to drain. It waits at one of the places beside the control
// socket, for as long as somebody may be there.

#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "common/control.h"

namespace tidegate {

// path.0 to path.9: where else than at `path` workers of a dead supervisor may wait.
std::vector<std::string> PlacesBeside(const std::string& path);

// Tells a worker that has answered, and that we cannot use, to drain and to wait for nobody.
void DismissStraggler(int channel, Duration drain, Duration drain_tunnels);

class Stragglers final : public ControlChannel::Handler {
 public:
  explicit Stragglers(Loop& loop);
  Stragglers(const Stragglers&) = delete;
  Stragglers& operator=(const Stragglers&) = delete;
  ~Stragglers();

  // Looks at the places beside `path` now, and every second while somebody may be at one of them.
  // They get `drain` and `drain_tunnels` (kNever: no limit) for what they have begun.
  void Look(const std::string& path, Duration drain, Duration drain_tunnels);
  // Some were found that have not answered yet.
  bool any_silent() const { return !places_.empty(); }

 private:
  struct Place {
    std::string path;
    // A question without an answer. Null: to be asked.
    std::unique_ptr<ControlChannel> asked;
  };

  void Ask();
  // False: nobody is there any more.
  bool AskAt(Place& place);
  void OnControlMessage(ControlChannel& channel, ControlMessage message) override;
  void OnControlClosed(ControlChannel& channel, const Error& reason) override;

  Loop& loop_;
  Duration drain_{};
  Duration drain_tunnels_{};
  std::list<Place> places_;
  // They drain; an end of the channel would make orphans of them again.
  std::vector<std::unique_ptr<ControlChannel>> draining_;
  Deadline again_;
};

}  // namespace tidegate
