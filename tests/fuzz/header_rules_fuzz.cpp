// A request that the decoder takes, on its way through the header rules: whatever it nominates in
// Connection, what we say of the client and how the message is framed is ours alone, and what is
// encoded is read again as one request.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "proxy/header_rules.h"
#include "tests/fuzz/h1_fuzz.h"

namespace tidegate {
namespace {

int CountOf(const Fields& fields, std::string_view name) {
  int count = 0;
  for (const Field& field : fields) {
    count += EqualsIgnoringCase(field.name, name) ? 1 : 0;
  }
  return count;
}

void Rewrite(std::string_view input, const ForwardedConfig& forwarded, bool trusted) {
  ClientInfo client;
  client.peer = "192.0.2.1:5123";
  client.ip = "192.0.2.1";
  client.has_ip = true;
  client.port = "8080";
  client.trusted = trusted;
  const ServedClient served(client);
  const RouteConfig route;
  H1Decoder decoder = H1Decoder::ForRequests({});
  RequestHead head;
  std::string left(input);
  std::string body;
  while (!left.empty()) {
    decoder.BeginRequest(head);
    if (!h1_fuzz::DecodeOne(decoder, left, head, body) || !CountHop(head, route)) {
      return;
    }
    RewriteRequest(head, route, forwarded, served, {"X-Request-Id", "id0", FieldId::kXRequestId});
    StripTrailers(head.trailers);
    for (std::string_view ours :
         {"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"}) {
      // A trusted peer is believed: what it says stays as it said it.
      const int most = forwarded.x_forwarded ? 1 : 0;
      h1_fuzz::Require(trusted || CountOf(head.fields, ours) <= most, "not ours", ours, input);
    }
    for (std::string_view once : {"X-Request-Id", "Host"}) {
      h1_fuzz::Require(CountOf(head.fields, once) <= 1, "twice", once, input);
    }
    if (!trusted && forwarded.x_forwarded) {
      const Field* address = head.fields.Find("X-Forwarded-For");
      h1_fuzz::Require(address != nullptr && address->value == client.ip, "another client",
                       address == nullptr ? "none" : address->value, input);
    }
    for (std::string_view never : {"Connection", "Keep-Alive", "Proxy-Connection",
                                   "Transfer-Encoding", "Proxy", "Content-Length"}) {
      h1_fuzz::Require(CountOf(head.fields, never) == 0, "hop-by-hop", never, input);
    }
    std::string out;
    EncodeRequestHead(
        head, head.upgrade.empty() ? ConnectionOption::kNone : ConnectionOption::kUpgrade, out);
    h1_fuzz::AppendBody(head, body, out);
    const std::vector<std::string> bodies =
        h1_fuzz::StrictReader(out + "GET /next HTTP/1.1\r\nHost: n\r\n\r\n",
                              h1_fuzz::StrictReader::Kind::kRequests, {})
            .Bodies();
    h1_fuzz::Require(bodies.size() == 2 && bodies[0] == body, "not one request", out, input);
  }
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  for (bool trusted : {false, true}) {
    tidegate::Rewrite(input, {.x_forwarded = true, .rfc7239 = true, .via = true}, trusted);
    tidegate::Rewrite(input, {.x_forwarded = false, .rfc7239 = false, .via = false}, trusted);
  }
  return 0;
}
