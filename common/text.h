#pragma once

// Small questions about text: letters, tokens, UTF-8, and which known word somebody probably meant.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tidegate {

// ASCII only; locales never change what a configuration or a header means.
constexpr char ToLower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}
constexpr bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
constexpr bool IsAlpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
constexpr bool IsAlnum(char c) {
  return IsDigit(c) || IsAlpha(c);
}
// 0x21 to 0x7e: what may stand in a URL or a name without quoting.
constexpr bool IsVisible(char c) {
  return c > 0x20 && c < 0x7f;
}

std::string ToLower(std::string_view text);
bool EqualsIgnoringCase(std::string_view a, std::string_view b);
// RFC 9110 section 5.6.2: at least one character of a field name or method.
bool IsToken(std::string_view text);
// RFC 9110 section 5.5, as strict as we write: no control characters but the tab, no spaces at the
// ends.
bool IsFieldValue(std::string_view text);

// The bytes of the UTF-8 sequence at `offset`: 1 to 4, or 0 if it is not valid (RFC 3629: no
// surrogates, nothing overlong). `offset` < text.size().
std::size_t Utf8SequenceLength(std::string_view text, std::size_t offset);
// Code points; a byte that is not valid UTF-8 counts as one.
std::size_t Utf8Length(std::string_view text);

// Insertions, deletions, replacements and swaps of neighbours between two words, in lower case.
std::size_t EditDistance(std::string_view a, std::string_view b);
// The candidate that `word` is probably a misspelling of, or nothing. The first of equals.
std::optional<std::string_view> Nearest(std::string_view word,
                                        std::span<const std::string_view> candidates);

// RFC 4648 section 4, padded, on one line.
std::string ToBase64(std::string_view octets);

// `1 error`, `2 errors`.
std::string CountOf(std::uint64_t count, std::string_view noun);
// `a, b or c`, each in double quotes.
std::string QuotedChoice(std::span<const std::string_view> words);

}  // namespace tidegate
