#pragma once

// Where the client writes: stdout for results, stderr for diagnostics. Knows whether that is a
// terminal, how wide it is, and whether colour is wanted. A reader that went away (EPIPE) is no
// fault: what follows is dropped. A full disk is one.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "supervisor/invocation.h"

namespace tidegate {

// Colour is never the only signal: every use has a word beside it.
enum class Tint : std::uint8_t { kNone, kGood, kBad, kWarning, kBusy, kFaint, kStrong };

class Output {
 public:
  // Does not own `fd`. SIGPIPE must be ignored.
  Output(int fd, ColorMode color);

  void Write(std::string_view text);
  // True after a write failed: nothing more is written.
  bool closed() const { return closed_; }
  // Why it failed, an errno; 0 if it did not, or if the reader went away.
  int fault() const { return fault_; }
  // True if lines may be redrawn in place.
  bool is_terminal() const { return is_terminal_; }
  // Columns of the terminal, asked each time; 80 if it does not say.
  unsigned width() const;
  // Lines of the terminal; 24 if it does not say.
  unsigned height() const;

  // `text` in colour if colour is wanted, `text` otherwise.
  std::string Paint(Tint tint, std::string_view text) const;
  // FormatDiagnostics' text, with the words error and warning and the underlined place in colour.
  std::string PaintDiagnostics(std::string_view text) const;

 private:
  int fd_;
  bool is_terminal_;
  bool colored_;
  bool closed_ = false;
  int fault_ = 0;
};

// The two outputs of an invocation. Results are dropped with --quiet; diagnostics never are.
struct Outputs {
  explicit Outputs(const Invocation& invocation)
      : results(1, invocation.color), diagnostics(2, invocation.color), quiet(invocation.quiet) {}

  // A result, unless only errors are wanted.
  void Say(std::string_view text) {
    if (!quiet) {
      results.Write(text);
    }
  }
  // `tidegate: MESSAGE`, on stderr.
  void Complain(std::string_view message);

  Output results;
  Output diagnostics;
  bool quiet;
};

// `text` in at most `columns` columns; what is cut off is marked by "...". Counts code points.
std::string Fit(std::string_view text, std::size_t columns);
// `text` and spaces up to `columns`.
std::string Pad(std::string_view text, std::size_t columns);
// Control characters become `?`: names and addresses come from other processes.
std::string Printable(std::string_view text);
// 0.08s, 12.3s, 1m05s, 3h10m, 2d4h.
std::string FormatSeconds(double seconds);
// 381, 12.3 KiB, 1.0 GiB.
std::string FormatOctets(std::uint64_t octets);

// Lines of cells under a head, two spaces apart; the last column is never padded.
class Table {
 public:
  struct Cell {
    // A cell may be given as its text alone.
    Cell(std::string words, Tint color = Tint::kNone) : text(std::move(words)), tint(color) {}
    Cell(const char* words) : text(words) {}
    std::string text;
    Tint tint = Tint::kNone;
  };

  explicit Table(std::vector<std::string> head) : head_(std::move(head)) {}
  // As many cells as the head has.
  void Add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.empty(); }
  // Columns whose cells are all empty are left out.
  std::string Format(const Output& output) const;

 private:
  std::vector<std::string> head_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace tidegate
