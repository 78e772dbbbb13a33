#include "supervisor/transcript.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

constexpr std::size_t kMarkColumns = 6;
constexpr std::size_t kPhaseColumns = 12;
constexpr std::size_t kTextColumns = 60;
// "1m30s/1h00m" and the like.
constexpr std::size_t kTimeColumns = 11;

struct Mark {
  std::string_view word;
  Tint tint;
};
// In the order of PhaseState.
constexpr std::array kMarks = {Mark{"...", Tint::kBusy}, Mark{"ok", Tint::kGood},
                               Mark{"fail", Tint::kBad}, Mark{"warn", Tint::kWarning}};

// Phases that say nothing to who only wants to see that all is well.
constexpr std::array<std::string_view, 4> kBookKeeping = {"request", "snapshot", "bind", "retire"};

bool IsWorthALine(const Progress& progress) {
  return progress.state != PhaseState::kOk ||
         std::ranges::find(kBookKeeping, progress.phase) == kBookKeeping.end();
}

// While something runs whole seconds are enough, and the line does not flicker.
std::string Coarse(double seconds) {
  return seconds < 60 ? fmt::format("{}s", static_cast<int>(std::max(0.0, seconds)))
                      : FormatSeconds(seconds);
}

std::string TimeOf(const Progress& progress) {
  if (progress.state != PhaseState::kRunning) {
    return FormatSeconds(progress.seconds);
  }
  return progress.limit_seconds
             ? fmt::format("{}/{}", Coarse(progress.seconds), Coarse(*progress.limit_seconds))
             : Coarse(progress.seconds);
}

}  // namespace

std::string PhaseLine(const Progress& progress, const Output& output, unsigned columns) {
  const Mark& mark = kMarks[static_cast<std::size_t>(progress.state)];
  std::string start = "  " + output.Paint(mark.tint, mark.word);
  start.append(kMarkColumns - mark.word.size(), ' ');
  std::string phase = Pad(Printable(progress.phase), kPhaseColumns - 1) + " ";
  std::size_t used = 2 + kMarkColumns + Utf8Length(phase);

  std::size_t room = kTextColumns;
  if (columns != 0) {
    std::size_t taken = used + kTimeColumns + 1;
    room = std::min(kTextColumns, columns > taken ? columns - taken : 0);
  }
  std::string text = Printable(progress.text);
  if (progress.state == PhaseState::kRunning && columns != 0) {
    // The last column stays empty: some terminals wrap as soon as it is written.
    std::string rest = Fit(phase + Pad(Fit(text, room > 2 ? room - 2 : 0), room) + TimeOf(progress),
                           columns > kMarkColumns + 3 ? columns - kMarkColumns - 3 : 0);
    return start + rest;
  }
  return start + phase + Pad(text, std::max(room, Utf8Length(text) + 2)) + TimeOf(progress);
}

void Transcript::OnProgress(const Progress& progress, TimePoint now) {
  bool begins = !running_ || running_->phase != progress.phase;
  heard_ = now;
  if (progress.state == PhaseState::kRunning) {
    running_ = progress;
    if (output_.is_terminal()) {
      OnTick(now);
    } else if (detailed_ && begins) {
      output_.Write(PhaseLine(progress, output_, 0) + "\n");
    }
    return;
  }
  if (running_ && running_->phase == progress.phase) {
    running_.reset();
  }
  if (!detailed_ && !IsWorthALine(progress)) {
    if (line_open_ && !running_) {
      output_.Write("\r\x1b[K");
      line_open_ = false;
    }
    return;
  }
  if (!output_.is_terminal()) {
    output_.Write(PhaseLine(progress, output_, 0) + "\n");
    return;
  }
  output_.Write("\r" + PhaseLine(progress, output_, output_.width()) + "\x1b[K\n");
  line_open_ = false;
  if (running_) {
    OnTick(now);
  }
}

void Transcript::OnTick(TimePoint now) {
  if (!running_ || !output_.is_terminal()) {
    return;
  }
  Progress shown = *running_;
  shown.seconds += std::chrono::duration<double>(now - heard_).count();
  output_.Write("\r" + PhaseLine(shown, output_, output_.width()) + "\x1b[K");
  line_open_ = true;
}

void Transcript::Close() {
  if (line_open_) {
    output_.Write("\n");
    line_open_ = false;
  }
}

}  // namespace tidegate
