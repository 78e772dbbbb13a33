#include "proxy/access_log.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ctime>
#include <string>

#include "common/check.h"
#include "common/text.h"

namespace tidegate {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
// The longest escape: \u00XX for one octet.
constexpr std::size_t kMaxEscape = 6;

constexpr std::array<std::string_view, 4> kSecretHeaders = {"authorization", "cookie", "set-cookie",
                                                            "proxy-authorization"};

bool IsSecret(std::string_view name) {
  return std::ranges::any_of(
      kSecretHeaders, [name](std::string_view secret) { return EqualsIgnoringCase(name, secret); });
}

constexpr std::uint64_t Each(std::uint8_t octet) {
  return 0x0101010101010101U * octet;
}

// Not 0 if one of the eight octets is 0. (Only the lowest mark is exact: enough to say "some".)
constexpr std::uint64_t MarkZeros(std::uint64_t word) {
  return (word - Each(1)) & ~word & Each(0x80);
}

// True if all eight octets are printable ASCII and none needs a backslash.
bool IsPlain(std::uint64_t word) {
  std::uint64_t marks = word & Each(0x80);
  marks |= (word - Each(0x20)) & ~word & Each(0x80);
  marks |= MarkZeros(word ^ Each('"'));
  marks |= MarkZeros(word ^ Each('\\'));
  marks |= MarkZeros(word ^ Each(0x7f));
  return marks == 0;
}

template <class Word>
Word Load(const char* from) {
  Word word = 0;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

char* WriteText(std::string_view text, char* out) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

char* WriteHex(unsigned char octet, char* out) {
  *out++ = kHexDigits[octet >> 4];
  *out++ = kHexDigits[octet & 15];
  return out;
}

// One character of `text` at `offset`, which moves behind it.
char* EscapeOne(std::string_view text, std::size_t& offset, char* out) {
  auto octet = static_cast<unsigned char>(text[offset]);
  if (octet == '"' || octet == '\\') {
    *out++ = '\\';
    *out++ = text[offset++];
    return out;
  }
  if (octet < 0x20 || octet == 0x7f) {
    ++offset;
    return WriteHex(octet, WriteText("\\u00", out));
  }
  if (octet < 0x80) {
    *out++ = text[offset++];
    return out;
  }
  std::size_t length = Utf8SequenceLength(text, offset);
  if (length == 0) {
    ++offset;
    return WriteHex(octet, WriteText("\\\\x", out));
  }
  // U+0080 to U+009F: a terminal may take them for control sequences.
  if (octet == 0xc2 && static_cast<unsigned char>(text[offset + 1]) < 0xa0) {
    octet = static_cast<unsigned char>(text[offset + 1]);
    offset += 2;
    return WriteHex(octet, WriteText("\\u00", out));
  }
  out = WriteText(text.substr(offset, length), out);
  offset += length;
  return out;
}

char* WriteEscapedSlowly(std::string_view text, char* out) {
  std::size_t offset = 0;
  while (offset < text.size()) {
    out = EscapeOne(text, offset, out);
  }
  return out;
}

// Plain text is copied while it is looked at, eight octets at a time; the last eight may overlap
// those before.
char* WriteEscaped(std::string_view text, char* out) {
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  constexpr std::size_t kHalf = sizeof(std::uint32_t);
  const char* from = text.data();
  std::size_t size = text.size();
  if (size >= kWord) [[likely]] {
    std::size_t offset = 0;
    for (; offset + kWord < size; offset += kWord) {
      auto word = Load<std::uint64_t>(from + offset);
      if (!IsPlain(word)) [[unlikely]] {
        return WriteEscapedSlowly(text, out);
      }
      std::memcpy(out + offset, &word, kWord);
    }
    auto last = Load<std::uint64_t>(from + size - kWord);
    if (!IsPlain(last)) [[unlikely]] {
      return WriteEscapedSlowly(text, out);
    }
    std::memcpy(out + size - kWord, &last, kWord);
    return out + size;
  }
  if (size >= kHalf) {
    std::uint64_t word =
        Load<std::uint32_t>(from) | std::uint64_t{Load<std::uint32_t>(from + size - kHalf)} << 32;
    if (IsPlain(word)) [[likely]] {
      std::memcpy(out, from, kHalf);
      std::memcpy(out + size - kHalf, from + size - kHalf, kHalf);
      return out + size;
    }
  }
  return WriteEscapedSlowly(text, out);
}

template <class Integer>
char* WriteNumber(Integer number, char* out) {
  return std::to_chars(out, out + 24, number).ptr;
}

char* WriteDigits(unsigned number, int digits, char* out) {
  for (int i = digits - 1; i >= 0; --i) {
    out[i] = static_cast<char>('0' + number % 10);
    number /= 10;
  }
  return out + digits;
}

// "0.012" or, if it is not whole milliseconds, "0.012345".
char* WriteSeconds(AccessRecord::Time time, char* out) {
  auto micros = static_cast<std::uint64_t>(time.count());
  out = WriteNumber(micros / 1000000, out);
  *out++ = '.';
  auto fraction = static_cast<unsigned>(micros % 1000000);
  return fraction % 1000 == 0 ? WriteDigits(fraction / 1000, 3, out)
                              : WriteDigits(fraction, 6, out);
}

std::string PercentDecoded(std::string_view text) {
  auto value_of = [](char c) {
    return static_cast<unsigned>(IsDigit(c) ? c - '0' : ToLower(c) - 'a' + 10);
  };
  auto is_hex = [](char c) { return IsDigit(c) || (ToLower(c) >= 'a' && ToLower(c) <= 'f'); };
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && is_hex(text[i + 1]) && is_hex(text[i + 2])) {
      decoded += static_cast<char>(value_of(text[i + 1]) * 16 + value_of(text[i + 2]));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

}  // namespace

// Writes into room that is known to be enough: no check an octet.
class AccessFormatter::Writer {
 public:
  explicit Writer(char* out) : out_(out) {}
  char* end() const { return out_; }

  template <std::size_t kSize>
  void Literal(const char (&text)[kSize]) {
    std::memcpy(out_, text, kSize - 1);
    out_ += kSize - 1;
  }
  void Text(std::string_view text) { out_ = WriteText(text, out_); }
  void Escaped(std::string_view text) { out_ = WriteEscaped(text, out_); }
  template <class Integer>
  void Number(Integer number) {
    out_ = WriteNumber(number, out_);
  }

  // `,"key":"` then the text, unless it is empty.
  template <std::size_t kSize>
  void String(const char (&key)[kSize], std::string_view value) {
    if (!value.empty()) {
      Literal(key);
      Escaped(value);
      *out_++ = '"';
    }
  }
  template <std::size_t kSize>
  void Seconds(const char (&key)[kSize], AccessRecord::Time time) {
    if (time.count() >= 0) {
      Literal(key);
      out_ = WriteSeconds(time, out_);
    }
  }

 private:
  char* out_;
};

AccessFormatter::AccessFormatter(const AccessLogConfig& config) : redacted_(config.redact_query) {
  for (const std::string& name : config.request_headers) {
    if (!IsSecret(name)) {
      std::string key;
      AppendJsonString(name, key);
      headers_.push_back({.name = name, .key = key + ":"});
    }
  }
}

void AccessFormatter::CaptureHeaders(RequestHead& head, AccessRecord& record) const {
  record.request_headers.assign(headers_.size(), std::string_view());
  for (std::size_t i = 0; i < headers_.size(); ++i) {
    std::string_view& value = record.request_headers[i];
    bool copied = false;
    for (const Field& field : head.fields) {
      if (!EqualsIgnoringCase(field.name, headers_[i].name)) {
        continue;
      }
      if (value.data() == nullptr) {
        value = field.value.data() == nullptr ? std::string_view("") : field.value;
        continue;
      }
      value = copied ? value : head.arena.Copy(value);
      value = head.arena.Extend(head.arena.Extend(value, ", "), field.value);
      copied = true;
    }
  }
}

AccessFormatter::HeaderTexts AccessFormatter::NamedHeaders(const AccessRecord& record) const {
  HeaderTexts headers;
  // Fewer if the log was turned on in the middle of the request.
  const std::size_t count = std::min(headers_.size(), record.request_headers.size());
  for (std::size_t i = 0; i < count; ++i) {
    if (record.request_headers[i].data() != nullptr) {
      headers.emplace_back(headers_[i].name, record.request_headers[i]);
    }
  }
  return headers;
}

void AccessFormatter::RestoreHeaders(const HeaderTexts& headers, Arena& arena,
                                     AccessRecord& record) const {
  record.request_headers.assign(headers_.size(), std::string_view());
  for (const auto& [name, value] : headers) {
    for (std::size_t i = 0; i < headers_.size(); ++i) {
      if (EqualsIgnoringCase(headers_[i].name, name)) {
        record.request_headers[i] = value.empty() ? std::string_view("") : arena.Copy(value);
      }
    }
  }
}

void AccessFormatter::Format(const AccessRecord& record, std::string& out) {
  std::string redacted;
  std::string_view target = record.target;
  if (!redacted_.empty() && target.find('?') != std::string_view::npos) {
    redacted = RedactQuery(target, redacted_);
    target = redacted;
  }
  std::string detail;
  if (record.error != nullptr && !record.error->detail().empty()) {
    detail = record.error->ToString();
  }
  static const ClientInfo kNobody;
  const ClientInfo& client = record.client == nullptr ? kNobody : *record.client;
  std::string_view client_ip =
      record.client_ip.empty() ? std::string_view(client.ip) : record.client_ip;

  // All keys and numbers of a line are below kFixed; a test writes the longest one.
  constexpr std::size_t kFixed = 1024;
  std::size_t text_octets = record.id.size() + client_ip.size() + client.peer.size() +
                            client.listener.size() + record.protocol.size() + record.method.size() +
                            record.host.size() + target.size() + record.route.size() +
                            record.upstream.size() + record.endpoint.size() + detail.size();
  std::size_t header_octets = 0;
  for (std::size_t i = 0; i < record.request_headers.size(); ++i) {
    header_octets += headers_[i].key.size() + 4 + kMaxEscape * record.request_headers[i].size();
  }
  std::size_t before = out.size();
  std::size_t room = kFixed + kMaxEscape * text_octets + header_octets;

  auto milliseconds = record.timestamp.count();
  std::int64_t second = milliseconds / 1000;
  if (second != second_) {
    second_ = second;
    std::tm calendar{};
    std::time_t time = second;
    gmtime_r(&time, &calendar);
    std::strftime(second_text_.data(), second_text_.size(), "%Y-%m-%dT%H:%M:%S", &calendar);
  }

  auto write = [&](char* buffer, std::size_t) {
    Writer line(buffer + before);
    line.Literal("{\"ts\":\"");
    line.Text({second_text_.data(), 19});
    line.Literal(".");
    char millis[3];
    WriteDigits(static_cast<unsigned>(milliseconds % 1000), 3, millis);
    line.Text({millis, 3});
    line.Literal("Z\"");
    line.String(",\"id\":\"", record.id);
    line.String(",\"client_ip\":\"", client_ip);
    line.String(",\"peer\":\"", client.peer);
    line.String(",\"listener\":\"", client.listener);
    line.String(",\"proto\":\"", record.protocol);
    line.String(",\"tls\":\"", client.tls);
    line.String(",\"method\":\"", record.method);
    line.String(",\"host\":\"", record.host);
    line.String(",\"path\":\"", target);
    if (record.status != 0) {
      line.Literal(",\"status\":");
      line.Number(record.status);
    }
    line.Literal(",\"bytes_in\":");
    line.Number(record.bytes_in);
    line.Literal(",\"bytes_out\":");
    line.Number(record.bytes_out);
    line.String(",\"route\":\"", record.route);
    line.String(",\"upstream\":\"", record.upstream);
    line.String(",\"endpoint\":\"", record.endpoint);
    if (record.upstream_status != 0) {
      line.Literal(",\"upstream_status\":");
      line.Number(record.upstream_status);
    }
    if (record.attempts != 0) {
      line.Literal(",\"attempts\":");
      line.Number(record.attempts);
      line.Literal(",\"reused\":");
      line.Text(record.reused ? "true" : "false");
    }
    line.Seconds(",\"time_total\":", record.time_total);
    line.Seconds(",\"time_queue\":", record.time_queue);
    line.Seconds(",\"time_connect\":", record.time_connect);
    line.Seconds(",\"time_first_byte\":", record.time_first_byte);
    if (record.error != nullptr) {
      const ErrorRow& row = RowOf(record.error->kind());
      line.String(",\"reason\":\"", row.log_name);
      line.String(",\"detail\":\"", detail);
      line.String(",\"who\":\"", NameOf(row.side));
    }
    line.Literal(",\"generation\":");
    line.Number(record.generation);
    if (!record.request_headers.empty()) {
      WriteHeaders(record, line);
    }
    line.Literal("}\n");
    std::size_t written = static_cast<std::size_t>(line.end() - buffer);
    TG_CHECK(written <= before + room);
    return written;
  };
  out.resize_and_overwrite(before + room, write);
}

void AccessFormatter::WriteHeaders(const AccessRecord& record, Writer& line) const {
  line.Literal(",\"request_headers\":{");
  bool first = true;
  for (std::size_t i = 0; i < record.request_headers.size(); ++i) {
    std::string_view value = record.request_headers[i];
    if (value.data() == nullptr) {
      continue;
    }
    line.Text(first ? "" : ",");
    line.Text(headers_[i].key);
    line.Literal("\"");
    line.Escaped(value);
    line.Literal("\"");
    first = false;
  }
  line.Literal("}");
}

void AppendJsonString(std::string_view text, std::string& out) {
  std::size_t before = out.size();
  out.resize_and_overwrite(before + 2 + kMaxEscape * text.size(), [&](char* buffer, std::size_t) {
    char* end = buffer + before;
    *end++ = '"';
    end = WriteEscaped(text, end);
    *end++ = '"';
    return static_cast<std::size_t>(end - buffer);
  });
}

std::string RedactQuery(std::string_view target, const std::vector<std::string>& names) {
  std::size_t mark = target.find('?');
  if (mark == std::string_view::npos) {
    return std::string(target);
  }
  std::string result(target.substr(0, mark + 1));
  std::string_view rest = target.substr(mark + 1);
  while (!rest.empty()) {
    // ';' separates too, for some origins.
    std::size_t end = std::min(rest.find_first_of("&;"), rest.size());
    std::string_view parameter = rest.substr(0, end);
    std::size_t equals = parameter.find('=');
    std::string name = PercentDecoded(parameter.substr(0, equals));
    bool secret = std::ranges::any_of(
        names, [&name](const std::string& other) { return EqualsIgnoringCase(name, other); });
    if (secret && equals != std::string_view::npos) {
      result.append(parameter.substr(0, equals + 1)).append("***");
    } else {
      result.append(parameter);
    }
    if (end < rest.size()) {
      result += rest[end++];
    }
    rest.remove_prefix(end);
  }
  return result;
}

}  // namespace tidegate
