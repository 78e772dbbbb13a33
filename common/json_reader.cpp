#include "common/json_reader.h"

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/check.h"
#include "common/json_syntax.h"
#include "common/text.h"

namespace tidegate {
namespace {

constexpr std::size_t kMaxDepth = 64;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

// Builds the tree from callbacks. `cursor_` is one behind the last token; see the header for why
// that gives every position.
class TreeBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  TreeBuilder(std::string_view text, std::uint32_t file) : text_(text), file_(file) {
    cursor_ = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  }

  JsonDocument Take() { return std::move(document_); }

  bool null() override { return Leaf(JsonNode{}); }
  bool boolean(bool value) override {
    JsonNode node;
    node.kind = JsonNode::Kind::kFlag;
    node.flag = value;
    return Leaf(std::move(node));
  }
  bool number_integer(number_integer_t value) override {
    JsonNode node;
    node.kind = JsonNode::Kind::kInteger;
    node.integer = value;
    return Leaf(std::move(node));
  }
  bool number_unsigned(number_unsigned_t value) override {
    constexpr auto kMost = static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max());
    return number_integer(static_cast<number_integer_t>(std::min(value, kMost)));
  }
  bool number_float(number_float_t /*value*/, const string_t& written) override {
    JsonNode node;
    node.kind = JsonNode::Kind::kReal;
    node.text = written;
    return Leaf(std::move(node));
  }
  bool string(string_t& value) override {
    JsonNode node;
    node.kind = JsonNode::Kind::kString;
    node.text = value;
    return Leaf(std::move(node));
  }
  bool binary(binary_t& /*value*/) override { return false; }

  bool start_object(std::size_t /*count*/) override { return Open(JsonNode::Kind::kObject); }
  bool start_array(std::size_t /*count*/) override { return Open(JsonNode::Kind::kArray); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& value) override {
    Frame& frame = frames_.back();
    frame.key = value;
    frame.key_place = NextToken();
    auto [first, is_new] = frame.known.try_emplace(value, frame.key_place.offset);
    frame.duplicate = !is_new;
    if (frame.duplicate) {
      auto line = 1 + std::ranges::count(text_.substr(0, first->second), '\n');
      document_.faults.push_back(
          JsonFault{frame.key_place, PathOfFrames(),
                    fmt::format("the key \"{}\" is given twice; first on line {}", value, line),
                    "remove one of them"});
    }
    state_ = JsonState::kKey;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    JsonProgress progress;
    progress.state = state_;
    progress.cursor = cursor_;
    for (const Frame& frame : frames_) {
      progress.open.push_back(frame.node.place.offset);
    }
    progress.lexer_offset = position;
    progress.lexer_message = error.what();
    Fail(ExplainSyntaxError(text_, progress));
    return false;
  }

 private:
  // A container whose end has not come.
  struct Frame {
    JsonNode node;
    // Of the member that is being read.
    std::string key;
    Place key_place;
    bool duplicate = false;
    std::unordered_map<std::string, std::uint32_t> known;
  };

  // The place of the token that the lexer just gave; moves the cursor behind it.
  Place NextToken() {
    std::size_t start = SkipBlanks(text_, cursor_);
    while (start < text_.size() && (text_[start] == ',' || text_[start] == ':')) {
      start = SkipBlanks(text_, start + 1);
    }
    cursor_ = TokenEnd(text_, start);
    return Place{file_, static_cast<std::uint32_t>(start),
                 static_cast<std::uint32_t>(cursor_ - start)};
  }

  std::string PathOfFrames() const {
    std::string path;
    for (std::size_t i = 0; i + 1 < frames_.size(); ++i) {
      const Frame& frame = frames_[i];
      path = frame.node.kind == JsonNode::Kind::kObject ? MemberPath(path, frame.key)
                                                        : ItemPath(path, frame.node.items.size());
    }
    return path;
  }

  void Fail(JsonFault fault) {
    fault.place.file = file_;
    fault.path = {};
    document_.root.reset();
    document_.faults.push_back(std::move(fault));
  }

  bool Leaf(JsonNode node) {
    node.place = NextToken();
    Attach(std::move(node));
    return true;
  }

  bool Open(JsonNode::Kind kind) {
    Frame frame;
    frame.node.kind = kind;
    frame.node.place = NextToken();
    if (frames_.size() == kMaxDepth) {
      Fail(JsonFault{frame.node.place, {}, fmt::format("more than {} levels deep", kMaxDepth), {}});
      return false;
    }
    frames_.push_back(std::move(frame));
    state_ = kind == JsonNode::Kind::kObject ? JsonState::kObjectOpened : JsonState::kArrayOpened;
    return true;
  }

  bool Close() {
    NextToken();
    JsonNode node = std::move(frames_.back().node);
    frames_.pop_back();
    node.place.length = static_cast<std::uint32_t>(cursor_ - node.place.offset);
    Attach(std::move(node));
    return true;
  }

  void Attach(JsonNode node) {
    if (frames_.empty()) {
      document_.root = std::move(node);
      state_ = JsonState::kDone;
      return;
    }
    Frame& frame = frames_.back();
    state_ = JsonState::kValue;
    if (frame.node.kind == JsonNode::Kind::kArray) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.duplicate) {
      frame.node.members.push_back(
          JsonMember{std::move(frame.key), frame.key_place, std::move(node)});
    }
  }

  std::string_view text_;
  std::uint32_t file_;
  std::size_t cursor_ = 0;
  JsonState state_ = JsonState::kNothing;
  std::vector<Frame> frames_;
  JsonDocument document_;
};

}  // namespace

const JsonNode* JsonNode::Find(std::string_view key) const {
  auto found = std::ranges::find(members, key, &JsonMember::key);
  return found == members.end() ? nullptr : &found->value;
}

std::string_view NameOf(JsonNode::Kind kind) {
  switch (kind) {
    case JsonNode::Kind::kNull:
      return "null";
    case JsonNode::Kind::kFlag:
      return "true or false";
    case JsonNode::Kind::kInteger:
    case JsonNode::Kind::kReal:
      return "a number";
    case JsonNode::Kind::kString:
      return "a string";
    case JsonNode::Kind::kArray:
      return "an array";
    case JsonNode::Kind::kObject:
      return "an object";
  }
  return "nothing";
}

JsonDocument ReadJson(std::string_view text, std::uint32_t file) {
  // The lexer takes a NUL for the end and would pass over whatever follows it.
  if (std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    JsonDocument document;
    document.faults.push_back(JsonFault{Place{file, static_cast<std::uint32_t>(nul), 1},
                                        {},
                                        "a NUL byte; this is not a text file",
                                        {}});
    return document;
  }
  TreeBuilder builder(text, file);
  nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &builder,
                            nlohmann::json::input_format_t::json, /*strict=*/true,
                            /*ignore_comments=*/true);
  return builder.Take();
}

std::string MemberPath(std::string_view path, std::string_view key) {
  bool plain = !key.empty() &&
               std::ranges::all_of(key, [](char c) { return IsAlnum(c) || c == '_' || c == '-'; });
  if (!plain) {
    return fmt::format("{}[\"{}\"]", path, key);
  }
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

std::string ItemPath(std::string_view path, std::size_t index) {
  return fmt::format("{}[{}]", path, index);
}

}  // namespace tidegate
