#include "common/config_diagnostics.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/text.h"

namespace tidegate {
namespace {

// What is shown of a line: enough to recognise it, short enough for a terminal.
constexpr std::size_t kShownCharacters = 110;
constexpr std::size_t kShownBefore = 60;
constexpr std::string_view kCut = "...";

// Characters `first` up to `last` of a line: a terminal must not obey what a broken file says, and
// one column is one column.
std::string Printable(std::string_view line, std::size_t first = 0,
                      std::size_t last = std::string_view::npos) {
  std::string shown;
  for (std::size_t i = 0, number = 0; i < line.size() && number < last; ++number) {
    std::size_t length = Utf8SequenceLength(line, i);
    std::size_t begin = i;
    i += std::max<std::size_t>(length, 1);
    if (number < first) {
      continue;
    }
    auto octet = static_cast<unsigned char>(line[begin]);
    // C1 control characters (U+0080 to U+009f) are obeyed by some terminals too.
    bool c1 = length == 2 && octet == 0xc2 && static_cast<unsigned char>(line[begin + 1]) < 0xa0;
    if (line[begin] == '\t') {
      shown += ' ';
    } else if (length == 0 || octet < 0x20 || octet == 0x7f || c1) {
      shown += '?';
    } else {
      shown += line.substr(begin, length);
    }
  }
  return shown;
}

// Cuts a long line around the column. A whole configuration may be one line, and have a thousand
// faults.
void ShowLine(Diagnostic& diagnostic, std::string_view line) {
  std::size_t size = Utf8Length(line);
  std::size_t column = diagnostic.column - 1;
  std::size_t first = 0;
  if (size > kShownCharacters && column > kShownBefore) {
    first = std::min(column - kShownBefore, size - std::min(size, kShownCharacters));
  }
  std::size_t last = std::min(size, first + kShownCharacters);
  std::string shown = first > 0 ? std::string(kCut) : "";
  shown += Printable(line, first, last);
  if (last < size) {
    shown += kCut;
  }
  std::size_t shift = first > 0 ? kCut.size() : 0;
  std::size_t room = last > column ? last - column : 1;
  diagnostic.source_line = std::move(shown);
  diagnostic.column_shown = static_cast<unsigned>(column - first + shift + 1);
  diagnostic.length = static_cast<unsigned>(std::clamp<std::size_t>(diagnostic.length, 1, room));
}

}  // namespace

std::uint32_t Diagnostics::AddFile(std::string name, std::string text) {
  File file{std::move(name), std::move(text), {0}};
  // A byte order mark is no character of the first line.
  if (file.text.starts_with("\xef\xbb\xbf")) {
    file.line_starts[0] = 3;
  }
  for (std::size_t i = 0; i < file.text.size(); ++i) {
    if (file.text[i] == '\n') {
      file.line_starts.push_back(static_cast<std::uint32_t>(i + 1));
    }
  }
  files_.push_back(std::move(file));
  return static_cast<std::uint32_t>(files_.size() - 1);
}

Diagnostics::Line Diagnostics::LineAt(const File& file, std::uint32_t offset) const {
  auto after = std::ranges::upper_bound(file.line_starts, std::max(offset, file.line_starts[0]));
  return {static_cast<unsigned>(after - file.line_starts.begin()), *(after - 1)};
}

void Diagnostics::Add(Severity severity, const Place& place, std::string path, std::string message,
                      std::string suggestion) {
  const File& file = files_[place.file];
  std::string_view text = file.text;
  Line line = LineAt(file, place.offset);
  std::size_t line_end = std::min(text.find('\n', line.start), text.size());
  std::size_t begin = std::clamp<std::size_t>(place.offset, line.start, line_end);
  std::string_view source = text.substr(line.start, line_end - line.start);
  if (source.ends_with('\r')) {
    source.remove_suffix(1);
  }

  Entry entry{place.file, place.offset, entries_.size(), {}};
  Diagnostic& diagnostic = entry.diagnostic;
  diagnostic.severity = severity;
  diagnostic.file = file.name;
  diagnostic.line = line.number;
  diagnostic.column =
      static_cast<unsigned>(Utf8Length(text.substr(line.start, begin - line.start)) + 1);
  diagnostic.path = Printable(path);
  diagnostic.message = Printable(message);
  diagnostic.suggestion = Printable(suggestion);
  std::size_t end = std::min<std::size_t>(place.offset + place.length, line.start + source.size());
  diagnostic.length =
      end > begin ? static_cast<unsigned>(Utf8Length(text.substr(begin, end - begin))) : 1;
  ShowLine(diagnostic, source);
  error_count_ += severity == Severity::kError ? 1 : 0;
  entries_.push_back(std::move(entry));
}

void Diagnostics::AddError(const Place& place, std::string path, std::string message,
                           std::string suggestion) {
  Add(Severity::kError, place, std::move(path), std::move(message), std::move(suggestion));
}

void Diagnostics::AddWarning(const Place& place, std::string path, std::string message,
                             std::string suggestion) {
  Add(Severity::kWarning, place, std::move(path), std::move(message), std::move(suggestion));
}

void Diagnostics::AddError(const Place& place, std::string path, const Error& error) {
  const std::string& detail = error.detail();
  std::size_t cut = detail.rfind("; ");
  if (cut == std::string::npos) {
    AddError(place, std::move(path), detail);
  } else {
    AddError(place, std::move(path), detail.substr(0, cut), detail.substr(cut + 2));
  }
}

void Diagnostics::AddError(std::string file, std::string message) {
  Entry entry{0, 0, entries_.size(), {}};
  entry.diagnostic.file = std::move(file);
  entry.diagnostic.message = std::move(message);
  ++error_count_;
  entries_.push_back(std::move(entry));
}

std::string Diagnostics::LineReference(const Place& place) const {
  const File& file = files_[place.file];
  return fmt::format("{}:{}", file.name, LineAt(file, place.offset).number);
}

std::vector<Diagnostic> Diagnostics::Take() {
  std::ranges::sort(entries_, {},
                    [](const Entry& e) { return std::tuple(e.file, e.offset, e.order); });
  std::vector<Diagnostic> diagnostics;
  for (Entry& entry : entries_) {
    diagnostics.push_back(std::move(entry.diagnostic));
  }
  entries_.clear();
  error_count_ = 0;
  return diagnostics;
}

std::string FormatDiagnostics(const std::vector<Diagnostic>& diagnostics) {
  std::string text;
  std::size_t errors = 0;
  for (const Diagnostic& d : diagnostics) {
    errors += d.severity == Severity::kError ? 1 : 0;
    text += d.file;
    if (d.line > 0) {
      text += fmt::format(":{}:{}", d.line, d.column);
    }
    text += d.severity == Severity::kError ? ": error: " : ": warning: ";
    text += d.path.empty() ? "" : d.path + ": ";
    text += d.message + "\n";
    if (d.line > 0) {
      std::string underline = "^" + std::string(d.length - 1, '~');
      text += fmt::format("{:>5} | {}\n", d.line, d.source_line);
      text += fmt::format("      | {}{}{}{}\n", std::string(d.column_shown - 1, ' '), underline,
                          d.suggestion.empty() ? "" : " ", d.suggestion);
    }
  }
  std::size_t warnings = diagnostics.size() - errors;
  if (errors > 0) {
    text += CountOf(errors, "error") + (warnings > 0 ? ", " : ".\n");
  }
  if (warnings > 0) {
    text += CountOf(warnings, "warning") + ".\n";
  }
  return text;
}

std::string DiagnosticsJson(const std::vector<Diagnostic>& diagnostics) {
  auto array = nlohmann::ordered_json::array();
  for (const Diagnostic& d : diagnostics) {
    array.push_back({{"severity", d.severity == Severity::kError ? "error" : "warning"},
                     {"file", d.file},
                     {"line", d.line},
                     {"column", d.column},
                     {"path", d.path},
                     {"message", d.message},
                     {"suggestion", d.suggestion}});
  }
  // File names need not be UTF-8.
  return array.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace tidegate
