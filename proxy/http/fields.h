#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "common/text.h"

namespace tidegate {

// The fields that Tidegate itself looks at. Everything else is kOther.
enum class FieldId : std::uint8_t {
  kOther,
  kConnection,
  kContentLength,
  kDate,
  kExpect,
  kForwarded,
  kHost,
  kKeepAlive,
  kMaxForwards,
  kProxyAuthenticate,
  kProxyConnection,
  kServer,
  kTe,
  kTrailer,
  kTransferEncoding,
  kUpgrade,
  kVia,
  kXForwardedFor,
  kXForwardedHost,
  kXForwardedPort,
  kXForwardedProto,
  kXRequestId,
};

// Case-insensitive; kOther for what has no row.
FieldId FieldIdOf(std::string_view name);

// True if `list`, a comma-separated list of tokens (RFC 9110 section 5.6.1), has `token`; empty
// elements are skipped, case does not count, parameters after ';' are not part of the token.
bool ListHasToken(std::string_view list, std::string_view token);

// True if a peer that reads `_` as `-` (CGI and its descendants do) would take `name` for a field
// that has a row above although it is none: `X_Forwarded_For`. Such a field must not reach an
// origin.
bool PassesForKnownField(std::string_view name);

// Octets that live until Clear. Blocks do not move, so views into them stay valid while more is
// added.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // A copy of `text`.
  std::string_view Copy(std::string_view text) { return Extend({}, text); }
  // `text`, which Copy or Extend returned, with `more` after it; the old view is dead. Cheap when
  // `text` was the last one.
  std::string_view Extend(std::string_view text, std::string_view more) {
    const char* start = text.empty() ? position_ : text.data();
    if (start + text.size() != position_ ||
        more.size() > static_cast<std::size_t>(end_ - position_)) {
      return Move(text, more);
    }
    if (!more.empty()) {
      std::memcpy(position_, more.data(), more.size());
    }
    position_ += more.size();
    return {start, text.size() + more.size()};
  }
  // `size` octets to fill in; at least 1.
  char* Allocate(std::size_t size);
  // Forgets everything; keeps the first block (4 KiB) and frees the rest.
  void Clear();

 private:
  static constexpr std::size_t kBlockBytes = 4096;

  struct Block {
    std::unique_ptr<char[]> data;
    std::size_t size;
  };
  // Extend where `text` cannot grow in place: both go to where there is room for them to double.
  std::string_view Move(std::string_view text, std::string_view more);
  void AddBlock(std::size_t at_least);

  std::vector<Block> blocks_;
  char* position_ = nullptr;
  char* end_ = nullptr;
};

struct Field {
  std::string_view name;   // as received
  std::string_view value;  // without surrounding white space
  FieldId id = FieldId::kOther;
  // Name and value stand in one text as `line()` has it: it can be written as it is. The text has
  // no octet below 0x20 but tabs and its end.
  bool is_line = false;

  // Of "Name: value\r\n", whose name has `name_size` octets.
  static constexpr Field OfLine(FieldId id, std::string_view line, std::size_t name_size) {
    return {line.substr(0, name_size), line.substr(name_size + 2, line.size() - name_size - 4), id,
            true};
  }
  // "Name: value\r\n", if is_line.
  std::string_view line() const { return {name.data(), name.size() + value.size() + 4}; }
  void SetValue(std::string_view new_value) {
    value = new_value;
    is_line = false;
  }
};

// Header or trailer fields in order, duplicates kept (Set-Cookie is never joined). Names and values
// are views into the arena of the head that they belong to.
class Fields {
 public:
  // The views must live as long as this object: static text, or text in the head's arena.
  void Add(std::string_view name, std::string_view value) {
    items_.push_back({name, value, FieldIdOf(name)});
  }
  void Add(const Field& field) { items_.push_back(field); }

  // The first one, or null.
  const Field* Find(FieldId id) const;
  const Field* Find(std::string_view name) const;
  bool Has(FieldId id) const { return Find(id) != nullptr; }

  // Removes all of that name; returns how many.
  std::size_t Remove(FieldId id);
  std::size_t Remove(std::string_view name);

  std::vector<Field>& items() { return items_; }
  const std::vector<Field>& items() const { return items_; }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }
  std::size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  void Clear() { items_.clear(); }

 private:
  std::vector<Field> items_;
};

}  // namespace tidegate
