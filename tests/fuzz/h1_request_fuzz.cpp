// Octets of a client: see h1_fuzz.h for what must hold.

#include "tests/fuzz/h1_fuzz.h"

namespace tidegate {
namespace {

void Encode(const RequestHead& head, std::string& out) {
  EncodeRequestHead(
      head, head.upgrade.empty() ? ConnectionOption::kNone : ConnectionOption::kUpgrade, out);
}

void RoundTripAll(std::string_view input) {
  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  std::string left(input);
  std::string body;
  while (!left.empty()) {
    decoder.BeginRequest(head);
    if (!h1_fuzz::DecodeOne(decoder, left, head, body)) {
      return;
    }
    if (head.authority.empty()) {
      // HTTP/1.0; who forwards it knows where to.
      head.authority = "h";
    }
    h1_fuzz::RoundTrip(head, body, H1Decoder::ForRequests(h1_fuzz::kNoLimits), Encode,
                       [](H1Decoder& other, RequestHead& again) { other.BeginRequest(again); });
  }
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  tidegate::h1_fuzz::CutEveryWay(input, {}, tidegate::h1_transcript::ReadRequests);
  tidegate::h1_fuzz::CutEveryWay(input, tidegate::h1_fuzz::SmallLimits(),
                                 tidegate::h1_transcript::ReadRequests);
  using tidegate::h1_fuzz::StrictReader;
  tidegate::h1_fuzz::Agree(tidegate::h1_transcript::ReadRequests(input),
                           StrictReader(input, StrictReader::Kind::kRequests, {}), input);
  tidegate::RoundTripAll(input);
  return 0;
}
