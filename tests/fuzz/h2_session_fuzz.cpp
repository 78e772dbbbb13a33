// Frames of a client through a whole session of HTTP/2 to an origin that speaks HTTP/1.1, in this
// process; and the differentials: what arrives at the origin, a reader that shares nothing with the
// codec must read as no more requests than the client opened streams, each with the body of one of
// them; and what the client gets is frames that its HPACK decoder can read.
//
// The input is what the client sends behind its preface. After a line "----" comes what the origin
// sends on each connection, at once; without it the origin answers every request.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/session_rig.h"
#include "tests/support/h2_frames.h"

namespace tidegate {
namespace {

// What the DATA frames of each stream say up to its end, whether anybody may say it or not.
struct Sent {
  std::map<std::uint32_t, std::string> bodies;
  std::set<std::uint32_t> ended;
  std::size_t heads = 0;
};

Sent Walk(std::string_view octets) {
  Sent sent;
  const auto octet = [&](std::size_t at) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(octets[at]));
  };
  while (octets.size() >= 9) {
    const std::size_t size = octet(0) << 16U | octet(1) << 8U | octet(2);
    const std::uint32_t type = octet(3);
    const std::uint32_t flags = octet(4);
    const std::uint32_t stream =
        (octet(5) & 0x7fU) << 24U | octet(6) << 16U | octet(7) << 8U | octet(8);
    std::string_view payload = octets.substr(9, std::min(size, octets.size() - 9));
    octets.remove_prefix(std::min(9 + size, octets.size()));
    if (type == h2::kHeaders) {
      ++sent.heads;
      sent.bodies[stream];
    } else if (type == h2::kData && !sent.ended.contains(stream)) {
      constexpr std::uint32_t kPadded = 8;
      if ((flags & kPadded) != 0 && !payload.empty()) {
        const std::size_t padding = static_cast<unsigned char>(payload[0]);
        payload.remove_prefix(1);
        payload.remove_suffix(std::min(padding, payload.size()));
      }
      sent.bodies[stream] += payload;
    }
    if ((type == h2::kHeaders || type == h2::kData) && (flags & h2::kEndStream) != 0) {
      sent.ended.insert(stream);
    }
  }
  return sent;
}

void Differ(std::string_view input, const std::vector<std::string>& received) {
  using h1_fuzz::StrictReader;
  const Sent sent = Walk(input);
  std::size_t requests = 0;
  for (const std::string& octets : received) {
    for (const std::string& body :
         StrictReader(octets, StrictReader::Kind::kRequests, {}).Bodies()) {
      ++requests;
      // DATA of a CONNECT is no body, but what the tunnel would carry; and who says that there is
      // none is believed before the DATA that proves it wrong.
      const bool none = body.empty() && (octets.contains("\r\nUpgrade: websocket\r\n") ||
                                         octets.contains("\r\nContent-Length: 0\r\n"));
      const bool known = none || std::ranges::any_of(sent.bodies, [&](const auto& each) {
                           return each.second == body;
                         });
      h1_fuzz::Require(known, "a body that the client did not send", input, octets);
    }
    h1_fuzz::Require(requests <= sent.heads, "more requests than streams", input, octets);
  }
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using tidegate::ClientInfo;
  // Never destroyed: the loop's destructor wants handles closed that live as long as the process.
  static auto* rig =
      new tidegate::session_fuzz::Rig(ClientInfo::SpeaksBit(tidegate::Protocol::kH2c));
  constexpr std::string_view kSeparator = "----\n";
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t at = input.find(kSeparator);
  std::string_view script;
  const bool has_script = at != std::string_view::npos;
  if (has_script) {
    script = input.substr(at + kSeparator.size());
    input = input.substr(0, at);
  }
  const std::string octets = std::string(tidegate::h2::kPreface) + std::string(input);
  const auto received = rig->Play(octets, has_script ? &script : nullptr);
  if (!has_script) {
    tidegate::Differ(input, received);
  }
  tidegate::h2::Reader reader;
  reader.Take(rig->heard());
  return 0;
}
