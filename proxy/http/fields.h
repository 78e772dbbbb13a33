#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
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

// Case-insensitive; kOther for what has no row. `name` has no carriage return, which would pass for
// a hyphen: a name is a token, and llhttp refuses one inside a value, where options stand.
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
  Fields() = default;
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  // The views must live as long as this object: static text, or text in the head's arena.
  void Add(std::string_view name, std::string_view value) { Add({name, value, FieldIdOf(name)}); }
  void Add(const Field& field) {
    if (size_ == capacity_) [[unlikely]] {
      AddToFull(field);
      return;
    }
    slots_[size_++] = field;
  }
  // A field at the end, to be filled in at once.
  Field& Append() {
    if (size_ == capacity_) [[unlikely]] {
      Grow();
    }
    return slots_[size_++];
  }

  // The first one, or null.
  const Field* Find(FieldId id) const;
  const Field* Find(std::string_view name) const;
  bool Has(FieldId id) const { return Find(id) != nullptr; }

  // Removes all of that name; returns how many.
  std::size_t Remove(FieldId id);
  std::size_t Remove(std::string_view name);
  // Removes those for which `is_unwanted(const Field&)` is true; returns how many.
  template <class IsUnwanted>
  std::size_t RemoveIf(IsUnwanted is_unwanted);

  Field* begin() { return slots_.get(); }
  Field* end() { return slots_.get() + size_; }
  const Field* begin() const { return slots_.get(); }
  const Field* end() const { return slots_.get() + size_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  void Clear() { size_ = 0; }

 private:
  // Not inlined, for the sake of Add and Append.
  [[gnu::noinline]] void AddToFull(const Field& field);
  [[gnu::noinline]] void Grow();

  // Not a vector, whose size and capacity are divisions. What stands behind the size is left from
  // earlier heads, and dead.
  std::unique_ptr<Field[]> slots_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

template <class IsUnwanted>
std::size_t Fields::RemoveIf(IsUnwanted is_unwanted) {
  std::size_t kept = 0;
  for (std::size_t at = 0; at < size_; ++at) {
    if (is_unwanted(std::as_const(slots_[at]))) {
      continue;
    }
    if (kept != at) {
      slots_[kept] = slots_[at];
    }
    ++kept;
  }
  return std::exchange(size_, kept) - kept;
}

}  // namespace tidegate
