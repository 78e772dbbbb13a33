// Octets of a client through a whole session, exchange and pool to an origin in this process; and
// the differential: what arrives at the origin, a reader that shares nothing with the codec must
// read as whole requests whose bodies are, in order, bodies that the client sent.
//
// The input is what the client sends. After a line "----" comes what the origin sends on each
// connection, at once; without it the origin answers every request.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/session_rig.h"

namespace tidegate {
namespace {

// Every connection's octets are whole requests, but for the last one, whose client may have left.
// Their bodies are among the client's, in its order.
void Differ(std::string_view sent, const std::vector<std::string>& received) {
  using h1_fuzz::StrictReader;
  const std::vector<std::string> bodies =
      StrictReader(sent, StrictReader::Kind::kRequests, {}).Bodies();
  auto next = bodies.begin();
  for (const std::string& octets : received) {
    // A request that was tried again on another connection stands there twice; an origin that
    // answers does not make us try again.
    for (const std::string& body :
         StrictReader(octets, StrictReader::Kind::kRequests, {}).Bodies()) {
      next = std::find(next, bodies.end(), body);
      h1_fuzz::Require(next != bodies.end(), "a request that the client did not send", sent,
                       octets);
      ++next;
    }
  }
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Never destroyed: the loop's destructor wants handles closed that live as long as the process.
  static auto* rig =
      new tidegate::session_fuzz::Rig(tidegate::ClientInfo::SpeaksBit(tidegate::Protocol::kH1));
  constexpr std::string_view kSeparator = "----\n";
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t at = input.find(kSeparator);
  if (at == std::string_view::npos) {
    tidegate::Differ(input, rig->Play(input, nullptr));
    return 0;
  }
  const std::string_view script = input.substr(at + kSeparator.size());
  rig->Play(input.substr(0, at), &script);
  return 0;
}
