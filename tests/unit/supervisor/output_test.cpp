#include "supervisor/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace tidegate {
namespace {

TEST(Output, FitCutsByCharactersAndMarksTheCut) {
  EXPECT_EQ(Fit("short", 10), "short");
  EXPECT_EQ(Fit("exactly ten", 11), "exactly ten");
  EXPECT_EQ(Fit("much too long", 8), "much ...");
  EXPECT_EQ(Fit("äöüäöüäöü", 6), "äöü...");
  EXPECT_EQ(Fit("anything", 2), "..");
  EXPECT_EQ(Fit("anything", 0), "");
}

TEST(Output, SecondsKeepTheDigitsThatMatter) {
  EXPECT_EQ(FormatSeconds(0), "0.00s");
  EXPECT_EQ(FormatSeconds(0.084), "0.08s");
  EXPECT_EQ(FormatSeconds(9.999), "10.0s");
  EXPECT_EQ(FormatSeconds(59.99), "1m00s");
  EXPECT_EQ(FormatSeconds(65), "1m05s");
  EXPECT_EQ(FormatSeconds(3 * 3600 + 61), "3h01m");
  EXPECT_EQ(FormatSeconds(100000), "1d3h");
  EXPECT_EQ(FormatSeconds(-1), "0.00s");
}

TEST(Output, OctetsHaveBinaryUnits) {
  EXPECT_EQ(FormatOctets(0), "0");
  EXPECT_EQ(FormatOctets(1023), "1023");
  EXPECT_EQ(FormatOctets(1024), "1.0 KiB");
  EXPECT_EQ(FormatOctets(1ULL << 30), "1.0 GiB");
  EXPECT_EQ(FormatOctets(1048575), "1.0 MiB");
}

TEST(Output, PrintableLeavesNoControlCharacter) {
  EXPECT_EQ(Printable("a\x1b[31mb\nc"), "a?[31mb?c");
  EXPECT_EQ(Printable("grün"), "grün");
}

TEST(Output, ColourIsOnlyThereWhenItIsWanted) {
  std::array<int, 2> pipe_fds;
  ASSERT_EQ(::pipe(pipe_fds.data()), 0);
  EXPECT_EQ(Output(pipe_fds[1], ColorMode::kAuto).Paint(Tint::kGood, "ok"), "ok");
  EXPECT_EQ(Output(pipe_fds[1], ColorMode::kAlways).Paint(Tint::kGood, "ok"), "\x1b[32mok\x1b[0m");
  EXPECT_EQ(Output(pipe_fds[1], ColorMode::kAlways).Paint(Tint::kNone, "ok"), "ok");
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

TEST(Output, AReaderThatWentAwayEndsTheOutputQuietly) {
  std::signal(SIGPIPE, SIG_IGN);
  std::array<int, 2> pipe_fds;
  ASSERT_EQ(::pipe(pipe_fds.data()), 0);
  ::close(pipe_fds[0]);
  Output output(pipe_fds[1], ColorMode::kNever);
  EXPECT_FALSE(output.closed());
  output.Write("nobody reads this\n");
  EXPECT_TRUE(output.closed());
  EXPECT_EQ(output.fault(), 0);
  ::close(pipe_fds[1]);
}

TEST(Output, AFullDiskIsAFault) {
  UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  Output output(full.get(), ColorMode::kNever);
  EXPECT_EQ(output.fault(), 0);
  output.Write("lost\n");
  EXPECT_TRUE(output.closed());
  EXPECT_EQ(output.fault(), ENOSPC);
}

TEST(Output, DiagnosticsAreTheSameTextInColour) {
  const std::string text =
      "f:1:2: error: key \"warning: x\"\n    1 | { error: }\n      |   ^~~~~ oh\n1 error.\n";
  EXPECT_EQ(Output(-1, ColorMode::kNever).PaintDiagnostics(text), text);
  EXPECT_EQ(Output(-1, ColorMode::kAlways).PaintDiagnostics(text),
            "f:1:2:\x1b[31m error:\x1b[0m key \"warning: x\"\n    1 | { error: }\n"
            "      |  \x1b[32m ^~~~~\x1b[0m oh\n1 error.\n");
}

TEST(Table, AlignsItsColumnsWhateverTheColour) {
  Table table({"NAME", "STATE", "NOTE"});
  table.Add({"web", {"serving", Tint::kGood}, "x"});
  table.Add({"a longer one", "down", ""});
  EXPECT_EQ(table.Format(Output(2, ColorMode::kNever)),
            "NAME          STATE    NOTE\n"
            "web           serving  x\n"
            "a longer one  down\n");
  EXPECT_NE(table.Format(Output(2, ColorMode::kAlways)).find("\x1b[32mserving\x1b[0m  x\n"),
            std::string::npos);
}

TEST(Table, LeavesOutAColumnThatSaysNothing) {
  Table table({"NAME", "NOTE"});
  table.Add({"web", ""});
  EXPECT_EQ(table.Format(Output(2, ColorMode::kNever)), "NAME\nweb\n");
}

}  // namespace
}  // namespace tidegate
