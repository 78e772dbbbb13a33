#pragma once

// What changes in a head on its way through (RFC 9110 section 7.6). First everything that concerns
// only one connection is taken away, then ours is added, then the route's edits are applied: so no
// client can remove or forge what we say, and the operator has the last word.
//
//   1. Connection, the fields that it names, Keep-Alive, Proxy-Connection, TE, Transfer-Encoding,
//      Upgrade and Content-Length go. Framing is in head.body, Upgrade in head.upgrade; the encoder
//      writes them anew.
//   2. Connection cannot name away Host, framing, Date, Expect, Forwarded, Max-Forwards, Via,
//      X-Forwarded-* and X-Request-Id: those names are ignored in it.
//   3. From a peer that is not trusted, no X-Forwarded-* and no Forwarded survives. From anybody,
//      names that an origin could mistake for them or for X-Request-Id are dropped
//      (X_Forwarded_For, X-Forwarded_For: CGI turns both '-' and '_' into '_'), and so is Proxy
//      (CVE-2016-5385).
//   4. Where clients may have certificates, what looks like Client-Cert, Client-Cert-Chain or
//   X-Client-Cert-* (proxy/client_certificate.h) goes, whoever sent it, and ours is added.
//   5. Text that is added lives in the head's arena, in the ServedClient or in the configuration.

#include <cstdint>
#include <string>
#include <string_view>

#include "common/config.h"
#include "common/result.h"
#include "proxy/client_info.h"
#include "proxy/http/message.h"
#include "proxy/listener_rules.h"

namespace tidegate {

// Turns the request as received into the one for the endpoint. Once a request, not once an attempt.
//
// Adds, as `forwarded` says:
//   X-Forwarded-For    the peer, after what a trusted peer sent; a unix peer adds nothing
//   X-Forwarded-Proto, -Host, -Port   those of a trusted peer, otherwise how we were called
//   Forwarded          RFC 7239: for, host, proto; after what a trusted peer sent
//   Via                "1.1 tidegate" (the version that we received), after what was there
// and X-Request-Id: `request_id`, which lives in the arena (ChooseRequestId). Then the route's
// edits (Host can be set, which changes head.authority too, not added or removed) and strip_prefix.
// An Upgrade of HTTP/1.0, one that offers h2c or one with a malformed protocol is dropped whole
// (RFC 9110 section 7.8: we may ignore it). `route` and `forwarded` must outlive the use of `head`.
// head.target may become another view; the old one stays valid. `rules` of the client's listener:
// null if it has none.
void RewriteRequest(RequestHead& head, const RouteConfig& route, const ForwardedConfig& forwarded,
                    const ServedClient& client, const Field& request_id,
                    const ListenerRules* rules = nullptr);

// Turns the response as received into the one for the client: Via, `date` if there is none (empty:
// nothing), Strict-Transport-Security of `rules` (null: there are none) if there is none, the
// route's edits. An interim response gets Via only. `date` is copied; `rules` must outlive the use
// of `head`.
void RewriteResponse(ResponseHead& head, const RouteConfig& route, const ForwardedConfig& forwarded,
                     std::string_view date, const ListenerRules* rules = nullptr);

// Both directions: what a head may not say by nomination (rule 2), framing and hop-by-hop fields,
// and everything that looks like X-Forwarded-* or a client's certificate go. Some origins read
// trailers as if they were headers.
void StripTrailers(Fields& trailers);

// What is to be done with a request that counts its hops.
enum class HopDecision : std::uint8_t {
  kForward,
  // OPTIONS that has arrived where it wanted to: we are the recipient.
  kAnswer,
};

// Before RewriteRequest. Max-Forwards of OPTIONS and TRACE (RFC 9110 section 7.6.2), other methods
// are left alone: 0 means that we answer, anything else is decremented in `head`. TRACE is served
// only by a route whose methods name it, and never answered by us: an echo of Cookie and
// Authorization is of use only to an attacker (section 9.3.8). Errors: kMethodNotAllowed for such a
// TRACE, kBadRequest for a Max-Forwards that is no number or stands there twice.
Result<HopDecision> CountHop(RequestHead& head, const RouteConfig& route);

// "Sun, 06 Nov 1994 08:49:37 GMT", made once a second.
class HttpDate {
 public:
  // `seconds` since the epoch. Valid until the next call.
  std::string_view At(std::int64_t seconds);

 private:
  std::int64_t second_ = -1;
  std::string text_;
};

}  // namespace tidegate
