#include "proxy/http/h1_rules.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

namespace tidegate {
namespace {

// --- Methods
// -------------------------------------------------------------------------------------------------------

struct MethodRow {
  std::string_view name;
  Method method;
};

// What llhttp reads as a method of HTTP, the usual ones first. CONNECT and SOURCE (of Icecast) are
// known and not served.
constexpr std::array kMethods = {
    MethodRow{"GET", Method::kGet},           MethodRow{"HEAD", Method::kHead},
    MethodRow{"POST", Method::kPost},         MethodRow{"PUT", Method::kPut},
    MethodRow{"DELETE", Method::kDelete},     MethodRow{"OPTIONS", Method::kOptions},
    MethodRow{"PATCH", Method::kPatch},       MethodRow{"TRACE", Method::kTrace},
    MethodRow{"CONNECT", Method::kConnect},   MethodRow{"COPY", Method::kOther},
    MethodRow{"LOCK", Method::kOther},        MethodRow{"MKCOL", Method::kOther},
    MethodRow{"MOVE", Method::kOther},        MethodRow{"PROPFIND", Method::kOther},
    MethodRow{"PROPPATCH", Method::kOther},   MethodRow{"SEARCH", Method::kOther},
    MethodRow{"UNLOCK", Method::kOther},      MethodRow{"BIND", Method::kOther},
    MethodRow{"REBIND", Method::kOther},      MethodRow{"UNBIND", Method::kOther},
    MethodRow{"ACL", Method::kOther},         MethodRow{"REPORT", Method::kOther},
    MethodRow{"MKACTIVITY", Method::kOther},  MethodRow{"CHECKOUT", Method::kOther},
    MethodRow{"MERGE", Method::kOther},       MethodRow{"M-SEARCH", Method::kOther},
    MethodRow{"NOTIFY", Method::kOther},      MethodRow{"SUBSCRIBE", Method::kOther},
    MethodRow{"UNSUBSCRIBE", Method::kOther}, MethodRow{"PURGE", Method::kOther},
    MethodRow{"MKCALENDAR", Method::kOther},  MethodRow{"LINK", Method::kOther},
    MethodRow{"UNLINK", Method::kOther},      MethodRow{"QUERY", Method::kOther},
};

// --- Target and authority
// --------------------------------------------------------------------------------------------

constexpr bool IsHexDigit(char octet) {
  return IsDigit(octet) || (octet >= 'a' && octet <= 'f') || (octet >= 'A' && octet <= 'F');
}

// Of a text that may have white space: everything below it but the tab, and DEL.
constexpr bool IsControl(char octet) {
  return (static_cast<unsigned char>(octet) < 0x20 && octet != '\t') || octet == 0x7f;
}

using OctetSet = std::array<bool, 256>;

template <class IsIn>
constexpr OctetSet OctetsThat(IsIn is_in) {
  OctetSet set{};
  for (unsigned octet = 0; octet < set.size(); ++octet) {
    set[octet] = is_in(static_cast<char>(octet));
  }
  return set;
}

// How many octets at the beginning of `text` are in `set`.
std::size_t SpanOf(const OctetSet& set, std::string_view text) {
  std::size_t at = 0;
  while (at < text.size() && set[static_cast<unsigned char>(text[at])]) {
    ++at;
  }
  return at;
}

constexpr OctetSet kNoControls = OctetsThat([](char octet) { return !IsControl(octet); });

// No white space, no control octets, nothing beyond ASCII, and no fragment.
constexpr OctetSet kTargetOctets =
    OctetsThat([](char octet) { return octet > 0x20 && octet < 0x7f && octet != '#'; });

// RFC 3986 section 3.2.2: reg-name without its percent-encoded octets. IPv4 addresses are among
// these.
constexpr auto kHostOctets = [] {
  OctetSet allowed{};
  constexpr std::string_view kOctets =
      "-._~!$&'()*+,;=0123456789"
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  for (const char octet : kOctets) {
    allowed[static_cast<unsigned char>(octet)] = true;
  }
  return allowed;
}();

// How many octets at the beginning of `text` are a reg-name.
std::size_t RegNameSize(std::string_view text) {
  std::size_t at = 0;
  while (true) {
    at += SpanOf(kHostOctets, text.substr(at));
    if (text.size() - at < 3 || text[at] != '%' || !IsHexDigit(text[at + 1]) ||
        !IsHexDigit(text[at + 2])) {
      return at;
    }
    at += 3;
  }
}

// Digits and nothing else, of a number that fits.
bool ParseDigits(std::string_view text, std::uint64_t& number) {
  // No number of so many digits is too large.
  constexpr std::size_t kSafe = std::numeric_limits<std::uint64_t>::digits10;
  if (text.empty() || text.size() > kSafe) [[unlikely]] {
    const char* end = text.data() + text.size();
    const auto [stopped_at, error] = std::from_chars(text.data(), end, number);
    return error == std::errc() && stopped_at == end;
  }
  std::uint64_t sum = 0;
  for (const char octet : text) {
    if (!IsDigit(octet)) {
      return false;
    }
    sum = 10 * sum + static_cast<std::uint64_t>(octet - '0');
  }
  number = sum;
  return true;
}

bool IsIpv6(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> copy{};
  if (text.size() >= copy.size()) {
    return false;
  }
  std::ranges::copy(text, copy.begin());
  in6_addr address{};
  return ::inet_pton(AF_INET6, copy.data(), &address) == 1;
}

bool IsPort(std::string_view text) {
  // "host:" is allowed by RFC 3986 section 3.2.3 and means the default.
  std::uint64_t port = 0;
  return text.empty() || (text.size() <= 5 && ParseDigits(text, port) && port <= 65535);
}

// uri-host [ ":" port ], as Host has it (RFC 9110 section 7.2). No userinfo, no empty host, no zone
// identifiers.
bool IsAuthority(std::string_view text) {
  std::size_t host_end = 0;
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos || !IsIpv6(text.substr(1, bracket - 1))) {
      return false;
    }
    host_end = bracket + 1;
  } else {
    host_end = RegNameSize(text);
    if (host_end == 0) {
      return false;
    }
  }
  const std::string_view rest = text.substr(host_end);
  return rest.empty() || (rest[0] == ':' && IsPort(rest.substr(1)));
}

std::optional<Fault> JudgeAbsoluteTarget(RequestHead& head) {
  const std::size_t colon = head.target.find("://");
  if (colon == std::string_view::npos) {
    return Fault{ErrorKind::kBadTarget, "request target is neither a path nor a URL"};
  }
  const std::string_view scheme = head.target.substr(0, colon);
  if (!EqualsIgnoringCase(scheme, "http") && !EqualsIgnoringCase(scheme, "https")) {
    return Fault{ErrorKind::kBadTarget, "request target has a scheme other than http and https"};
  }
  const std::string_view rest = head.target.substr(colon + 3);
  const std::size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
  const std::string_view authority = rest.substr(0, authority_end);
  if (authority.contains('@')) {
    return Fault{ErrorKind::kBadTarget, "request target has user information"};
  }
  if (!IsAuthority(authority)) {
    return Fault{ErrorKind::kBadTarget, "request target has an invalid host or port"};
  }
  head.authority = authority;
  const std::string_view path = rest.substr(authority_end);
  if (path.empty()) {
    // RFC 9112 section 3.2.4: the last proxy turns it into the asterisk form.
    head.target = head.method == Method::kOptions ? "*" : "/";
  } else if (path[0] == '?') {
    head.target = head.arena.Extend(head.arena.Copy("/"), path);
  } else {
    head.target = path;
  }
  return std::nullopt;
}

// --- Fields
// ----------------------------------------------------------------------------------------------------------

// The fields that decide how the message is read, each with the number of times it occurs. Valid
// until a field is added.
struct Controls {
  Field* host = nullptr;
  int host_count = 0;
  const Field* content_length = nullptr;
  int content_length_count = 0;
  const Field* transfer_encoding = nullptr;
  int transfer_encoding_count = 0;
  const Field* upgrade = nullptr;
  int upgrade_count = 0;
  const Field* unknown_expectation = nullptr;
  bool expects_continue = false;
  bool close = false;
  bool keep_alive = false;
  bool names_upgrade = false;
};

void ReadConnection(std::string_view value, Controls& controls) {
  struct Option {
    std::string_view name;
    bool Controls::* flag;
  };
  static constexpr std::array kOptions = {
      Option{"close", &Controls::close},
      Option{"keep-alive", &Controls::keep_alive},
      Option{"upgrade", &Controls::names_upgrade},
  };
  for (const Option& option : kOptions) {
    // Nearly always the one and only.
    if (value == option.name || EqualsIgnoringCase(value, option.name)) {
      controls.*option.flag = true;
      return;
    }
  }
  for (const Option& option : kOptions) {
    controls.*option.flag = controls.*option.flag || ListHasToken(value, option.name);
  }
}

Controls ReadControls(Fields& fields) {
  Controls controls;
  for (Field& field : fields) {
    if (field.id == FieldId::kOther) {
      continue;
    }
    switch (field.id) {
      case FieldId::kHost:
        controls.host = &field;
        ++controls.host_count;
        break;
      case FieldId::kContentLength:
        controls.content_length = &field;
        ++controls.content_length_count;
        break;
      case FieldId::kTransferEncoding:
        controls.transfer_encoding = &field;
        ++controls.transfer_encoding_count;
        break;
      case FieldId::kConnection:
        ReadConnection(field.value, controls);
        break;
      case FieldId::kUpgrade:
        controls.upgrade = &field;
        ++controls.upgrade_count;
        break;
      case FieldId::kExpect:
        if (EqualsIgnoringCase(field.value, "100-continue")) {
          controls.expects_continue = true;
        } else {
          controls.unknown_expectation = &field;
        }
        break;
      default:
        break;
    }
  }
  return controls;
}

// Content-Length is digits only and fits: no sign, no list, no white space inside (RFC 9110
// section 8.6).
bool ParseContentLength(std::string_view text, std::uint64_t& length) {
  return ParseDigits(text, length);
}

// `chunked` at the end of a list with other codings before it: a message that is framed well but
// coded in a way that we do not read. Everything else that is not `chunked` leaves the length
// unknown.
bool IsUnknownCodingThenChunked(std::string_view value) {
  const std::size_t comma = value.rfind(',');
  if (comma == std::string_view::npos) {
    return false;
  }
  return ListHasToken(value.substr(comma + 1), "chunked") &&
         !ListHasToken(value.substr(0, comma), "chunked");
}

// Fills body and content_length from what the fields say. Faults are those of a request.
std::optional<Fault> JudgeFraming(const Controls& controls, Head& head) {
  if (controls.transfer_encoding_count > 0) {
    if (controls.content_length_count > 0) {
      return Fault{ErrorKind::kBadRequest, "Content-Length with Transfer-Encoding"};
    }
    if (head.minor_version == 0) {
      return Fault{ErrorKind::kBadRequest, "Transfer-Encoding in HTTP/1.0"};
    }
    if (controls.transfer_encoding_count > 1) {
      return Fault{ErrorKind::kBadRequest, "Transfer-Encoding more than once"};
    }
    const std::string_view coding = controls.transfer_encoding->value;
    if (!EqualsIgnoringCase(coding, "chunked")) {
      return Fault{IsUnknownCodingThenChunked(coding) ? ErrorKind::kBadTransferCoding
                                                      : ErrorKind::kBadRequest,
                   "Transfer-Encoding other than chunked"};
    }
    head.body = BodyKind::kChunked;
    return std::nullopt;
  }
  if (controls.content_length_count > 1) {
    return Fault{ErrorKind::kBadRequest, "Content-Length more than once"};
  }
  if (controls.content_length_count == 1) {
    if (!ParseContentLength(controls.content_length->value, head.content_length)) {
      return Fault{ErrorKind::kBadRequest, "Content-Length is not a number of octets"};
    }
    head.body = BodyKind::kLength;
  }
  return std::nullopt;
}

void JudgePersistence(const Controls& controls, Head& head) {
  // RFC 9112 section 9.3.
  head.keep_alive = !controls.close && (head.minor_version == 1 || controls.keep_alive);
  if (controls.upgrade == nullptr || !controls.names_upgrade || head.minor_version == 0) {
    return;
  }
  if (controls.upgrade_count == 1) {
    head.upgrade = controls.upgrade->value;
    return;
  }
  std::string_view protocols = head.arena.Copy({});
  for (const Field& field : head.fields) {
    // RFC 9110 section 5.6.1: no empty elements are written.
    if (field.id == FieldId::kUpgrade && !field.value.empty()) {
      protocols = head.arena.Extend(protocols, protocols.empty() ? "" : ", ");
      protocols = head.arena.Extend(protocols, field.value);
    }
  }
  head.upgrade = protocols;
}

std::optional<Fault> JudgeHost(const Controls& controls, RequestHead& head) {
  if (controls.host_count > 1) {
    return Fault{ErrorKind::kBadHost, "Host more than once"};
  }
  if (controls.host_count == 0) {
    if (head.minor_version == 1) {
      return Fault{ErrorKind::kBadHost, "Host is missing"};
    }
    return std::nullopt;
  }
  if (!IsAuthority(controls.host->value)) {
    return Fault{ErrorKind::kBadHost, "Host is not a host with or without a port"};
  }
  if (head.authority.empty()) {
    head.authority = controls.host->value;
  } else {
    controls.host->SetValue(head.authority);
  }
  return std::nullopt;
}

}  // namespace

std::optional<Fault> JudgeMethod(std::string_view name, RequestHead& head) {
  for (const MethodRow& row : kMethods) {
    if (row.name == name) {
      if (row.method == Method::kConnect) {
        return Fault{ErrorKind::kMethodNotAllowed, "CONNECT"};
      }
      head.method = row.method;
      head.method_name = row.name;
      return std::nullopt;
    }
  }
  return Fault{ErrorKind::kMethodNotImplemented, "unknown method"};
}

std::optional<Fault> JudgeTarget(RequestHead& head) {
  if (SpanOf(kTargetOctets, head.target) != head.target.size()) {
    return Fault{ErrorKind::kBadTarget, "request target has an octet that is not allowed"};
  }
  if (head.target.starts_with('/')) {
    return std::nullopt;
  }
  if (head.target == "*") {
    if (head.method != Method::kOptions) {
      return Fault{ErrorKind::kBadTarget, "request target * with a method other than OPTIONS"};
    }
    return std::nullopt;
  }
  return JudgeAbsoluteTarget(head);
}

std::optional<Fault> JudgeRequest(RequestHead& head) {
  const Controls controls = ReadControls(head.fields);
  if (auto fault = JudgeHost(controls, head)) {
    return fault;
  }
  if (auto fault = JudgeFraming(controls, head)) {
    return fault;
  }
  JudgePersistence(controls, head);
  if (controls.unknown_expectation != nullptr) {
    return Fault{ErrorKind::kExpectationFailed, "Expect other than 100-continue"};
  }
  // RFC 9110 section 10.1.1: ignored in HTTP/1.0.
  head.expects_continue = controls.expects_continue && head.minor_version == 1;
  if (controls.host_count == 0 && !head.authority.empty()) {
    // Last: what is in `controls` may be gone by it.
    head.fields.Add("Host", head.authority);
  }
  return std::nullopt;
}

std::optional<Fault> JudgeResponse(ResponseHead& head, Method request_method) {
  if (head.status < 100) {
    return Fault{ErrorKind::kUpstreamBadResponse, "status code below 100"};
  }
  if (SpanOf(kNoControls, head.reason) != head.reason.size()) {
    return Fault{ErrorKind::kUpstreamBadResponse, "reason phrase has a control octet"};
  }
  Controls controls = ReadControls(head.fields);
  // RFC 9112 section 6.3 item 3: Transfer-Encoding wins. Who writes both may mean either, so
  // nothing after this answer is believed.
  const bool has_both = controls.transfer_encoding_count > 0 && controls.content_length_count > 0;
  if (has_both) {
    controls.content_length_count = 0;
  }
  if (auto fault = JudgeFraming(controls, head)) {
    fault->kind = ErrorKind::kUpstreamBadResponse;
    return fault;
  }
  JudgePersistence(controls, head);
  head.keep_alive = head.keep_alive && !has_both;
  const bool announces_body = head.body == BodyKind::kChunked || head.content_length > 0;
  if (head.status < 200 || head.status == 204) {
    if (announces_body && head.status < 200) {
      return Fault{ErrorKind::kUpstreamBadResponse, "interim response with a body"};
    }
    // An origin that sends a body with a 204 sends it as the beginning of the next response.
    head.keep_alive = head.keep_alive && !announces_body;
    head.body = BodyKind::kNone;
    head.content_length = 0;
    return std::nullopt;
  }
  if (head.body == BodyKind::kNone && head.status != 304) {
    head.body = BodyKind::kUntilClose;
    head.keep_alive = head.keep_alive && request_method == Method::kHead;
  }
  return std::nullopt;
}

bool HasNoBody(int status, Method request_method) {
  return request_method == Method::kHead || status < 200 || status == 204 || status == 304;
}

bool IsForbiddenInTrailers(FieldId id) {
  switch (id) {
    case FieldId::kOther:
    case FieldId::kDate:
    case FieldId::kServer:
    case FieldId::kXRequestId:
      return false;
    default:
      return true;
  }
}

}  // namespace tidegate
