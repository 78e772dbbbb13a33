#pragma once

// Why a text is not JSON, in words that say what to change.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/json_reader.h"

namespace tidegate {

// What was read before the fault.
enum class JsonState : std::uint8_t { kNothing, kObjectOpened, kArrayOpened, kKey, kValue, kDone };

struct JsonProgress {
  JsonState state = JsonState::kNothing;
  // Behind the last good token.
  std::size_t cursor = 0;
  // Where the containers that are still open began.
  std::vector<std::size_t> open;
  // The lexer's own position and words; used when nothing better is known.
  std::size_t lexer_offset = 0;
  std::string_view lexer_message;
};

// The first byte at or after `offset` that is neither blank nor inside a comment; text.size() if
// there is none, also when a comment is not closed.
std::size_t SkipBlanks(std::string_view text, std::size_t offset);
// One behind the last byte of the token at `offset`: a string with its quotes, a number, a word, or
// one character.
std::size_t TokenEnd(std::string_view text, std::size_t offset);

// `text` breaks after what `progress` says. The fault's place lies within the text (or one behind
// it, with length 0).
JsonFault ExplainSyntaxError(std::string_view text, const JsonProgress& progress);

}  // namespace tidegate
