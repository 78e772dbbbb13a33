#include "proxy/http/h1_encoder.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>

#include <fmt/format.h>

#include "proxy/http/h1_rules.h"

namespace tidegate {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::string_view kVersion = "HTTP/1.1";

// Some octet of `word` is below 0x20.
template <class Word>
constexpr bool HasControl(Word word) {
  constexpr Word kSpaces = static_cast<Word>(0x2020202020202020U);
  return ((word - kSpaces) & ~word & (kSpaces << 2)) != 0;
}

// Text that would end the line early becomes harmless (RFC 9110 section 5.5): such an octet is a
// fault of whoever made the head, and must not become a second message.
void ReplaceLineEnds(char* text, std::size_t size) {
  std::replace_if(
      text, text + size, [](char octet) { return octet == '\r' || octet == '\n' || octet == '\0'; },
      ' ');
}

// Writes at the end of a string, which is as long as what was written when the cursor goes. Only
// Room() makes room: who puts has asked for it, there or before.
class Cursor {
 public:
  explicit Cursor(std::string& out) : out_(out) {
    const std::size_t before = out.size();
    Open(out, out.capacity());
    position_ = out.data() + before;
  }
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;
  ~Cursor() { out_.resize(Written()); }

  // For `size` octets from here on.
  void Room(std::size_t size) {
    if (size > out_.size() - Written()) [[unlikely]] {
      position_ = Grow(out_, Written(), size);
    }
  }
  // Text of ours, and lines.
  void Put(std::string_view text) {
    std::memcpy(position_, text.data(), text.size());
    position_ += text.size();
  }
  // Text from outside.
  void PutChecked(std::string_view text) {
    const bool has_control = text.size() >= sizeof(std::uint64_t)   ? PutWords<std::uint64_t>(text)
                             : text.size() >= sizeof(std::uint32_t) ? PutWords<std::uint32_t>(text)
                                                                    : PutOctets(text);
    if (has_control) [[unlikely]] {
      ReplaceLineEnds(position_, text.size());
    }
    position_ += text.size();
  }
  void PutNumber(std::uint64_t number) {
    std::size_t digits = 1;
    for (std::uint64_t rest = number; rest >= 10; rest /= 10) {
      ++digits;
    }
    position_ += digits;
    for (char* digit = position_; digits > 0; --digits, number /= 10) {
      *--digit = static_cast<char>('0' + number % 10);
    }
  }
  // Three digits.
  void PutStatus(unsigned status) {
    const unsigned tens = status / 10;
    *position_++ = static_cast<char>('0' + tens / 10);
    *position_++ = static_cast<char>('0' + tens % 10);
    *position_++ = static_cast<char>('0' + status % 10);
  }
  void PutField(std::string_view name, std::string_view value) {
    PutChecked(name);
    Put(": ");
    PutChecked(value);
    Put(kLineEnd);
  }
  // `start` is static text of ours: "Host: ".
  void PutOurField(std::string_view start, std::string_view value) {
    Put(start);
    PutChecked(value);
    Put(kLineEnd);
  }

 private:
  std::size_t Written() const { return static_cast<std::size_t>(position_ - out_.data()); }
  // Makes the string `size` octets long. What is new is not written to: libstdc++ leaves it as it
  // is, and it is cut off before anybody reads it.
  static void Open(std::string& out, std::size_t size) {
    out.resize_and_overwrite(size, [](char*, std::size_t all) { return all; });
  }
  // Not of an object, which would have to be in memory for it.
  [[gnu::noinline]] static char* Grow(std::string& out, std::size_t written, std::size_t size) {
    out.resize(written);
    Open(out, std::max(written + size, 2 * out.capacity()));
    return out.data() + written;
  }
  // These write at position_ and say whether some octet is below 0x20.
  // At most three: the first, the middle and the last are all of them.
  bool PutOctets(std::string_view text) {
    if (text.empty()) {
      return false;
    }
    bool has_control = false;
    const auto put = [&](std::size_t at) {
      position_[at] = text[at];
      has_control |= static_cast<unsigned char>(text[at]) < 0x20;
    };
    put(0);
    put(text.size() / 2);
    put(text.size() - 1);
    return has_control;
  }
  // At least one word; the last one overlaps the one before it.
  template <class Word>
  bool PutWords(std::string_view text) {
    bool has_control = false;
    const auto put = [&](std::size_t at) {
      Word word = 0;
      std::memcpy(&word, text.data() + at, sizeof word);
      std::memcpy(position_ + at, &word, sizeof word);
      has_control |= HasControl(word);
    };
    const std::size_t last = text.size() - sizeof(Word);
    for (std::size_t at = 0; at < last; at += sizeof(Word)) {
      put(at);
    }
    put(last);
    return has_control;
  }

  std::string& out_;
  char* position_;
};

// Written from the head itself and from the option, or not at all.
constexpr std::uint64_t kOurFields = [] {
  std::uint64_t set = 0;
  for (const FieldId id :
       {FieldId::kHost, FieldId::kConnection, FieldId::kContentLength, FieldId::kKeepAlive,
        FieldId::kProxyConnection, FieldId::kTe, FieldId::kTransferEncoding, FieldId::kUpgrade}) {
    set |= std::uint64_t{1} << static_cast<unsigned>(id);
  }
  return set;
}();
constexpr std::uint64_t kHostField = std::uint64_t{1} << static_cast<unsigned>(FieldId::kHost);

// Of the fields that we write ourselves and the line ends, without values from outside: more than
// enough.
constexpr std::size_t kOurFieldsSize = 160;

void PutConnection(ConnectionOption option, std::string_view upgrade, Cursor& cursor) {
  switch (option) {
    case ConnectionOption::kNone:
      return;
    case ConnectionOption::kClose:
      cursor.Put("Connection: close\r\n");
      return;
    case ConnectionOption::kKeepAlive:
      cursor.Put("Connection: keep-alive\r\n");
      return;
    case ConnectionOption::kUpgrade:
      cursor.Put("Connection: upgrade\r\n");
      cursor.PutOurField("Upgrade: ", upgrade);
      return;
  }
}

void PutLength(std::uint64_t length, Cursor& cursor) {
  cursor.Put("Content-Length: ");
  cursor.PutNumber(length);
  cursor.Put(kLineEnd);
}

void PutFraming(const Head& head, Cursor& cursor) {
  if (head.body == BodyKind::kLength) {
    PutLength(head.content_length, cursor);
  } else if (head.body == BodyKind::kChunked) {
    cursor.Put("Transfer-Encoding: chunked\r\n");
  }
}

void PutField(const Field& field, Cursor& cursor) {
  cursor.Room(field.name.size() + field.value.size() + 2 * kLineEnd.size());
  cursor.PutField(field.name, field.value);
}

// All but those in the set `left_out`. Lines that follow each other in memory, which is how most of
// them were received, go in one copy. Leaves room for `then` octets.
void PutFields(const Head& head, std::uint64_t left_out, std::size_t then, Cursor& cursor) {
  // Not null: memcpy takes no null, of no octets either.
  constexpr std::string_view kNone = "";
  std::string_view lines = kNone;
  const auto put_lines = [&] {
    cursor.Room(lines.size() + then);
    cursor.Put(lines);
  };
  for (const Field& field : head.fields) {
    if ((left_out >> static_cast<unsigned>(field.id) & 1) != 0) {
      continue;
    }
    if (field.is_line && field.name.data() == lines.data() + lines.size()) {
      lines = {lines.data(), lines.size() + field.line().size()};
      continue;
    }
    put_lines();
    if (field.is_line) {
      lines = field.line();
    } else {
      lines = kNone;
      PutField(field, cursor);
    }
  }
  put_lines();
}

struct Phrase {
  int status;
  std::string_view text;
};

constexpr std::array kPhrases = {
    Phrase{100, "Continue"},
    Phrase{101, "Switching Protocols"},
    Phrase{102, "Processing"},
    Phrase{103, "Early Hints"},
    Phrase{200, "OK"},
    Phrase{201, "Created"},
    Phrase{202, "Accepted"},
    Phrase{203, "Non-Authoritative Information"},
    Phrase{204, "No Content"},
    Phrase{205, "Reset Content"},
    Phrase{206, "Partial Content"},
    Phrase{207, "Multi-Status"},
    Phrase{208, "Already Reported"},
    Phrase{226, "IM Used"},
    Phrase{300, "Multiple Choices"},
    Phrase{301, "Moved Permanently"},
    Phrase{302, "Found"},
    Phrase{303, "See Other"},
    Phrase{304, "Not Modified"},
    Phrase{305, "Use Proxy"},
    Phrase{307, "Temporary Redirect"},
    Phrase{308, "Permanent Redirect"},
    Phrase{400, "Bad Request"},
    Phrase{401, "Unauthorized"},
    Phrase{402, "Payment Required"},
    Phrase{403, "Forbidden"},
    Phrase{404, "Not Found"},
    Phrase{405, "Method Not Allowed"},
    Phrase{406, "Not Acceptable"},
    Phrase{407, "Proxy Authentication Required"},
    Phrase{408, "Request Timeout"},
    Phrase{409, "Conflict"},
    Phrase{410, "Gone"},
    Phrase{411, "Length Required"},
    Phrase{412, "Precondition Failed"},
    Phrase{413, "Content Too Large"},
    Phrase{414, "URI Too Long"},
    Phrase{415, "Unsupported Media Type"},
    Phrase{416, "Range Not Satisfiable"},
    Phrase{417, "Expectation Failed"},
    Phrase{421, "Misdirected Request"},
    Phrase{422, "Unprocessable Content"},
    Phrase{423, "Locked"},
    Phrase{424, "Failed Dependency"},
    Phrase{425, "Too Early"},
    Phrase{426, "Upgrade Required"},
    Phrase{428, "Precondition Required"},
    Phrase{429, "Too Many Requests"},
    Phrase{431, "Request Header Fields Too Large"},
    Phrase{451, "Unavailable For Legal Reasons"},
    Phrase{500, "Internal Server Error"},
    Phrase{501, "Not Implemented"},
    Phrase{502, "Bad Gateway"},
    Phrase{503, "Service Unavailable"},
    Phrase{504, "Gateway Timeout"},
    Phrase{505, "HTTP Version Not Supported"},
    Phrase{506, "Variant Also Negotiates"},
    Phrase{507, "Insufficient Storage"},
    Phrase{508, "Loop Detected"},
    Phrase{511, "Network Authentication Required"},
};
static_assert(std::ranges::is_sorted(kPhrases, {}, &Phrase::status));

}  // namespace

void EncodeRequestHead(const RequestHead& head, ConnectionOption option, std::string& out) {
  Cursor cursor(out);
  cursor.Room(head.method_name.size() + head.target.size() + head.authority.size() +
              kOurFieldsSize);
  cursor.PutChecked(head.method_name);
  cursor.Put(" ");
  cursor.PutChecked(head.target);
  cursor.Put(" HTTP/1.1\r\n");
  cursor.PutOurField("Host: ", head.authority);
  PutFields(head, kOurFields, head.upgrade.size() + kOurFieldsSize, cursor);
  PutFraming(head, cursor);
  PutConnection(option, head.upgrade, cursor);
  cursor.Put(kLineEnd);
}

void EncodeResponseHead(const ResponseHead& head, ConnectionOption option, std::string& out) {
  Cursor cursor(out);
  cursor.Room(head.reason.size() + kOurFieldsSize);
  cursor.Put(kVersion);
  cursor.Put(" ");
  cursor.PutStatus(static_cast<unsigned>(head.status));
  cursor.Put(" ");
  cursor.PutChecked(head.reason);
  cursor.Put(kLineEnd);
  PutFields(head, kOurFields & ~kHostField, head.upgrade.size() + kOurFieldsSize, cursor);
  // RFC 9110 section 8.6 and RFC 9112 section 6.1: 1xx and 204 say nothing about a body.
  if (head.status >= 200 && head.status != 204) {
    if (head.body == BodyKind::kNone && head.status != 304) {
      PutLength(0, cursor);
    } else {
      PutFraming(head, cursor);
    }
  }
  PutConnection(option, head.upgrade, cursor);
  cursor.Put(kLineEnd);
}

void EncodeChunkSize(std::uint64_t size, std::string& out) {
  constexpr std::size_t kMaxHexDigits = 16;
  std::array<char, kMaxHexDigits + 2> line;
  std::size_t first = kMaxHexDigits;
  do {
    line[--first] = "0123456789abcdef"[size % 16];
    size /= 16;
  } while (size != 0);
  line[kMaxHexDigits] = '\r';
  line[kMaxHexDigits + 1] = '\n';
  out.append(line.data() + first, line.size() - first);
}

void EncodeLastChunk(const Fields& trailers, std::string& out) {
  Cursor cursor(out);
  cursor.Room(kOurFieldsSize);
  cursor.Put("0\r\n");
  for (const Field& field : trailers) {
    if (!IsForbiddenInTrailers(field.id)) {
      PutField(field, cursor);
    }
  }
  cursor.Room(kLineEnd.size());
  cursor.Put(kLineEnd);
}

std::string FormatHttpDate(std::int64_t seconds) {
  constexpr std::array<std::string_view, 7> kDays = {"Sun", "Mon", "Tue", "Wed",
                                                     "Thu", "Fri", "Sat"};
  constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::chrono::sys_seconds time{std::chrono::seconds(seconds)};
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format(
      "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT", kDays[std::chrono::weekday(day).c_encoding()],
      static_cast<unsigned>(date.day()), kMonths[static_cast<unsigned>(date.month()) - 1],
      static_cast<int>(date.year()), clock.hours().count(), clock.minutes().count(),
      clock.seconds().count());
}

std::string_view ReasonPhrase(int status) {
  const auto row = std::ranges::lower_bound(kPhrases, status, {}, &Phrase::status);
  return row != kPhrases.end() && row->status == status ? row->text : std::string_view();
}

}  // namespace tidegate
