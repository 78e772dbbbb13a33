#include "man/page.h"

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

constexpr std::string_view kBegin = "; begin ";
constexpr std::string_view kEnd = "; end";

// Takes the first line off `text`, without its end.
std::string_view TakeLine(std::string_view& text) {
  std::size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

}  // namespace

Result<std::string> FillParts(std::string_view page, const PartWriter& writer) {
  std::string filled;
  std::size_t number = 0;
  while (!page.empty()) {
    std::string_view line = TakeLine(page);
    ++number;
    filled += fmt::format("{}\n", line);
    if (!line.starts_with(kBegin)) {
      continue;
    }
    const std::size_t begun = number;
    std::string_view what = line.substr(kBegin.size());
    std::size_t space = std::min(what.find(' '), what.size());
    std::string_view argument = what.substr(std::min(space + 1, what.size()));
    std::optional<std::string> part = writer(what.substr(0, space), argument);
    if (!part) {
      return Fail(ErrorKind::kConfig, fmt::format("{}: no table says \"{}\"", begun, what));
    }
    std::string_view old;
    do {
      if (page.empty()) {
        return Fail(ErrorKind::kConfig, fmt::format("{}: \"{}\" does not end", begun, what));
      }
      old = TakeLine(page);
      ++number;
    } while (old != kEnd && !old.starts_with(kBegin));
    if (old != kEnd) {
      return Fail(ErrorKind::kConfig, fmt::format("{}: \"{}\" does not end", begun, what));
    }
    filled += fmt::format("{}{}\n", *part, kEnd);
  }
  return filled;
}

std::string FirstDifference(std::string_view there, std::string_view meant) {
  for (std::size_t number = 1; !there.empty() || !meant.empty(); ++number) {
    std::string_view is = TakeLine(there);
    std::string_view should_be = TakeLine(meant);
    if (is != should_be) {
      return fmt::format("{}: the page says\n  {}\nand the tables say\n  {}\n", number, is,
                         should_be);
    }
  }
  return {};
}

std::string Escaped(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    // '+' only as "++", which breaks a line; others where they begin a list, a table, a heading.
    if (std::string_view("\\_*").contains(c) || (c == '+' && escaped.ends_with('+')) ||
        (escaped.empty() && std::string_view("-.#;|[]`").contains(c))) {
      escaped += '\\';
    }
    escaped += c;
  }
  return escaped;
}

std::string Sentence(std::string_view text) {
  std::string sentence(text);
  if (!sentence.empty() && sentence.front() >= 'a' && sentence.front() <= 'z') {
    sentence.front() = static_cast<char>(sentence.front() & ~0x20);
  }
  if (!sentence.empty() && !std::string_view(".;:").contains(sentence.back())) {
    sentence += '.';
  }
  return sentence;
}

}  // namespace tidegate
