#pragma once

// What a head of HTTP/1 must be like beyond its syntax: RFC 9112 and RFC 9110, where llhttp is more
// patient than a proxy may be. Pure functions on a head whose fields are all there; nothing here
// reads octets from a connection.

#include <optional>
#include <string_view>

#include "proxy/http/h1_fault.h"
#include "proxy/http/message.h"

namespace tidegate {

// Looks at a complete method token. Refused: CONNECT (kMethodNotAllowed), what llhttp does not read
// as a method of HTTP (kMethodNotImplemented). Otherwise fills method and method_name (static
// text).
std::optional<Fault> JudgeMethod(std::string_view name, RequestHead& head);

// Turns head.target, the request target as received, into what RequestHead promises (RFC 9112
// section 3.2). Of an absolute-form target the authority goes to head.authority. kBadTarget.
std::optional<Fault> JudgeTarget(RequestHead& head);

// When the fields are complete: Host, framing, Connection, Expect, Upgrade. Fills the rest of the
// head. kBadRequest, kBadHost, kBadTransferCoding, kExpectationFailed.
std::optional<Fault> JudgeRequest(RequestHead& head);

// The same for a response; `request_method` as for BeginResponse. kUpstreamBadResponse.
// head.body of an answer to HEAD and of a 304 says what would have come; kUntilClose for HEAD if
// nothing says it.
std::optional<Fault> JudgeResponse(ResponseHead& head, Method request_method);

// No body follows such a head, whatever it says (RFC 9112 section 6.3).
bool HasNoBody(int status, Method request_method);

// Fields about framing, routing, or this connection: never taken from a trailer section (RFC 9110
// section 6.5.1).
bool IsForbiddenInTrailers(FieldId id);

}  // namespace tidegate
