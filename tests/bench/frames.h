#pragma once

// WebSocket frames (RFC 6455 section 5.2) and pseudo-random octets to fill them with. The same seed
// gives the same octets at both ends, so that nothing that was sent has to be kept for comparing.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace bench {

constexpr std::uint8_t kTextFrame = 1;
constexpr std::uint8_t kBinaryFrame = 2;
constexpr std::uint8_t kCloseFrame = 8;

// The key of RFC 6455 section 1.3, so that the answer to it is a constant and nothing here needs
// SHA-1. No proxy looks at it.
constexpr std::string_view kUpgradeHead =
    "GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
constexpr std::string_view kUpgradeAnswer =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

// xorshift64*: fast, and no two places of a stream look alike for 64 octets.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15U | 1U) { Next(); }

  std::uint64_t Next() {
    state_ ^= state_ >> 12U;
    state_ ^= state_ << 25U;
    state_ ^= state_ >> 27U;
    return state_ * 0x2545f4914f6cdd1dU;
  }

  // `size` octets; the next call goes on at the next multiple of 8.
  void Fill(char* to, std::size_t size) {
    while (size > 0) {
      std::uint64_t word = Next();
      std::size_t count = std::min(size, sizeof(word));
      std::memcpy(to, &word, count);
      to += count;
      size -= count;
    }
  }

 private:
  std::uint64_t state_;
};

struct FrameHead {
  std::uint8_t opcode = 0;
  bool is_masked = false;
  unsigned char mask[4] = {};
  std::size_t head_bytes = 0;
  std::size_t payload_bytes = 0;
};

enum class Parsed { kPartial, kWhole, kBroken };

// kWhole: the head is; the payload need not be. kBroken: this is no frame that we ever send. A
// stream that lost or gained octets ends up here soon.
inline Parsed ParseFrameHead(std::string_view input, std::size_t most_payload, FrameHead& head) {
  if (input.size() < 2) {
    return Parsed::kPartial;
  }
  auto octet = [&](std::size_t at) { return static_cast<unsigned char>(input[at]); };
  head.opcode = octet(0) & 0x0fU;
  head.is_masked = (octet(1) & 0x80U) != 0;
  std::size_t length = octet(1) & 0x7fU;
  std::size_t more = length == 126 ? 2 : length == 127 ? 8 : 0;
  head.head_bytes = 2 + more + (head.is_masked ? 4 : 0);
  // Always final, never with reserved bits.
  if ((octet(0) & 0xf0U) != 0x80U) {
    return Parsed::kBroken;
  }
  if (input.size() < head.head_bytes) {
    return Parsed::kPartial;
  }
  if (more > 0) {
    length = 0;
    for (std::size_t i = 0; i < more; ++i) {
      length = length << 8U | octet(2 + i);
    }
  }
  if (head.is_masked) {
    std::memcpy(head.mask, input.data() + 2 + more, 4);
  }
  head.payload_bytes = length;
  return length > most_payload ? Parsed::kBroken : Parsed::kWhole;
}

// Masking and unmasking are the same.
inline void Mask(char* payload, std::size_t size, const unsigned char (&mask)[4]) {
  for (std::size_t i = 0; i < size; ++i) {
    payload[i] = static_cast<char>(payload[i] ^ static_cast<char>(mask[i % 4]));
  }
}

// Appends a frame; `mask` is null for a server's.
inline void AppendFrame(std::string& out, std::uint8_t opcode, std::string_view payload,
                        const unsigned char (*mask)[4]) {
  out += static_cast<char>(0x80U | opcode);
  unsigned masked = mask != nullptr ? 0x80U : 0U;
  std::size_t size = payload.size();
  std::size_t more = size < 126 ? 0 : size < 65536 ? 2 : 8;
  std::size_t length = more == 0 ? size : more == 2 ? 126 : 127;
  out += static_cast<char>(masked | length);
  for (std::size_t i = more; i > 0; --i) {
    out += static_cast<char>(size >> 8 * (i - 1) & 0xffU);
  }
  if (mask != nullptr) {
    out.append(reinterpret_cast<const char*>(*mask), 4);
  }
  std::size_t begin = out.size();
  out += payload;
  if (mask != nullptr) {
    Mask(out.data() + begin, size, *mask);
  }
}

}  // namespace bench
