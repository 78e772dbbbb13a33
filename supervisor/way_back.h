#pragma once

// From one image of the supervisor to another: forward into a new program, and back into the old
// one when the new cannot adopt the state, refuses an upgrade before it committed, or hangs or
// crashes while it should decide. The descriptor of the old program and the state that it wrote
// stay open until then.

#include <string>
#include <vector>

#include "supervisor/process.h"
#include "supervisor/state.h"

namespace tidegate {

// Into `program`, with `state`. `way_back` (null: none) is the program to come back to. Returns
// only with an error; everything is as it was then.
Error EnterImage(const Program& program, const SavedState& state,
                 const std::vector<std::string>& argv, const Program* way_back);

// How this image was entered; nothing if a person started it. Read once: clears the environment.
struct Entrance {
  UniqueFd state;
  // None: no way back.
  UniqueFd way_back;
  // We are the old image again, for this reason.
  std::string returned_because;
};
std::optional<Entrance> TakeEntrance();

// From here on an image that crashes, or does not call StillAlive for kHangLimit, is replaced by
// the old one, with the state that that one wrote (SIGALRM and alarm(2), which survive whatever our
// code does, and the signals of a crash). `entrance` outlives the guard.
inline constexpr unsigned kHangLimitSeconds = 5;
void GuardWayBack(const Entrance& entrance, const std::vector<std::string>& argv);
// What the old image needs beside the state: before they are kept from children, or closed.
void GuardDescriptors(const std::vector<int>& state_fds);
// The old image may still come back.
bool WayBackIsOpen();
void StillAlive();
void EndGuard();
// Back now, with the old state. Returns only if there is no way or it fails.
void ReturnToOldImage(const std::string& reason);

}  // namespace tidegate
