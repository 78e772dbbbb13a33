#include "supervisor/transcript.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>

#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace tidegate {
namespace {

using std::chrono::milliseconds;

// What was written to one end of a pipe or terminal, read from the other.
std::string ReadAll(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  std::string text;
  std::array<char, 4096> part;
  for (ssize_t count = 0; (count = ::read(fd, part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(count));
  }
  return text;
}

struct Pipe {
  Pipe() {
    std::array<int, 2> fds;
    EXPECT_EQ(::pipe(fds.data()), 0);
    read_end.Reset(fds[0]);
    write_end.Reset(fds[1]);
  }
  UniqueFd read_end;
  UniqueFd write_end;
};

struct Pty {
  explicit Pty(unsigned short columns) {
    ::setenv("TERM", "xterm", 1);
    winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    int master = -1;
    int terminal = -1;
    EXPECT_EQ(::openpty(&master, &terminal, nullptr, nullptr, &size), 0);
    read_end.Reset(master);
    write_end.Reset(terminal);
  }
  UniqueFd read_end;
  UniqueFd write_end;
};

Progress Make(const char* phase, PhaseState state, const char* text, double seconds) {
  return {.phase = phase, .state = state, .text = text, .seconds = seconds, .limit_seconds = {}};
}

TEST(Transcript, LinesAreThoseOfTheManual) {
  Output output(-1, ColorMode::kNever);
  EXPECT_EQ(
      PhaseLine(Make("preflight", PhaseState::kOk,
                     "new binaries accept the running state and configuration", 0.08),
                output, 0),
      "  ok    preflight   new binaries accept the running state and configuration     0.08s");
  Progress drain =
      Make("drain", PhaseState::kRunning, "generation 7: 13 of 412 left, oldest 4.1s", 12);
  drain.limit_seconds = 30;
  EXPECT_EQ(
      PhaseLine(drain, output, 0),
      "  ...   drain       generation 7: 13 of 412 left, oldest 4.1s                   12s/30s");
}

TEST(Transcript, AFinishedLineKeepsItsWholeText) {
  Output output(-1, ColorMode::kNever);
  std::string reason(100, 'x');
  EXPECT_EQ(PhaseLine(Make("prepare", PhaseState::kFailed, reason.c_str(), 0.35), output, 40),
            "  fail  prepare     " + reason + "  0.35s");
}

TEST(Transcript, ARunningLineIsNeverWiderThanTheTerminal) {
  Output output(-1, ColorMode::kNever);
  Progress progress = Make("drain", PhaseState::kRunning,
                           "generation 7: 13 of 412 left, oldest 4.1s, änd möre", 12);
  progress.limit_seconds = 30;
  for (unsigned columns = 10; columns < 120; ++columns) {
    EXPECT_LT(PhaseLine(progress, output, columns).size(), columns + 2) << columns;
  }
  EXPECT_NE(PhaseLine(progress, output, 50).find("12s/30s"), std::string::npos);
}

TEST(Transcript, WritesOnlyFinishedPhasesWhereNobodyWatches) {
  Pipe pipe;
  Output output(pipe.write_end.get(), ColorMode::kNever);
  Transcript transcript(output, false);
  Transcript::TimePoint now{};
  transcript.OnProgress(Make("prepare", PhaseState::kRunning, "1 of 4", 0), now);
  transcript.OnTick(now + milliseconds(100));
  transcript.OnProgress(Make("prepare", PhaseState::kRunning, "2 of 4", 0.1), now);
  EXPECT_EQ(transcript.running()->text, "2 of 4");
  transcript.OnProgress(Make("prepare", PhaseState::kOk, "4 workers", 0.2), now);
  EXPECT_FALSE(transcript.running());
  transcript.Close();
  EXPECT_EQ(
      ReadAll(pipe.read_end.get()),
      "  ok    prepare     4 workers                                                   0.20s\n");
}

TEST(Transcript, BookKeepingShowsOnlyWhenItGoesWrongOrAllIsWanted) {
  for (bool detailed : {false, true}) {
    Pipe pipe;
    Output output(pipe.write_end.get(), ColorMode::kNever);
    Transcript transcript(output, detailed);
    transcript.OnProgress(Make("snapshot", PhaseState::kOk, "2 changes", 0), {});
    transcript.OnProgress(Make("bind", PhaseState::kFailed, "address in use", 0), {});
    std::string text = ReadAll(pipe.read_end.get());
    EXPECT_EQ(text.contains("snapshot"), detailed);
    EXPECT_TRUE(text.contains("  fail  bind        address in use"));
  }
}

TEST(Transcript, BookKeepingLeavesNoTraceOnATerminal) {
  Pty pty(60);
  Output output(pty.write_end.get(), ColorMode::kNever);
  Transcript transcript(output, false);
  transcript.OnProgress(Make("bind", PhaseState::kRunning, "", 0), {});
  EXPECT_TRUE(ReadAll(pty.read_end.get()).contains("bind"));
  transcript.OnProgress(Make("bind", PhaseState::kOk, "", 0), {});
  EXPECT_EQ(ReadAll(pty.read_end.get()), "\r\x1b[K");
}

TEST(Transcript, DetailedAlsoSaysWhatBegins) {
  Pipe pipe;
  Output output(pipe.write_end.get(), ColorMode::kNever);
  Transcript transcript(output, true);
  transcript.OnProgress(Make("drain", PhaseState::kRunning, "2 left", 0), {});
  transcript.OnProgress(Make("drain", PhaseState::kRunning, "1 left", 1), {});
  std::string text = ReadAll(pipe.read_end.get());
  EXPECT_NE(text.find("  ...   drain       2 left"), std::string::npos);
  EXPECT_EQ(text.find("1 left"), std::string::npos);
}

TEST(Transcript, RedrawsTheRunningLineInPlaceOnATerminal) {
  Pty pty(60);
  Output output(pty.write_end.get(), ColorMode::kNever);
  ASSERT_TRUE(output.is_terminal());
  EXPECT_EQ(output.width(), 60U);
  Transcript transcript(output, false);
  Transcript::TimePoint now{};
  transcript.OnProgress(Make("drain", PhaseState::kRunning, "9 left", 3), now);
  transcript.OnTick(now + milliseconds(2500));
  std::string text = ReadAll(pty.read_end.get());
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_NE(text.find("3s\x1b[K\r  ...   drain       9 left"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("5s\x1b[K")) << text;

  transcript.OnProgress(Make("drain", PhaseState::kOk, "none left", 6), now);
  text = ReadAll(pty.read_end.get());
  EXPECT_TRUE(text.starts_with("\r  ok    drain       none left")) << text;
  EXPECT_TRUE(text.ends_with("6.00s\x1b[K\r\n")) << text;
  transcript.Close();
  EXPECT_EQ(ReadAll(pty.read_end.get()), "");
}

TEST(Transcript, CloseEndsALineThatStillRuns) {
  Pty pty(80);
  Output output(pty.write_end.get(), ColorMode::kNever);
  Transcript transcript(output, false);
  transcript.OnProgress(Make("drain", PhaseState::kRunning, "9 left", 3), {});
  transcript.Close();
  EXPECT_TRUE(ReadAll(pty.read_end.get()).ends_with("\r\n"));
}

}  // namespace
}  // namespace tidegate
