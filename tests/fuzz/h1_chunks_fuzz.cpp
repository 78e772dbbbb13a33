// A chunked body: the same octets whatever the cuts, and the same as the strict reader sees. The
// head is fixed, so that every mutation hits chunk lines, data and trailers.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tests/fuzz/h1_fuzz.h"

namespace {

constexpr std::string_view kRequest =
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
constexpr std::string_view kResponse = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  using tidegate::h1_fuzz::StrictReader;
  const std::string request = std::string(kRequest).append(input);
  tidegate::h1_fuzz::CutEveryWay(request, {}, tidegate::h1_transcript::ReadRequests);
  tidegate::h1_fuzz::Agree(tidegate::h1_transcript::ReadRequests(request),
                           StrictReader(request, StrictReader::Kind::kRequests, {}), request);
  const std::string response = std::string(kResponse).append(input);
  tidegate::h1_transcript::Options options;
  options.methods = {tidegate::Method::kGet};
  tidegate::h1_fuzz::CutEveryWay(response, options, tidegate::h1_transcript::ReadResponses);
  tidegate::h1_fuzz::Agree(tidegate::h1_transcript::ReadResponses(response, options),
                           StrictReader(response, StrictReader::Kind::kResponses, {false}),
                           response);
  return 0;
}
