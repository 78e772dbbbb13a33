#pragma once

// A client of HTTP/2 as small as a test needs one: frames and header blocks written octet by octet,
// so that a test can also write what no library would; and a reader of what comes back, whose
// header blocks nghttp2 decodes.

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/check.h"

namespace tidegate::h2 {

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum Type : unsigned char {
  kData,
  kHeaders,
  kPriority,
  kRstStream,
  kSettings,
  kPushPromise,
  kPing,
  kGoaway,
  kWindowUpdate,
  kContinuation
};
inline constexpr unsigned kEndStream = 1;
inline constexpr unsigned kAck = 1;
inline constexpr unsigned kEndHeaders = 4;

using Pairs = std::vector<std::pair<std::string, std::string>>;

inline std::string Number(std::uint32_t number, int octets = 4) {
  std::string text;
  for (int shift = 8 * (octets - 1); shift >= 0; shift -= 8) {
    text += static_cast<char>(number >> shift & 0xffU);
  }
  return text;
}

inline std::string Frame(unsigned type, unsigned flags, std::uint32_t stream,
                         std::string_view payload = {}) {
  std::string frame = Number(static_cast<std::uint32_t>(payload.size()), 3);
  frame += static_cast<char>(type);
  frame += static_cast<char>(flags);
  frame += Number(stream);
  frame += payload;
  return frame;
}

// RFC 7541 section 5.1, with a prefix of seven bits and the first bit clear.
inline std::string Length(std::size_t size) {
  std::string text;
  if (size < 127) {
    text += static_cast<char>(size);
    return text;
  }
  text += '\x7f';
  for (size -= 127; size >= 128; size /= 128) {
    text += static_cast<char>(size % 128 + 128);
  }
  text += static_cast<char>(size);
  return text;
}

// Each field as a literal without indexing (RFC 7541 section 6.2.2).
inline std::string Block(const Pairs& fields) {
  std::string block;
  for (const auto& [name, value] : fields) {
    block += '\0';
    block += Length(name.size()) + name + Length(value.size()) + value;
  }
  return block;
}

inline std::string Headers(std::uint32_t stream, const Pairs& fields, unsigned flags = kEndStream) {
  return Frame(kHeaders, flags | kEndHeaders, stream, Block(fields));
}

inline Pairs Get(std::string_view path = "/", const Pairs& more = {}) {
  Pairs fields = {{":method", "GET"},
                  {":scheme", "http"},
                  {":path", std::string(path)},
                  {":authority", "a.example"}};
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

inline std::string Hello(std::string_view settings = {}) {
  return std::string(kPreface) + Frame(kSettings, 0, 0, settings);
}

inline std::string Data(std::uint32_t stream, std::string_view octets, bool last = true) {
  return Frame(kData, last ? kEndStream : 0, stream, octets);
}
inline std::string Reset(std::uint32_t stream, std::uint32_t code = 8) {
  return Frame(kRstStream, 0, stream, Number(code));
}
inline std::string Window(std::uint32_t stream, std::uint32_t more) {
  return Frame(kWindowUpdate, 0, stream, Number(more));
}

// Octets from the server, frame by frame.
class Reader {
 public:
  struct Seen {
    unsigned type = 0;
    unsigned flags = 0;
    std::uint32_t stream = 0;
    std::string payload;
    // Of a header block.
    Pairs fields;
    std::string Value(std::string_view name) const {
      for (const auto& [each, value] : fields) {
        if (each == name) {
          return value;
        }
      }
      return "(none)";
    }
    bool ends() const { return (flags & kEndStream) != 0; }
    // The error code of RST_STREAM and GOAWAY.
    std::uint32_t code() const { return NumberAt(type == kGoaway ? 4 : 0); }
    std::uint32_t NumberAt(std::size_t at) const {
      std::uint32_t number = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        number = number << 8U | static_cast<unsigned char>(payload.at(at + i));
      }
      return number;
    }
  };

  Reader() { TG_CHECK(nghttp2_hd_inflate_new(&inflater_) == 0); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { nghttp2_hd_inflate_del(inflater_); }

  // Those that are whole now are added to frames.
  void Take(std::string_view octets) {
    rest_ += octets;
    while (rest_.size() >= 9) {
      const auto octet = [this](std::size_t at) {
        return static_cast<std::uint32_t>(static_cast<unsigned char>(rest_[at]));
      };
      const std::size_t size = octet(0) << 16U | octet(1) << 8U | octet(2);
      if (rest_.size() < 9 + size) {
        return;
      }
      Seen seen{.type = octet(3),
                .flags = octet(4),
                .stream = octet(5) << 24U | octet(6) << 16U | octet(7) << 8U | octet(8),
                .payload = rest_.substr(9, size),
                .fields = {}};
      rest_.erase(0, 9 + size);
      if (seen.type == kHeaders || seen.type == kContinuation) {
        block_ += seen.payload;
        if ((seen.flags & kEndHeaders) != 0) {
          seen.fields = Decode(std::exchange(block_, {}));
        }
      }
      frames.push_back(std::move(seen));
    }
  }

  // Of a stream and a type, in order.
  std::vector<Seen> Of(std::uint32_t stream, unsigned type) const {
    std::vector<Seen> found;
    for (const Seen& seen : frames) {
      if (seen.stream == stream && seen.type == type) {
        found.push_back(seen);
      }
    }
    return found;
  }
  // The octets of all DATA of a stream.
  std::string Body(std::uint32_t stream) const {
    std::string body;
    for (const Seen& seen : Of(stream, kData)) {
      body += seen.payload;
    }
    return body;
  }
  bool Ended(std::uint32_t stream) const {
    for (const Seen& seen : frames) {
      if (seen.stream == stream && (seen.type == kData || seen.type == kHeaders) && seen.ends()) {
        return true;
      }
    }
    return false;
  }

  std::vector<Seen> frames;

 private:
  Pairs Decode(const std::string& block) {
    Pairs fields;
    const auto* octets = reinterpret_cast<const std::uint8_t*>(block.data());
    std::size_t left = block.size();
    while (true) {
      nghttp2_nv pair{};
      int flags = 0;
      const ssize_t size = nghttp2_hd_inflate_hd2(inflater_, &pair, &flags, octets, left, 1);
      TG_CHECK(size >= 0);
      octets += size;
      left -= static_cast<std::size_t>(size);
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
        fields.emplace_back(std::string(reinterpret_cast<char*>(pair.name), pair.namelen),
                            std::string(reinterpret_cast<char*>(pair.value), pair.valuelen));
      }
      if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) {
        nghttp2_hd_inflate_end_headers(inflater_);
        return fields;
      }
    }
  }

  nghttp2_hd_inflater* inflater_ = nullptr;
  std::string rest_;
  std::string block_;
};

}  // namespace tidegate::h2
