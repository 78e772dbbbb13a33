#pragma once

// What a header block of HTTP/2 means, and whether it may mean it: RFC 9113 sections 8.1 to 8.3,
// and 8.5 with RFC 8441. Everything that an HTTP/1 origin could misread is refused here, before it
// is written as HTTP/1. Plain code on fields; nothing here knows frames or connections.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "proxy/http/h1_decoder.h"
#include "proxy/http/message.h"

namespace tidegate {

// Why a header block is refused.
struct H2Fault {
  // kBadRequest if it is malformed.
  ErrorKind kind = ErrorKind::kBadRequest;
  // Static text.
  std::string_view detail;
  // Malformed (RFC 9113 section 8.1.1): a stream error of type PROTOCOL_ERROR. Otherwise the client
  // gets the status of `kind`.
  bool malformed = true;
};

// Reads one header block, a request's or its trailers', field by field as HPACK gives them. The
// first fault is kept; what comes after it is only counted.
class H2HeadReader {
 public:
  // `head` is cleared; it is filled until End.
  void BeginRequest(RequestHead& head, const DecoderLimits& limits);
  // The trailers of a request, into head.trailers.
  void BeginTrailers(RequestHead& head, const DecoderLimits& limits);

  // The views need not outlive the call.
  void Add(std::string_view name, std::string_view value);
  // The block is complete. `ends_stream`: no DATA follows. After it `head` is what RequestHead
  // promises, or there is a fault (and what was read before it is in `head`, for the log).
  std::optional<H2Fault> End(bool ends_stream);

  // Octets of the list as RFC 9113 section 6.5.2 counts them: 32 a field besides its text. Grows
  // also after the fault.
  std::size_t list_octets() const { return list_octets_; }
  // An extended CONNECT for a WebSocket (RFC 8441): the head is that of the GET which asks an
  // HTTP/1.1 origin for the Upgrade, without its Sec-WebSocket-Key.
  bool asks_for_websocket() const { return asks_for_websocket_; }

 private:
  enum class Pseudo : std::uint8_t { kMethod, kScheme, kAuthority, kPath, kProtocol };
  static constexpr std::size_t kPseudoCount = 5;

  std::string_view& Of(Pseudo pseudo) { return pseudo_[static_cast<std::size_t>(pseudo)]; }
  bool Has(Pseudo pseudo) const { return (seen_ >> static_cast<unsigned>(pseudo) & 1U) != 0; }
  void Refuse(ErrorKind kind, std::string_view detail, bool malformed);
  void Malformed(std::string_view detail) { Refuse(ErrorKind::kBadRequest, detail, true); }
  void AddPseudo(std::string_view name, std::string_view value);
  void AddField(std::string_view name, std::string_view value);
  void AddCrumb(std::string_view value);
  void EndRequest(bool ends_stream);
  void EndConnect();
  void JudgeTargetOfPath();
  void JudgeAuthority();

  RequestHead* head_ = nullptr;
  DecoderLimits limits_;
  std::optional<H2Fault> fault_;
  std::string_view pseudo_[kPseudoCount];
  // All crumbs so far. Not in the arena: there each that stands apart from the last would leave a
  // copy of all before it.
  std::string cookie_;
  std::size_t list_octets_ = 0;
  std::uint8_t seen_ = 0;
  bool trailers_ = false;
  bool regular_seen_ = false;
  bool cookie_seen_ = false;
  bool asks_for_websocket_ = false;
};

// One field as HPACK takes it.
struct H2Field {
  std::string_view name;  // lower case
  std::string_view value;
};

// The final or interim head as HTTP/2 says it (RFC 9113 section 8.3.2): `:status` first, names in
// lower case, without what is about a connection of HTTP/1 or its framing; `status` may differ from
// the head's (200 for the 101 of a WebSocket). Appends to `out`; text that is made goes to `arena`.
void EncodeH2Response(const ResponseHead& head, int status, Arena& arena,
                      std::vector<H2Field>& out);
// Fields that may stand in a trailer section; the others are left out.
void EncodeH2Trailers(const Fields& trailers, Arena& arena, std::vector<H2Field>& out);

}  // namespace tidegate
