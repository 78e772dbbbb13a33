#pragma once

// JSON with `//` and `/* */` comments, read into a tree in which every key and value knows its
// place, every duplicate key is a fault, and a syntax error is explained in words.
//
// nlohmann's SAX parser scans. It reports no positions, and what its lexer has consumed when a
// callback comes differs by token (a number is seen one character late). So positions do not come
// from a counting iterator: callbacks arrive in the order of the text, and each token begins after
// the blanks, comments, ':' and ',' that follow the last one. Its end is found by its first
// character. That holds for every token, whatever the lexer has read ahead.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tidegate {

// A piece of a file, in bytes.
struct Place {
  // Chosen by the caller of ReadJson.
  std::uint32_t file = 0;
  std::uint32_t offset = 0;
  std::uint32_t length = 0;
};

struct JsonMember;

struct JsonNode {
  enum class Kind : std::uint8_t { kNull, kFlag, kInteger, kReal, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  // True for a kString that a variable became a part of: its text may stand for a number or a flag.
  bool expanded = false;
  // True for a kString whose variable is not set; the fault is reported already.
  bool unset = false;
  bool flag = false;
  // Of array and object: from the opening to the closing bracket.
  Place place;
  // Saturated at the ends of the type; no setting reaches so far.
  std::int64_t integer = 0;
  // kString: the value, valid UTF-8. kReal: as written.
  std::string text;
  std::vector<JsonNode> items;
  // In the order of the file; no two of one key (the first is kept).
  std::vector<JsonMember> members;

  // The value of a member, or null.
  const JsonNode* Find(std::string_view key) const;
};

struct JsonMember {
  std::string key;
  Place key_place;
  JsonNode value;
};

// `a string`, `an object`, for messages.
std::string_view NameOf(JsonNode::Kind kind);

struct JsonFault {
  Place place;
  // `routes[2].headers`; empty for the whole.
  std::string path;
  std::string message;
  // May be empty.
  std::string suggestion;
};

struct JsonDocument {
  // Nothing after a syntax error.
  std::optional<JsonNode> root;
  // At most one syntax error, and every duplicate key before it.
  std::vector<JsonFault> faults;
};

// Reads all of `text`; places carry `file`. At most 64 levels deep. A byte order mark is skipped.
JsonDocument ReadJson(std::string_view text, std::uint32_t file);

// `routes` and `path` become `routes.path`; a key with other characters than letters, digits, '_'
// and '-' is quoted: `upstreams["a.b"]`.
std::string MemberPath(std::string_view path, std::string_view key);
std::string ItemPath(std::string_view path, std::size_t index);

}  // namespace tidegate
