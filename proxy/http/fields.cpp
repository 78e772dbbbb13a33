#include "proxy/http/fields.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace tidegate {
namespace {

struct KnownField {
  std::string_view name;
  FieldId id;
};

constexpr std::array kKnownFields = {
    KnownField{"te", FieldId::kTe},
    KnownField{"via", FieldId::kVia},
    KnownField{"date", FieldId::kDate},
    KnownField{"host", FieldId::kHost},
    KnownField{"expect", FieldId::kExpect},
    KnownField{"server", FieldId::kServer},
    KnownField{"trailer", FieldId::kTrailer},
    KnownField{"upgrade", FieldId::kUpgrade},
    KnownField{"forwarded", FieldId::kForwarded},
    KnownField{"connection", FieldId::kConnection},
    KnownField{"keep-alive", FieldId::kKeepAlive},
    KnownField{"max-forwards", FieldId::kMaxForwards},
    KnownField{"x-request-id", FieldId::kXRequestId},
    KnownField{"content-length", FieldId::kContentLength},
    KnownField{"x-forwarded-for", FieldId::kXForwardedFor},
    KnownField{"proxy-connection", FieldId::kProxyConnection},
    KnownField{"x-forwarded-host", FieldId::kXForwardedHost},
    KnownField{"x-forwarded-port", FieldId::kXForwardedPort},
    KnownField{"transfer-encoding", FieldId::kTransferEncoding},
    KnownField{"x-forwarded-proto", FieldId::kXForwardedProto},
    KnownField{"proxy-authenticate", FieldId::kProxyAuthenticate},
};

// Every known name has a slot of its own, by its first octet and its last but one: a name is
// compared with one row at most.
constexpr std::size_t kSlots = 64;
constexpr std::size_t SlotOf(std::string_view name) {
  // Upper-case letters are lower-case ones without this bit. What becomes equal by it is told apart
  // by the comparison.
  constexpr unsigned kCaseBit = 0x20;
  const unsigned first = static_cast<unsigned char>(name.front()) | kCaseBit;
  const unsigned last_but_one = static_cast<unsigned char>(name[name.size() - 2]) | kCaseBit;
  return (2 * first + last_but_one) % kSlots;
}
constexpr std::uint8_t kNoRow = 0xff;
constexpr auto kRowOfSlot = [] {
  std::array<std::uint8_t, kSlots> rows{};
  rows.fill(kNoRow);
  for (std::size_t row = 0; row < kKnownFields.size(); ++row) {
    rows[SlotOf(kKnownFields[row].name)] = static_cast<std::uint8_t>(row);
  }
  return rows;
}();
static_assert(std::ranges::count(kRowOfSlot, kNoRow) == kSlots - kKnownFields.size());

// Whether the octets of a word at `text` are those at `known`, which are lower-case letters and
// hyphens. These have the bit 0x20; upper-case letters are lower-case ones without it, and a hyphen
// without it is a carriage return, which no name has.
template <class Word>
bool WordEqualsIgnoringCase(const char* text, const char* known) {
  constexpr Word kCaseBits = static_cast<Word>(0x2020202020202020U);
  Word text_word = 0;
  Word known_word = 0;
  std::memcpy(&text_word, text, sizeof text_word);
  std::memcpy(&known_word, known, sizeof known_word);
  return (text_word | kCaseBits) == known_word;
}

// The last word overlaps the one before it. The texts are as long as each other and as a word.
template <class Word>
bool WordsEqualIgnoringCase(std::string_view text, std::string_view known) {
  const std::size_t last = text.size() - sizeof(Word);
  for (std::size_t at = 0; at < last; at += sizeof(Word)) {
    if (!WordEqualsIgnoringCase<Word>(text.data() + at, known.data() + at)) {
      return false;
    }
  }
  return WordEqualsIgnoringCase<Word>(text.data() + last, known.data() + last);
}

// `known` is the name of a row, as long as `text`.
bool IsKnownName(std::string_view text, std::string_view known) {
  if (text.size() >= sizeof(std::uint64_t)) {
    return WordsEqualIgnoringCase<std::uint64_t>(text, known);
  }
  if (text.size() >= sizeof(std::uint32_t)) {
    return WordsEqualIgnoringCase<std::uint32_t>(text, known);
  }
  return EqualsIgnoringCase(text, known);
}

// `known` with `_` in place of some of its hyphens.
bool IsKnownNameUnderscored(std::string_view text, std::string_view known) {
  return std::ranges::equal(
      text, known, [](char a, char b) { return ToLower(a) == b || (a == '_' && b == '-'); });
}

template <bool (*IsSame)(std::string_view, std::string_view)>
FieldId Lookup(std::string_view name) {
  if (name.size() < 2) {
    return FieldId::kOther;
  }
  const std::uint8_t row = kRowOfSlot[SlotOf(name)];
  if (row == kNoRow) {
    return FieldId::kOther;
  }
  const KnownField& known = kKnownFields[row];
  return known.name.size() == name.size() && IsSame(name, known.name) ? known.id : FieldId::kOther;
}

std::string_view TrimWhiteSpace(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

}  // namespace

FieldId FieldIdOf(std::string_view name) {
  return Lookup<IsKnownName>(name);
}

bool PassesForKnownField(std::string_view name) {
  return Lookup<IsKnownNameUnderscored>(name) != FieldId::kOther && name.contains('_');
}

bool ListHasToken(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    std::string_view element = list.substr(0, comma);
    element = element.substr(0, element.find(';'));
    if (EqualsIgnoringCase(TrimWhiteSpace(element), token)) {
      return true;
    }
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

std::string_view Arena::Move(std::string_view text, std::string_view more) {
  const std::size_t size = text.size() + more.size();
  if (size == 0) {
    return {};
  }
  char* copy = nullptr;
  if (size <= static_cast<std::size_t>(end_ - position_)) {
    copy = Allocate(size);
  } else {
    // A field that arrives octet by octet moves here again and again: doubling keeps that linear.
    AddBlock(text.empty() ? size : 2 * size);
    copy = Allocate(size);
  }
  std::ranges::copy(text, copy);
  std::ranges::copy(more, copy + text.size());
  return {copy, size};
}

char* Arena::Allocate(std::size_t size) {
  if (size > static_cast<std::size_t>(end_ - position_)) {
    AddBlock(size);
  }
  char* start = position_;
  position_ += size;
  return start;
}

void Arena::AddBlock(std::size_t at_least) {
  if (blocks_.empty() && at_least > kBlockBytes) {
    // The first block is what Clear keeps: it has the usual size.
    blocks_.push_back({std::make_unique_for_overwrite<char[]>(kBlockBytes), kBlockBytes});
  }
  const std::size_t size = std::max(at_least, kBlockBytes);
  blocks_.push_back({std::make_unique_for_overwrite<char[]>(size), size});
  position_ = blocks_.back().data.get();
  end_ = position_ + size;
}

void Arena::Clear() {
  if (blocks_.empty()) {
    return;
  }
  if (blocks_.size() > 1) {
    blocks_.resize(1);
  }
  position_ = blocks_.front().data.get();
  end_ = position_ + blocks_.front().size;
}

const Field* Fields::Find(FieldId id) const {
  const Field* found =
      std::find_if(begin(), end(), [id](const Field& field) { return field.id == id; });
  return found == end() ? nullptr : found;
}

const Field* Fields::Find(std::string_view name) const {
  const Field* found = std::find_if(
      begin(), end(), [name](const Field& field) { return EqualsIgnoringCase(field.name, name); });
  return found == end() ? nullptr : found;
}

std::size_t Fields::Remove(FieldId id) {
  return RemoveIf([id](const Field& field) { return field.id == id; });
}

std::size_t Fields::Remove(std::string_view name) {
  return RemoveIf([name](const Field& field) { return EqualsIgnoringCase(field.name, name); });
}

void Fields::AddToFull(const Field& field) {
  // It may be one of ours.
  const Field copy = field;
  Append() = copy;
}

void Fields::Grow() {
  constexpr std::size_t kUsual = 16;
  const std::size_t capacity = std::max(kUsual, 2 * capacity_);
  auto slots = std::make_unique<Field[]>(capacity);
  std::ranges::copy(*this, slots.get());
  slots_ = std::move(slots);
  capacity_ = capacity;
}

}  // namespace tidegate
