// Octets of an origin: see h1_fuzz.h for what must hold. The methods of the requests alternate, so
// that answers to HEAD are among them.

#include "tests/fuzz/h1_fuzz.h"

namespace tidegate {
namespace {

constexpr Method MethodOfAnswer(std::size_t index) {
  return index % 2 == 0 ? Method::kGet : Method::kHead;
}

void Encode(const ResponseHead& head, std::string& out) {
  EncodeResponseHead(
      head, head.status == 101 ? ConnectionOption::kUpgrade : ConnectionOption::kNone, out);
}

void RoundTripAll(std::string_view input) {
  H1Decoder decoder = H1Decoder::ForResponses({});
  ResponseHead head;
  std::string left(input);
  std::string body;
  for (std::size_t index = 0; !left.empty();) {
    const Method method = MethodOfAnswer(index);
    decoder.BeginResponse(head, method);
    if (!h1_fuzz::DecodeOne(decoder, left, head, body)) {
      return;
    }
    index += head.IsInterim() ? 0 : 1;
    const bool bodiless = method == Method::kHead || head.status == 304;
    if (!bodiless || head.body == BodyKind::kNone) {
      h1_fuzz::RoundTrip(
          head, body, H1Decoder::ForResponses(h1_fuzz::kNoLimits), Encode,
          [method](H1Decoder& other, ResponseHead& again) { other.BeginResponse(again, method); });
    }
    if (head.status == 101) {
      return;
    }
  }
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  tidegate::h1_transcript::Options options;
  options.methods = {tidegate::Method::kGet, tidegate::Method::kHead, tidegate::Method::kGet};
  tidegate::h1_fuzz::CutEveryWay(input, options, tidegate::h1_transcript::ReadResponses);
  tidegate::h1_transcript::Options small = tidegate::h1_fuzz::SmallLimits();
  small.methods = {tidegate::Method::kHead, tidegate::Method::kGet};
  tidegate::h1_fuzz::CutEveryWay(input, small, tidegate::h1_transcript::ReadResponses);
  using tidegate::h1_fuzz::StrictReader;
  tidegate::h1_fuzz::Agree(
      tidegate::h1_transcript::ReadResponses(input, options),
      StrictReader(input, StrictReader::Kind::kResponses, {false, true, false}), input);
  tidegate::RoundTripAll(input);
  return 0;
}
