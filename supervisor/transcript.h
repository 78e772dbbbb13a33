#pragma once

// What a reload or an upgrade looks like while it runs: one line a phase. On a terminal the line of
// the running phase is drawn again in place and never wraps; elsewhere only finished phases are
// written.
//
//     ok    preflight   new binaries accept the running state and configuration     0.08s
//     ...   drain       generation 7: 13 of 412 left, oldest 4.1s                   12s/30s

#include <chrono>
#include <optional>
#include <string>

#include "supervisor/output.h"

namespace tidegate {

enum class PhaseState : std::uint8_t { kRunning, kOk, kFailed, kWarning };

struct Progress {
  std::string phase;
  PhaseState state = PhaseState::kRunning;
  std::string text;
  // How long the phase has taken, and how long it may take.
  double seconds = 0;
  std::optional<double> limit_seconds;
};

// The line of a phase without its end. `columns`: the text is padded so that times stand under each
// other, as far as there is room; a finished line keeps its whole text, a running one is cut. 0: no
// limit.
std::string PhaseLine(const Progress& progress, const Output& output, unsigned columns);

class Transcript {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // With `detailed`, also says when a phase begins where lines are not redrawn. `output` outlives
  // this.
  Transcript(Output& output, bool detailed) : output_(output), detailed_(detailed) {}

  // `now` never goes back.
  void OnProgress(const Progress& progress, TimePoint now);
  // Draws the running line again, with the time that has passed. Nothing where lines are not
  // redrawn.
  void OnTick(TimePoint now);
  // No more comes: a running line is left as it is, and ended. What is printed next starts on a
  // line of its own.
  void Close();

  // The phase that was last heard to run and has not finished.
  const std::optional<Progress>& running() const { return running_; }

 private:
  Output& output_;
  bool detailed_;
  std::optional<Progress> running_;
  TimePoint heard_{};
  bool line_open_ = false;
};

}  // namespace tidegate
