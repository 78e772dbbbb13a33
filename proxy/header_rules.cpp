#include "proxy/header_rules.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string>
#include <system_error>
#include <vector>

#include "proxy/http/h1_encoder.h"

namespace tidegate {
namespace {

constexpr std::uint32_t Bit(FieldId id) {
  return std::uint32_t{1} << static_cast<unsigned>(id);
}

// Rule 1.
constexpr std::uint32_t kHopByHop = Bit(FieldId::kConnection) | Bit(FieldId::kContentLength) |
                                    Bit(FieldId::kKeepAlive) | Bit(FieldId::kProxyConnection) |
                                    Bit(FieldId::kTe) | Bit(FieldId::kTransferEncoding) |
                                    Bit(FieldId::kUpgrade);
constexpr std::uint32_t kForwardedFields =
    Bit(FieldId::kForwarded) | Bit(FieldId::kXForwardedFor) | Bit(FieldId::kXForwardedHost) |
    Bit(FieldId::kXForwardedPort) | Bit(FieldId::kXForwardedProto);
// Rule 2.
constexpr std::uint32_t kNeverNominated =
    kForwardedFields | Bit(FieldId::kDate) | Bit(FieldId::kExpect) | Bit(FieldId::kHost) |
    Bit(FieldId::kMaxForwards) | Bit(FieldId::kVia) | Bit(FieldId::kXRequestId);

constexpr bool IsIn(std::uint32_t set, FieldId id) {
  return (set & Bit(id)) != 0;
}

constexpr bool IsAlphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// What an origin might take a name for.
enum class Likeness : std::uint8_t { kNothing, kXForwarded, kImpostor };

// True if `name` begins with `words`, any separator standing where `words` has '-'.
bool ReadsAs(std::string_view name, std::string_view words) {
  if (name.size() < words.size()) {
    return false;
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    bool same = words[i] == '-' ? !IsAlphanumeric(name[i]) : (name[i] | 0x20) == words[i];
    if (!same) {
      return false;
    }
  }
  return true;
}

// For names that have no row of their own.
Likeness LikenessOf(std::string_view name) {
  char first = static_cast<char>(name.empty() ? 0 : name.front() | 0x20);
  if (first == 'p') [[unlikely]] {
    return EqualsIgnoringCase(name, "proxy") ? Likeness::kImpostor : Likeness::kNothing;
  }
  constexpr std::string_view kId = "x-request-id";
  if (first != 'x' || name.size() < kId.size()) [[likely]] {
    return Likeness::kNothing;
  }
  if (name.size() == kId.size() && ReadsAs(name, kId)) {
    return Likeness::kImpostor;
  }
  if (!ReadsAs(name, "x-forwarded-")) {
    return Likeness::kNothing;
  }
  bool genuine = std::ranges::all_of(name, [](char c) { return IsAlphanumeric(c) || c == '-'; });
  return genuine ? Likeness::kXForwarded : Likeness::kImpostor;
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

// RFC 9110 section 7.8: names with or without a version, all of them tokens; and none is h2c, which
// would be requests that no rule has seen.
bool MayUpgradeTo(std::string_view protocols) {
  while (!protocols.empty()) {
    std::size_t comma = protocols.find(',');
    std::string_view protocol = Trimmed(protocols.substr(0, comma));
    protocols = comma == std::string_view::npos ? "" : protocols.substr(comma + 1);
    std::size_t slash = protocol.find('/');
    std::string_view name = protocol.substr(0, slash);
    bool version_is_token = slash == std::string_view::npos || IsToken(protocol.substr(slash + 1));
    if (!protocol.empty() &&
        (!IsToken(name) || !version_is_token || EqualsIgnoringCase(name, "h2c"))) {
      return false;
    }
  }
  return true;
}

// True for the usual values of Connection, which name nothing that has to be looked for.
bool NamesNothing(std::string_view value) {
  return value == "keep-alive" || value == "close" || value == "Upgrade" ||
         EqualsIgnoringCase(value, "keep-alive") || EqualsIgnoringCase(value, "close") ||
         EqualsIgnoringCase(value, "upgrade");
}

// Removes the fields that `list`, the value of a Connection field, names (rule 2).
void RemoveNominated(std::string_view list, Fields& fields) {
  while (!list.empty()) {
    std::size_t comma = list.find(',');
    std::string_view option = Trimmed(list.substr(0, comma));
    list = comma == std::string_view::npos ? "" : list.substr(comma + 1);
    bool ours = IsIn(kHopByHop | kNeverNominated, FieldIdOf(option)) ||
                LikenessOf(option) == Likeness::kXForwarded;
    if (!option.empty() && !ours) {
      fields.Remove(option);
    }
  }
}

// Removes the fields whose id is in `dropped`, which has Connection in it and what that names, and
// the others whose name `drop_other` picks. Returns the ids that are left, as bits.
template <class DropOther>
std::uint32_t Strip(Fields& fields, std::uint32_t dropped, DropOther drop_other) {
  std::vector<std::string_view> lists;
  std::uint32_t seen = 0;
  fields.RemoveIf([&](const Field& field) {
    if (field.id == FieldId::kOther ? drop_other(field.name) : IsIn(dropped, field.id)) {
      if (field.id == FieldId::kConnection && !NamesNothing(field.value)) [[unlikely]] {
        lists.push_back(field.value);
      }
      return true;
    }
    seen |= Bit(field.id);
    return false;
  });
  for (std::string_view list : lists) {
    // What has an id and may be named away is looked for by nobody: `seen` need not be exact.
    RemoveNominated(list, fields);
  }
  return seen;
}

// Adds the value of `element` to the list that the fields of its name make up: one field with all
// of it remains. Origins that look only at the first or at the last field see the whole. `seen`:
// Strip's result.
void AppendToList(Head& head, std::uint32_t seen, const Field& element) {
  if (!IsIn(seen, element.id)) [[likely]] {
    head.fields.Add(element);
    return;
  }
  std::string_view joined;
  for (const Field& field : head.fields) {
    if (field.id == element.id && !field.value.empty()) {
      joined = joined.empty() ? head.arena.Copy(field.value)
                              : head.arena.Extend(head.arena.Extend(joined, ", "), field.value);
    }
  }
  if (!element.value.empty()) {
    joined = joined.empty() ? head.arena.Copy(element.value)
                            : head.arena.Extend(head.arena.Extend(joined, ", "), element.value);
  }
  head.fields.Remove(element.id);
  head.fields.Add(Field{element.name, joined, element.id});
}

void AddIfMissing(Fields& fields, FieldId id, std::string_view name, std::string_view value) {
  if (!value.empty() && !fields.Has(id)) {
    fields.Add(Field{name, value, id});
  }
}

void AddXForwarded(RequestHead& head, std::uint32_t seen, const ServedClient& client) {
  if (!client.trusted) [[likely]] {
    // Strip has made room: there are none.
    for (const Field& field : client.x_forwarded()) {
      head.fields.Add(field);
    }
    if (!head.authority.empty()) {
      head.fields.Add(Field{"X-Forwarded-Host", head.authority, FieldId::kXForwardedHost});
    }
    return;
  }
  if (client.has_ip) {
    AppendToList(head, seen, {"X-Forwarded-For", client.ip, FieldId::kXForwardedFor});
  }
  AddIfMissing(head.fields, FieldId::kXForwardedProto, "X-Forwarded-Proto", client.proto);
  AddIfMissing(head.fields, FieldId::kXForwardedHost, "X-Forwarded-Host", head.authority);
  AddIfMissing(head.fields, FieldId::kXForwardedPort, "X-Forwarded-Port", client.port);
}

// RFC 7239 section 4: IPv6 addresses and ports need quotes, so everything but an IPv4 address gets
// them.
void AddForwarded(RequestHead& head, std::uint32_t seen, const ClientInfo& client) {
  Arena& arena = head.arena;
  bool ipv6 = client.ip.view().find(':') != std::string_view::npos;
  std::string_view text = arena.Copy("for=");
  text = arena.Extend(text, !client.has_ip ? "unknown" : ipv6 ? "\"[" : "");
  if (client.has_ip) {
    text = arena.Extend(text, client.ip);
    text = arena.Extend(text, ipv6 ? "]\"" : "");
  }
  // A quote or a backslash is no part of a host name; the decoder refuses it. Never write one.
  if (!head.authority.empty() && head.authority.find_first_of("\"\\") == std::string_view::npos) {
    text = arena.Extend(text, ";host=\"");
    text = arena.Extend(text, head.authority);
    text = arena.Extend(text, "\"");
  }
  text = arena.Extend(text, ";proto=");
  text = arena.Extend(text, client.proto);
  AppendToList(head, seen, {"Forwarded", text, FieldId::kForwarded});
}

void AddVia(Head& head, std::uint32_t seen) {
  static constexpr Field kOfHttp10 = Field::OfLine(FieldId::kVia, "Via: 1.0 tidegate\r\n", 3);
  static constexpr Field kOfHttp11 = Field::OfLine(FieldId::kVia, "Via: 1.1 tidegate\r\n", 3);
  static constexpr Field kOfHttp2 = Field::OfLine(FieldId::kVia, "Via: 2.0 tidegate\r\n", 3);
  AppendToList(head, seen,
               head.is_http2             ? kOfHttp2
               : head.minor_version == 0 ? kOfHttp10
                                         : kOfHttp11);
}

// True if the edit of a field of this name changes `fields`; framing is not the route's.
bool MayEdit(std::string_view name) {
  FieldId id = FieldIdOf(name);
  return !IsIn(kHopByHop, id) && id != FieldId::kHost;
}

void Edit(Fields& fields, const HeaderEdits& edits) {
  for (const std::string& name : edits.remove) {
    if (MayEdit(name)) {
      fields.Remove(name);
    }
  }
  for (const auto& [name, value] : edits.set) {
    if (MayEdit(name)) {
      fields.Remove(name);
      fields.Add(name, value);
    }
  }
  for (const auto& [name, value] : edits.add) {
    if (MayEdit(name)) {
      fields.Add(name, value);
    }
  }
}

// Host is not one of many: it is where the request goes, and it cannot be missing.
void EditHost(RequestHead& head, const HeaderEdits& edits) {
  for (const auto& [name, value] : edits.set) {
    if (FieldIdOf(name) == FieldId::kHost) {
      head.fields.Remove(FieldId::kHost);
      head.fields.Add(Field{"Host", value, FieldId::kHost});
      head.authority = value;
    }
  }
}

void StripPrefix(RequestHead& head, std::string_view prefix) {
  if (prefix.empty() || !head.target.starts_with(prefix)) {
    return;
  }
  if (prefix.ends_with('/')) {
    // Its slash is the one that the rest begins with.
    prefix.remove_suffix(1);
  }
  std::string_view rest = head.target.substr(prefix.size());
  head.target = rest.starts_with('/') ? rest : head.arena.Extend(head.arena.Copy("/"), rest);
}

}  // namespace

void RewriteRequest(RequestHead& head, const RouteConfig& route, const ForwardedConfig& forwarded,
                    const ServedClient& client, const Field& request_id,
                    const ListenerRules* rules) {
  std::uint32_t dropped = kHopByHop | Bit(FieldId::kXRequestId);
  if (!client.trusted) {
    dropped |= kForwardedFields;
  }
  std::uint32_t seen = Strip(head.fields, dropped, [&client](std::string_view name) {
    Likeness likeness = LikenessOf(name);
    return likeness == Likeness::kImpostor ||
           (likeness == Likeness::kXForwarded && !client.trusted);
  });
  if (!head.upgrade.empty() && (head.minor_version == 0 || !MayUpgradeTo(head.upgrade))) {
    head.upgrade = {};
  }

  if (forwarded.x_forwarded) {
    AddXForwarded(head, seen, client);
  }
  if (forwarded.rfc7239) {
    AddForwarded(head, seen, client);
  }
  if (forwarded.via) {
    AddVia(head, seen);
  }
  head.fields.Add(request_id);
  if (rules != nullptr && rules->drops_client_certificates) [[unlikely]] {
    head.fields.RemoveIf([](const Field& field) { return PassesForClientCertificate(field.name); });
    if (rules->client_headers) {
      // A connection that is older than client_ca was not asked for one.
      static constexpr Field kNone =
          Field::OfLine(FieldId::kOther, "X-Client-Cert-Verify: NONE\r\n", 20);
      std::span<const Field> ours = client.certificate_fields();
      for (const Field& field : ours.empty() ? std::span(&kNone, 1) : ours) {
        head.fields.Add(field);
      }
    }
  }

  if (!route.headers.request.empty()) [[unlikely]] {
    Edit(head.fields, route.headers.request);
    EditHost(head, route.headers.request);
  }
  StripPrefix(head, route.strip_prefix);
}

void RewriteResponse(ResponseHead& head, const RouteConfig& route, const ForwardedConfig& forwarded,
                     std::string_view date, const ListenerRules* rules) {
  std::uint32_t seen = Strip(head.fields, kHopByHop, [](std::string_view) { return false; });
  if (forwarded.via) {
    AddVia(head, seen);
  }
  if (head.IsInterim()) {
    return;
  }
  if (!IsIn(seen, FieldId::kDate) && !date.empty()) {
    head.fields.Add(Field{"Date", head.arena.Copy(date), FieldId::kDate});
  }
  if (rules != nullptr) [[unlikely]] {
    rules->AddStrictTransport(head);
  }
  if (!route.headers.response.empty()) [[unlikely]] {
    Edit(head.fields, route.headers.response);
  }
}

void StripTrailers(Fields& trailers) {
  if (trailers.empty()) [[likely]] {
    return;
  }
  Strip(trailers, kHopByHop | kNeverNominated, [](std::string_view name) {
    return LikenessOf(name) != Likeness::kNothing || PassesForClientCertificate(name);
  });
}

Result<HopDecision> CountHop(RequestHead& head, const RouteConfig& route) {
  bool trace = head.method == Method::kTrace;
  if (!trace && head.method != Method::kOptions) {
    return HopDecision::kForward;
  }
  if (trace && std::ranges::find(route.methods, "TRACE") == route.methods.end()) {
    return Fail(ErrorKind::kMethodNotAllowed, "TRACE is not among the methods of the route");
  }
  Field* counter = nullptr;
  for (Field& field : head.fields) {
    if (field.id == FieldId::kMaxForwards) {
      if (counter != nullptr) {
        return Fail(ErrorKind::kBadRequest, "two Max-Forwards");
      }
      counter = &field;
    }
  }
  if (counter == nullptr) {
    return HopDecision::kForward;
  }
  std::string_view text = counter->value;
  bool digits =
      !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  if (!digits) {
    return Fail(ErrorKind::kBadRequest, "Max-Forwards is no number");
  }
  // More than we can count is the most that we can count (RFC 9110 section 7.6.2).
  std::uint32_t left = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), left).ec != std::errc{}) {
    left = std::numeric_limits<std::uint32_t>::max();
  }
  if (left == 0) {
    if (trace) {
      return Fail(ErrorKind::kMethodNotAllowed, "TRACE is never answered here");
    }
    return HopDecision::kAnswer;
  }
  std::array<char, 12> buffer;
  auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), left - 1).ptr;
  counter->SetValue(
      head.arena.Copy({buffer.data(), static_cast<std::size_t>(end - buffer.data())}));
  return HopDecision::kForward;
}

std::string_view HttpDate::At(std::int64_t seconds) {
  if (seconds != second_) {
    second_ = seconds;
    text_ = FormatHttpDate(seconds);
  }
  return text_;
}

}  // namespace tidegate
