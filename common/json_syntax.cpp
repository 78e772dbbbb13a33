#include "common/json_syntax.h"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

JsonFault FaultAt(std::size_t offset, std::size_t length, std::string message,
                  std::string suggestion = {}) {
  JsonFault fault;
  fault.place.offset = static_cast<std::uint32_t>(offset);
  fault.place.length = static_cast<std::uint32_t>(length);
  fault.message = std::move(message);
  fault.suggestion = std::move(suggestion);
  return fault;
}

bool IsWordPart(char c) {
  return IsAlnum(c) || c == '_' || c == '-' || c == '.' || c == '+' || c == '/';
}

std::size_t WordEnd(std::string_view text, std::size_t offset) {
  while (offset < text.size() && IsWordPart(text[offset])) {
    ++offset;
  }
  return offset;
}

struct Skipped {
  std::size_t next;
  // Where a comment begins that does not end.
  std::optional<std::size_t> open_comment;
};

Skipped SkipBlanksAndComments(std::string_view text, std::size_t offset) {
  while (offset < text.size()) {
    char c = text[offset];
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      ++offset;
    } else if (text.substr(offset, 2) == "//") {
      offset = std::min(text.find_first_of("\n\r", offset), text.size());
    } else if (text.substr(offset, 2) == "/*") {
      std::size_t close = text.find("*/", offset + 2);
      if (close == std::string_view::npos) {
        return {text.size(), offset};
      }
      offset = close + 2;
    } else {
      break;
    }
  }
  return {offset, std::nullopt};
}

// The end of the longest number (RFC 8259 section 6) at `offset`: exactly what the lexer takes
// before it gives up.
std::size_t NumberEnd(std::string_view text, std::size_t offset) {
  auto at = [&](std::size_t i) { return i < text.size() ? text[i] : '\0'; };
  auto digits = [&](std::size_t i) {
    while (IsDigit(at(i))) {
      ++i;
    }
    return i;
  };
  std::size_t i = offset + (at(offset) == '-' ? 1 : 0);
  if (!IsDigit(at(i))) {
    return std::max(i, offset + 1);
  }
  i = at(i) == '0' ? i + 1 : digits(i);
  if (at(i) == '.' && IsDigit(at(i + 1))) {
    i = digits(i + 1);
  }
  std::size_t sign = at(i + 1) == '+' || at(i + 1) == '-' ? 1 : 0;
  if (ToLower(at(i)) == 'e' && IsDigit(at(i + 1 + sign))) {
    i = digits(i + 1 + sign);
  }
  return i;
}

std::size_t LineOf(std::string_view text, std::size_t offset) {
  return 1 + static_cast<std::size_t>(std::ranges::count(text.substr(0, offset), '\n'));
}

bool IsEscape(std::string_view rest) {
  if (rest.size() < 2) {
    return false;
  }
  if (rest[1] != 'u') {
    return std::string_view("\"\\/bfnrt").find(rest[1]) != std::string_view::npos;
  }
  auto hex = [](char c) { return IsDigit(c) || (ToLower(c) >= 'a' && ToLower(c) <= 'f'); };
  return rest.size() >= 6 && std::ranges::all_of(rest.substr(2, 4), hex);
}

// The string that begins at `start` is not one.
JsonFault ExplainString(std::string_view text, std::size_t start) {
  for (std::size_t i = start + 1; i < text.size() && text[i] != '"';) {
    auto octet = static_cast<unsigned char>(text[i]);
    if (octet == '\n' || octet == '\r') {
      return FaultAt(start, i - start, "this string does not end on its line",
                     "close it with '\"'");
    }
    if (octet < 0x20) {
      return FaultAt(i, 1, fmt::format("a control character (0x{:02x}) inside a string", octet),
                     octet == '\t' ? "write \\t" : fmt::format("write \\u{:04x}", octet));
    }
    if (octet == '\\') {
      if (!IsEscape(text.substr(i))) {
        return FaultAt(i, std::min<std::size_t>(2, text.size() - i), "JSON has no such escape",
                       "write \\\\ for a backslash");
      }
      i += 2;
      continue;
    }
    std::size_t length = Utf8SequenceLength(text, i);
    if (length == 0) {
      return FaultAt(i, 1, fmt::format("the byte 0x{:02x} is not UTF-8", octet),
                     "save the file as UTF-8");
    }
    i += length;
  }
  if (text.find('"', start + 1) == std::string_view::npos) {
    return FaultAt(start, text.size() - start, "this string does not end", "close it with '\"'");
  }
  // Every octet is fine: two \u escapes that are no character.
  return FaultAt(start, TokenEnd(text, start) - start,
                 "a \\u escape in this string is not a character", "write the character itself");
}

JsonFault ExplainNumber(std::string_view text, std::size_t start) {
  // With ':', so that an address is one word.
  std::size_t end = WordEnd(text, start);
  while (end + 1 < text.size() && text[end] == ':' && IsWordPart(text[end + 1])) {
    end = WordEnd(text, end + 1);
  }
  std::string_view word = text.substr(start, end - start);
  std::size_t length = std::max<std::size_t>(1, word.size());
  if (word.size() > 1 && std::ranges::all_of(word, IsDigit) && word[0] == '0') {
    std::size_t zeros = std::min(word.find_first_not_of('0'), word.size() - 1);
    return FaultAt(start, length, "a number does not begin with 0",
                   fmt::format("write {}", word.substr(zeros)));
  }
  if (NumberEnd(text, start) == end && IsDigit(text[end - 1])) {
    return FaultAt(start, length, fmt::format("the number {} is too large", word));
  }
  return FaultAt(start, length,
                 fmt::format("{} is not a number; text stands in double quotes", word),
                 fmt::format("write \"{}\"", word));
}

// A bare word where a value should be.
JsonFault ExplainWord(std::string_view text, std::size_t start) {
  std::size_t end = WordEnd(text, start);
  std::string_view word = text.substr(start, end - start);
  static constexpr std::array<std::string_view, 3> kTrue = {"true", "yes", "on"};
  static constexpr std::array<std::string_view, 3> kFalse = {"false", "no", "none"};
  auto among = [&](const auto& words) {
    return std::ranges::any_of(
        words, [&](std::string_view known) { return EqualsIgnoringCase(word, known); });
  };
  std::string suggestion = fmt::format("write \"{}\"", word);
  if (among(kTrue)) {
    suggestion = "write true";
  } else if (among(kFalse)) {
    suggestion = "write false";
  }
  return FaultAt(start, end - start,
                 fmt::format("{} is not a JSON value; text stands in double quotes", word),
                 suggestion);
}

JsonFault ExplainStranger(std::string_view text, std::size_t at) {
  char c = text[at];
  if (c == '\'') {
    std::size_t close = text.find_first_of("'\n", at + 1);
    bool closed = close != std::string_view::npos && text[close] == '\'';
    return FaultAt(at, closed ? close + 1 - at : 1,
                   "text stands in double quotes, not in single ones",
                   closed ? fmt::format("write \"{}\"", text.substr(at + 1, close - at - 1)) : "");
  }
  if (c == '#') {
    return FaultAt(at, 1, "a comment begins with //, not with #");
  }
  auto octet = static_cast<unsigned char>(c);
  if (octet >= 0x80) {
    std::size_t length = Utf8SequenceLength(text, at);
    return length == 0 ? FaultAt(at, 1, fmt::format("the byte 0x{:02x} is not UTF-8", octet),
                                 "save the file as UTF-8")
                       : FaultAt(at, length, "this character has no place outside a string");
  }
  if (!IsVisible(c)) {
    return FaultAt(at, 1, fmt::format("a control character (0x{:02x}) has no place here", octet));
  }
  return FaultAt(at, 1, fmt::format("'{}' has no place here", c));
}

JsonFault ExplainValue(std::string_view text, std::size_t at) {
  char c = text[at];
  if (c == '"') {
    return ExplainString(text, at);
  }
  if (IsDigit(c) || c == '-' || c == '+' || c == '.') {
    return ExplainNumber(text, at);
  }
  if (IsAlpha(c) || c == '_' || (c == '/' && text.substr(at, 2) != "//")) {
    return ExplainWord(text, at);
  }
  if (c == ',' || c == '}' || c == ']' || c == ':') {
    return FaultAt(at, 1, fmt::format("a value is missing before '{}'", c));
  }
  return ExplainStranger(text, at);
}

JsonFault ExplainKey(std::string_view text, std::size_t at) {
  char c = text[at];
  if (c == '"') {
    return ExplainString(text, at);
  }
  if (IsAlnum(c) || c == '_' || c == '$') {
    std::size_t end = std::max(WordEnd(text, at), at + 1);
    return FaultAt(at, end - at, "a key stands in double quotes",
                   fmt::format("write \"{}\"", text.substr(at, end - at)));
  }
  if (c == '{' || c == '[') {
    return FaultAt(at, 1, fmt::format("a key is missing before '{}'", c),
                   "write \"key\": in front of it");
  }
  if (c == ']') {
    return FaultAt(at, 1, "this ']' closes an object", "write '}'");
  }
  if (c == ',' || c == ':') {
    return FaultAt(at, 1, fmt::format("a key is missing before '{}'", c));
  }
  return ExplainStranger(text, at);
}

// Nothing but blanks and comments after `last`.
JsonFault ExplainEnd(std::string_view text, const JsonProgress& progress, std::size_t last) {
  if (auto comment = SkipBlanksAndComments(text, last).open_comment) {
    return FaultAt(*comment, 2, "this comment does not end", "close it with */");
  }
  if (progress.open.empty()) {
    return FaultAt(0, 0, "the file is empty",
                   "the smallest configuration is { \"listen\": \":8080\", \"upstream\": "
                   "\"127.0.0.1:3000\" }");
  }
  std::size_t start = progress.open.back();
  bool object = text[start] == '{';
  return FaultAt(
      start, 1,
      fmt::format("the file ends inside {} that begins here", object ? "an object" : "an array"),
      object ? "close it with '}'" : "close it with ']'");
}

// After a value: only ',' and the right closing bracket may follow, and only a key or value after
// ','.
JsonFault ExplainAfterValue(std::string_view text, const JsonProgress& progress, std::size_t at) {
  std::size_t start = progress.open.back();
  bool object = text[start] == '{';
  char c = text[at];
  if (c == ',') {
    std::size_t next = SkipBlanks(text, at + 1);
    if (next == text.size()) {
      return ExplainEnd(text, progress, at + 1);
    }
    if (text[next] == '}' || text[next] == ']') {
      return FaultAt(at, 1, fmt::format("a comma before '{}'", text[next]), "remove this comma");
    }
    if (text[next] == ',') {
      return FaultAt(next, 1, "two commas in a row", "remove one");
    }
    return object ? ExplainKey(text, next) : ExplainValue(text, next);
  }
  if (c == '}' || c == ']') {
    return FaultAt(at, 1,
                   fmt::format("'{}' does not close the {} that begins on line {}", c,
                               object ? "object" : "array", LineOf(text, start)),
                   object ? "write '}'" : "write ']'");
  }
  if (at == progress.cursor && at > 0 && IsDigit(text[at - 1]) && (IsWordPart(c) || c == ':')) {
    std::size_t number = at;
    while (number > 0 && IsWordPart(text[number - 1])) {
      --number;
    }
    return ExplainNumber(text, number);
  }
  if (c == ':') {
    return object ? FaultAt(at, 1, "a ':' where ',' or '}' should be")
                  : FaultAt(at, 1, "a key inside an array", "write { \"key\": value }");
  }
  if (c == ';' || c == '=') {
    return FaultAt(at, 1, fmt::format("'{}' where ',' should be", c), "write ','");
  }
  if (c == '"' || c == '{' || c == '[' || c == '-' || IsAlnum(c)) {
    return FaultAt(
        progress.cursor, 0,
        object ? "a comma is missing between two members" : "a comma is missing between two values",
        "write ',' here");
  }
  return ExplainStranger(text, at);
}

JsonFault ExplainAfterKey(std::string_view text, const JsonProgress& progress, std::size_t at) {
  if (text[at] == ':') {
    std::size_t value = SkipBlanks(text, at + 1);
    return value == text.size() ? ExplainEnd(text, progress, at + 1) : ExplainValue(text, value);
  }
  if (text[at] == '=') {
    return FaultAt(at, 1, "'=' where ':' should be", "write ':'");
  }
  return FaultAt(progress.cursor, 0, "a ':' is missing after a key", "write ':' here");
}

JsonFault Explain(std::string_view text, const JsonProgress& progress) {
  std::size_t at = SkipBlanks(text, progress.cursor);
  if (at == text.size()) {
    return ExplainEnd(text, progress, progress.cursor);
  }
  switch (progress.state) {
    case JsonState::kNothing:
      return ExplainValue(text, at);
    case JsonState::kDone:
      return FaultAt(at, TokenEnd(text, at) - at, "more text after the end of the configuration");
    case JsonState::kObjectOpened:
      return ExplainKey(text, at);
    case JsonState::kArrayOpened:
      return text[at] == '}' ? FaultAt(at, 1, "this '}' closes an array", "write ']'")
                             : ExplainValue(text, at);
    case JsonState::kKey:
      return ExplainAfterKey(text, progress, at);
    case JsonState::kValue:
      return ExplainAfterValue(text, progress, at);
  }
  return FaultAt(std::min(progress.lexer_offset, text.size()), 0,
                 std::string(progress.lexer_message));
}

}  // namespace

std::size_t SkipBlanks(std::string_view text, std::size_t offset) {
  return SkipBlanksAndComments(text, offset).next;
}

std::size_t TokenEnd(std::string_view text, std::size_t offset) {
  if (offset >= text.size()) {
    return text.size();
  }
  if (text[offset] == '"') {
    std::size_t i = offset + 1;
    while (i < text.size() && text[i] != '"') {
      i += text[i] == '\\' ? 2 : 1;
    }
    return std::min(i + 1, text.size());
  }
  if (IsDigit(text[offset]) || text[offset] == '-') {
    return NumberEnd(text, offset);
  }
  std::size_t i = offset;
  while (i < text.size() && IsAlpha(text[i])) {
    ++i;
  }
  return std::max(i, offset + 1);
}

JsonFault ExplainSyntaxError(std::string_view text, const JsonProgress& progress) {
  JsonFault fault = Explain(text, progress);
  // The message is all that is left if nothing above knew better.
  if (fault.message.empty()) {
    fault.message = progress.lexer_message;
  }
  return fault;
}

}  // namespace tidegate
