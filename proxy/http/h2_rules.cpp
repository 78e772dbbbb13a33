#include "proxy/http/h2_rules.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "common/check.h"
#include "proxy/http/h1_rules.h"

namespace tidegate {
namespace {

// RFC 9113 section 6.5.2.
constexpr std::size_t kFieldOverhead = 32;

struct PseudoRow {
  std::string_view name;
  std::string_view twice;
};

// In the order of H2HeadReader::Pseudo.
constexpr std::array kPseudoRows = {
    PseudoRow{":method", ":method more than once"},
    PseudoRow{":scheme", ":scheme more than once"},
    PseudoRow{":authority", ":authority more than once"},
    PseudoRow{":path", ":path more than once"},
    PseudoRow{":protocol", ":protocol more than once"},
};

// RFC 9113 section 8.2.2, and what must not be there either because it frames HTTP/1.
constexpr bool IsOfConnection(FieldId id) {
  return id == FieldId::kConnection || id == FieldId::kKeepAlive ||
         id == FieldId::kProxyConnection || id == FieldId::kTransferEncoding ||
         id == FieldId::kUpgrade;
}

using OctetSet = std::array<bool, 256>;

// RFC 9110 section 5.6.2 without upper case (RFC 9113 section 8.2.1).
constexpr OctetSet kNameOctets = [] {
  OctetSet set{};
  for (const char octet : std::string_view("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")) {
    set[static_cast<unsigned char>(octet)] = true;
  }
  return set;
}();

// RFC 9110 section 5.5. RFC 9113 forbids CR, LF and NUL; the other control octets are what no
// HTTP/1.1 message may have, so that an origin could not be asked.
constexpr OctetSet kValueOctets = [] {
  OctetSet set{};
  for (unsigned octet = 0; octet < set.size(); ++octet) {
    set[octet] = (octet >= 0x20 && octet != 0x7f) || octet == '\t';
  }
  return set;
}();

bool AllIn(const OctetSet& set, std::string_view text) {
  return std::ranges::all_of(text,
                             [&set](char octet) { return set[static_cast<unsigned char>(octet)]; });
}

bool IsBlank(char octet) {
  return octet == ' ' || octet == '\t';
}

bool HasUpperCase(std::string_view text) {
  return std::ranges::any_of(text, [](char octet) { return octet >= 'A' && octet <= 'Z'; });
}

std::string_view LowerCase(std::string_view text, Arena& arena) {
  if (text.empty() || !HasUpperCase(text)) {
    return text;
  }
  char* copy = arena.Allocate(text.size());
  std::ranges::transform(text, copy, [](char octet) { return ToLower(octet); });
  return {copy, text.size()};
}

}  // namespace

void H2HeadReader::BeginRequest(RequestHead& head, const DecoderLimits& limits) {
  *this = {};
  head_ = &head;
  limits_ = limits;
  head.Clear();
  head.is_http2 = true;
}

void H2HeadReader::BeginTrailers(RequestHead& head, const DecoderLimits& limits) {
  *this = {};
  head_ = &head;
  limits_ = limits;
  trailers_ = true;
}

void H2HeadReader::Refuse(ErrorKind kind, std::string_view detail, bool malformed) {
  if (!fault_) {
    fault_ = {kind, detail, malformed};
  }
}

void H2HeadReader::Add(std::string_view name, std::string_view value) {
  list_octets_ += name.size() + value.size() + kFieldOverhead;
  if (fault_) {
    return;
  }
  if (list_octets_ > limits_.max_head_bytes) {
    Refuse(ErrorKind::kHeadTooLarge, "header list is too large", false);
    return;
  }
  // RFC 9113 section 8.2.1, of all fields.
  if (!value.empty() && (IsBlank(value.front()) || IsBlank(value.back()))) {
    Malformed("field value begins or ends with white space");
    return;
  }
  if (!AllIn(kValueOctets, value)) {
    Malformed("field value has an octet that is not allowed");
    return;
  }
  if (name.starts_with(':')) {
    AddPseudo(name, value);
    return;
  }
  if (name.empty() || !AllIn(kNameOctets, name)) {
    Malformed(name.empty()         ? "field name is empty"
              : HasUpperCase(name) ? "field name has upper case"
                                   : "field name has an octet that is not allowed");
    return;
  }
  regular_seen_ = true;
  AddField(name, value);
}

void H2HeadReader::AddPseudo(std::string_view name, std::string_view value) {
  if (trailers_) {
    Malformed("pseudo-header field in trailers");
    return;
  }
  if (regular_seen_) {
    Malformed("pseudo-header field after a regular one");
    return;
  }
  auto row = std::ranges::find(kPseudoRows, name, &PseudoRow::name);
  if (row == kPseudoRows.end()) {
    Malformed("pseudo-header field that no request has");
    return;
  }
  const auto pseudo = static_cast<Pseudo>(row - kPseudoRows.begin());
  if (Has(pseudo)) {
    Malformed(row->twice);
    return;
  }
  seen_ = static_cast<std::uint8_t>(seen_ | 1U << static_cast<unsigned>(pseudo));
  Of(pseudo) = head_->arena.Copy(value);
}

void H2HeadReader::AddField(std::string_view name, std::string_view value) {
  const FieldId id = FieldIdOf(name);
  if (id != FieldId::kOther) {
    if (IsOfConnection(id)) {
      Malformed("field that is about a connection of HTTP/1");
      return;
    }
    if (id == FieldId::kTe && !EqualsIgnoringCase(value, "trailers")) {
      Malformed("te other than trailers");
      return;
    }
  } else if (name == "cookie" && !trailers_) {
    AddCrumb(value);
    return;
  }
  // As in HTTP/1: dropped where it could pass for what it is not.
  if (trailers_ ? IsForbiddenInTrailers(id) : id == FieldId::kOther && PassesForKnownField(name)) {
    return;
  }
  Fields& fields = trailers_ ? head_->trailers : head_->fields;
  if (fields.size() >= limits_.max_fields) {
    Refuse(ErrorKind::kTooManyFields, "too many fields", false);
    return;
  }
  // As a line of HTTP/1, so that it is written as it stands.
  constexpr std::string_view kColon = ": ";
  constexpr std::string_view kLineEnd = "\r\n";
  const std::size_t size = name.size() + kColon.size() + value.size() + kLineEnd.size();
  char* line = head_->arena.Allocate(size);
  char* end = std::ranges::copy(name, line).out;
  end = std::ranges::copy(kColon, end).out;
  end = std::ranges::copy(value, end).out;
  std::ranges::copy(kLineEnd, end);
  fields.Add(Field::OfLine(id, {line, size}, name.size()));
}

// RFC 9113 section 8.2.3: crumbs are one field again before they leave HTTP/2.
void H2HeadReader::AddCrumb(std::string_view value) {
  if (std::exchange(cookie_seen_, true)) {
    cookie_ += "; ";
  }
  cookie_ += value;
}

std::optional<H2Fault> H2HeadReader::End(bool ends_stream) {
  if (trailers_) {
    if (!ends_stream) {
      Malformed("trailers that do not end the stream");
    }
  } else {
    EndRequest(ends_stream);
  }
  return fault_;
}

void H2HeadReader::EndRequest(bool ends_stream) {
  // What there is goes to the head also after a fault: for the log.
  RequestHead& head = *head_;
  head.target = Of(Pseudo::kPath);
  head.method_name = Of(Pseudo::kMethod);
  head.authority = Of(Pseudo::kAuthority);
  if (fault_) {
    return;
  }
  if (cookie_seen_) {
    if (head.fields.size() >= limits_.max_fields) {
      Refuse(ErrorKind::kTooManyFields, "too many fields", false);
      return;
    }
    head.fields.Add(Field{"cookie", head.arena.Copy(std::exchange(cookie_, {})), FieldId::kOther});
  }
  // RFC 9113 section 8.3.1.
  if (!Has(Pseudo::kMethod) || Of(Pseudo::kMethod).empty()) {
    Malformed(":method is missing");
    return;
  }
  if (!IsToken(Of(Pseudo::kMethod))) {
    Malformed(":method is not a token");
    return;
  }
  if (Of(Pseudo::kMethod) == "CONNECT") {
    EndConnect();
  } else if (Has(Pseudo::kProtocol)) {
    Malformed(":protocol without CONNECT");
  } else if (!Has(Pseudo::kScheme) || !Has(Pseudo::kPath)) {
    Malformed(Has(Pseudo::kScheme) ? ":path is missing" : ":scheme is missing");
  } else if (auto fault = JudgeMethod(Of(Pseudo::kMethod), head)) {
    Refuse(fault->kind, fault->detail, false);
  }
  if (!fault_) {
    JudgeTargetOfPath();
  }
  if (!fault_) {
    JudgeAuthority();
  }
  if (fault_) {
    return;
  }
  if (auto fault = JudgeRequest(head)) {
    // Content-Length says how long the request is: wrong, it is malformed (section 8.1.1).
    const bool malformed = fault->kind == ErrorKind::kBadRequest;
    Refuse(fault->kind, fault->detail, malformed);
    return;
  }
  if (asks_for_websocket_) {
    if (head.body != BodyKind::kNone) {
      Malformed("CONNECT with a content-length");
    }
  } else if (ends_stream && head.content_length > 0) {
    Malformed("content-length without a body");
  } else if (!ends_stream && head.body == BodyKind::kNone) {
    head.body = BodyKind::kChunked;
  }
}

// RFC 9113 section 8.5 and RFC 8441 section 4.
void H2HeadReader::EndConnect() {
  RequestHead& head = *head_;
  if (!Has(Pseudo::kProtocol)) {
    if (Has(Pseudo::kScheme) || Has(Pseudo::kPath)) {
      Malformed("CONNECT with :scheme or :path");
    } else if (Of(Pseudo::kAuthority).empty()) {
      Malformed("CONNECT without :authority");
    } else {
      Refuse(ErrorKind::kMethodNotAllowed, "CONNECT", false);
    }
    return;
  }
  if (!Has(Pseudo::kScheme) || !Has(Pseudo::kPath) || Of(Pseudo::kAuthority).empty()) {
    Malformed("extended CONNECT without :scheme, :path or :authority");
    return;
  }
  // Names of protocols are compared in any case (RFC 9110 section 16.7).
  if (!EqualsIgnoringCase(Of(Pseudo::kProtocol), "websocket")) {
    Refuse(ErrorKind::kMethodNotImplemented, "CONNECT to a protocol other than websocket", false);
    return;
  }
  asks_for_websocket_ = true;
  head.method = Method::kGet;
  head.method_name = "GET";
  // Not the client's: HTTP/2 needs no proof that both sides know WebSocket (RFC 8441 section 5).
  head.fields.Remove("sec-websocket-key");
}

void H2HeadReader::JudgeTargetOfPath() {
  RequestHead& head = *head_;
  if (head.target.empty()) {
    Malformed(":path is empty");
    return;
  }
  const std::string_view scheme = Of(Pseudo::kScheme);
  if (!EqualsIgnoringCase(scheme, "http") && !EqualsIgnoringCase(scheme, "https")) {
    Refuse(ErrorKind::kBadTarget, ":scheme other than http and https", false);
    return;
  }
  if (head.target.size() > limits_.max_url_bytes) {
    Refuse(ErrorKind::kUrlTooLong, "request target is too long", false);
    return;
  }
  if (!head.target.starts_with('/') && (head.target != "*" || head.method != Method::kOptions)) {
    // An absolute URL would be read as the target of a proxy by the origin.
    Malformed(":path is not a path");
    return;
  }
  if (auto fault = JudgeTarget(head)) {
    Refuse(fault->kind, fault->detail, false);
  }
}

// RFC 9113 section 8.3.1: :authority wins, and a Host that says something else makes the request
// malformed. What it is like is judged as Host is.
void H2HeadReader::JudgeAuthority() {
  RequestHead& head = *head_;
  if (!Has(Pseudo::kAuthority)) {
    return;
  }
  if (head.authority.contains('@')) {
    Malformed(":authority has user information");
    return;
  }
  std::size_t hosts = 0;
  for (const Field& field : head.fields) {
    if (field.id == FieldId::kHost) {
      ++hosts;
      if (!EqualsIgnoringCase(field.value, head.authority)) {
        Malformed("host differs from :authority");
        return;
      }
    }
  }
  if (hosts == 0) {
    head.fields.Add(Field{"Host", head.authority, FieldId::kHost});
  }
  // JudgeRequest takes it from the Host field, whose syntax it looks at.
  head.authority = {};
}

void EncodeH2Response(const ResponseHead& head, int status, Arena& arena,
                      std::vector<H2Field>& out) {
  TG_CHECK(status >= 100 && status <= 999);
  char* digits = arena.Allocate(3);
  std::to_chars(digits, digits + 3, status);
  out.push_back({":status", {digits, 3}});
  for (const Field& field : head.fields) {
    if (IsOfConnection(field.id) || field.id == FieldId::kTe ||
        field.id == FieldId::kContentLength || field.name.empty()) {
      continue;
    }
    if (head.status == 101 && EqualsIgnoringCase(field.name, "sec-websocket-accept")) {
      // To a key that the client knows nothing of (RFC 8441 section 5).
      continue;
    }
    out.push_back({LowerCase(field.name, arena), field.value});
  }
  // As in HTTP/1 (RFC 9110 section 8.6): 1xx, 204 and what opens a tunnel say nothing of a body.
  const bool may_say = status >= 200 && status != 204 && head.status != 101;
  const bool has_length =
      head.body == BodyKind::kLength || (head.body == BodyKind::kNone && status != 304);
  if (may_say && has_length) {
    constexpr std::size_t kMaxDigits = 20;
    char* text = arena.Allocate(kMaxDigits);
    const std::uint64_t length = head.body == BodyKind::kLength ? head.content_length : 0;
    const char* end = std::to_chars(text, text + kMaxDigits, length).ptr;
    out.push_back({"content-length", {text, static_cast<std::size_t>(end - text)}});
  }
}

void EncodeH2Trailers(const Fields& trailers, Arena& arena, std::vector<H2Field>& out) {
  for (const Field& field : trailers) {
    if (!IsForbiddenInTrailers(field.id) && !field.name.empty() && field.name.front() != ':') {
      out.push_back({LowerCase(field.name, arena), field.value});
    }
  }
}

}  // namespace tidegate
