#pragma once

// A second reader of HTTP/1, written from RFC 9112 without looking at the codec and sharing nothing
// with it: what the codec takes for one message with one body, this must take for the same. It is
// slow and knows no limits.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tidegate::h1_fuzz {

class StrictReader {
 public:
  enum class Kind { kRequests, kResponses };

  // `answers_head[i]` says whether the i-th final response answers HEAD; the last one holds for all
  // that follow.
  StrictReader(std::string_view input, Kind kind, std::vector<bool> answers_head)
      : input_(input), kind_(kind), answers_head_(std::move(answers_head)) {}

  // The bodies of the complete messages, up to the first that is malformed or incomplete.
  std::vector<std::string> Bodies() {
    std::vector<std::string> bodies;
    while (auto body = ReadMessage()) {
      bodies.push_back(std::move(*body));
      if (over_) {
        break;
      }
    }
    return bodies;
  }

 private:
  static char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
  static std::string Lower(std::string_view text) {
    std::string lower(text);
    for (char& c : lower) {
      c = Lower(c);
    }
    return lower;
  }

  // Up to CRLF; a line with any other CR or LF, or NUL, is none.
  std::optional<std::string_view> ReadLine() {
    const std::size_t end = input_.find_first_of(std::string_view("\r\n\0", 3));
    if (end == std::string_view::npos || input_.substr(end, 2) != "\r\n") {
      return std::nullopt;
    }
    const std::string_view line = input_.substr(0, end);
    input_.remove_prefix(end + 2);
    return line;
  }

  struct Line {
    std::string name;
    std::string value;
  };
  // To the empty line.
  std::optional<std::vector<Line>> ReadFields() {
    std::vector<Line> fields;
    while (true) {
      auto line = ReadLine();
      if (!line) {
        return std::nullopt;
      }
      if (line->empty()) {
        return fields;
      }
      const std::size_t colon = line->find(':');
      if (colon == std::string_view::npos || colon == 0) {
        return std::nullopt;
      }
      const std::string name = Lower(line->substr(0, colon));
      if (name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") !=
          std::string::npos) {
        return std::nullopt;
      }
      std::string_view value = line->substr(colon + 1);
      const std::size_t first = value.find_first_not_of(" \t");
      const std::size_t last = value.find_last_not_of(" \t");
      value = first == std::string_view::npos ? "" : value.substr(first, last - first + 1);
      fields.push_back({name, std::string(value)});
    }
  }

  static std::vector<std::string> ValuesOf(const std::vector<Line>& fields, std::string_view name) {
    std::vector<std::string> values;
    for (const Line& field : fields) {
      if (field.name == name) {
        values.push_back(field.value);
      }
    }
    return values;
  }

  std::optional<std::string> ReadOctets(std::uint64_t size) {
    if (size > input_.size()) {
      return std::nullopt;
    }
    std::string octets(input_.substr(0, size));
    input_.remove_prefix(size);
    return octets;
  }

  std::optional<std::string> ReadChunks() {
    std::string body;
    while (true) {
      auto line = ReadLine();
      if (!line) {
        return std::nullopt;
      }
      const std::string digits(line->substr(0, line->find(';')));
      if (digits.empty() || digits.size() > 16 ||
          digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
        return std::nullopt;
      }
      const std::uint64_t size = std::stoull(digits, nullptr, 16);
      if (size == 0) {
        break;
      }
      auto data = ReadOctets(size);
      if (!data || input_.substr(0, 2) != "\r\n") {
        return std::nullopt;
      }
      input_.remove_prefix(2);
      body += *data;
    }
    if (!ReadFields()) {
      return std::nullopt;
    }
    return body;
  }

  bool ReadStartLine() {
    if (kind_ == Kind::kRequests) {
      while (input_.starts_with("\r\n")) {
        input_.remove_prefix(2);
      }
    }
    auto line = ReadLine();
    if (!line) {
      return false;
    }
    if (kind_ == Kind::kRequests) {
      const std::size_t method = line->find(' ');
      const std::size_t target =
          method == std::string_view::npos ? method : line->find(' ', method + 1);
      if (target == std::string_view::npos || method == 0 || target == method + 1) {
        return false;
      }
      const std::string_view version = line->substr(target + 1);
      minor_version_ = version == "HTTP/1.0" ? 0 : 1;
      return version == "HTTP/1.0" || version == "HTTP/1.1";
    }
    if ((!line->starts_with("HTTP/1.0 ") && !line->starts_with("HTTP/1.1 ")) || line->size() < 12) {
      return false;
    }
    minor_version_ = (*line)[7] - '0';
    const std::string status(line->substr(9, 3));
    if (status.find_first_not_of("0123456789") != std::string::npos ||
        (line->size() > 12 && (*line)[12] != ' ')) {
      return false;
    }
    status_ = std::stoi(status);
    return status_ >= 100;
  }

  std::optional<std::string> ReadMessage() {
    if (!ReadStartLine()) {
      return std::nullopt;
    }
    const auto fields = ReadFields();
    if (!fields) {
      return std::nullopt;
    }
    if (kind_ == Kind::kResponses) {
      const bool head =
          answers_head_[finals_ < answers_head_.size() ? finals_ : answers_head_.size() - 1];
      finals_ += status_ >= 200 || status_ == 101 ? 1 : 0;
      over_ = status_ == 101;
      if (head || status_ < 200 || status_ == 204 || status_ == 304) {
        return "";
      }
    }
    const auto codings = ValuesOf(*fields, "transfer-encoding");
    const auto lengths = ValuesOf(*fields, "content-length");
    if (!codings.empty()) {
      // In an answer Transfer-Encoding wins (RFC 9112 section 6.3).
      const bool contradicts = kind_ == Kind::kRequests && !lengths.empty();
      if (codings.size() > 1 || Lower(codings[0]) != "chunked" || contradicts ||
          minor_version_ == 0) {
        return std::nullopt;
      }
      return ReadChunks();
    }
    if (!lengths.empty()) {
      if (lengths.size() > 1 || lengths[0].empty() ||
          lengths[0].find_first_not_of("0123456789") != std::string::npos) {
        return std::nullopt;
      }
      const std::size_t digit = std::min(lengths[0].find_first_not_of('0'), lengths[0].size() - 1);
      if (lengths[0].size() - digit > 18) {
        return std::nullopt;  // more than there will ever be
      }
      return ReadOctets(std::stoull(lengths[0].substr(digit)));
    }
    if (kind_ == Kind::kRequests) {
      return "";
    }
    over_ = true;
    return ReadOctets(input_.size());
  }

  std::string_view input_;
  Kind kind_;
  std::vector<bool> answers_head_;
  std::size_t finals_ = 0;
  int minor_version_ = 1;
  int status_ = 0;
  bool over_ = false;
};

}  // namespace tidegate::h1_fuzz
