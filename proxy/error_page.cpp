#include "proxy/error_page.h"

#include <array>
#include <charconv>

#include "proxy/http/h1_encoder.h"

namespace tidegate {
namespace {

constexpr std::string_view kPlainText = "text/plain; charset=utf-8";

// Seconds for Retry-After. Nothing for the other kinds: with 503 the client decides.
struct RetryAfterRow {
  ErrorKind error;
  std::string_view seconds;
};
constexpr std::array kRetryAfter = {
    RetryAfterRow{ErrorKind::kShutdown, "1"},
    RetryAfterRow{ErrorKind::kDrainDeadline, "1"},
    RetryAfterRow{ErrorKind::kOutOfDescriptors, "1"},
    RetryAfterRow{ErrorKind::kConnectionLimit, "1"},
    RetryAfterRow{ErrorKind::kQueueFull, "1"},
    RetryAfterRow{ErrorKind::kQueueTimeout, "1"},
    RetryAfterRow{ErrorKind::kUpstreamUnresolved, "5"},
    RetryAfterRow{ErrorKind::kUpstreamUnavailable, "5"},
};

std::string_view RetryAfterOf(ErrorKind error) {
  for (const RetryAfterRow& row : kRetryAfter) {
    if (row.error == error) {
      return row.seconds;
    }
  }
  return {};
}

// RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
bool HasBody(int status) {
  return status != 204 && status != 205 && status != 304;
}

void Begin(ResponseHead& head, int status, const AnswerContext& context) {
  head.Clear();
  head.status = status;
  head.reason = ReasonPhrase(status);
  head.fields.Add(Field{"Date", head.arena.Copy(context.date), FieldId::kDate});
  if (!context.request_id.empty()) {
    head.fields.Add(
        Field{"X-Request-Id", head.arena.Copy(context.request_id), FieldId::kXRequestId});
  }
}

void SetLength(ResponseHead& head, std::size_t body_octets) {
  // 205 says "Content-Length: 0"; 204 and 304 say nothing.
  head.body = HasBody(head.status) || head.status == 205 ? BodyKind::kLength : BodyKind::kNone;
  head.content_length = body_octets;
}

// "404 Not Found\n".
std::string StatusLine(int status) {
  std::string text = std::to_string(status);
  std::string_view reason = ReasonPhrase(status);
  if (!reason.empty()) {
    text.append(" ").append(reason);
  }
  text += '\n';
  return text;
}

void AppendEncoded(std::string_view text, std::string& out) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  // What RFC 3986 has no place for. A '%' stays: the target is encoded already.
  constexpr std::string_view kUnsafe = "\"<>\\^`{|}";
  for (char c : text) {
    auto octet = static_cast<unsigned char>(c);
    if (octet > 0x20 && octet < 0x7f && kUnsafe.find(c) == std::string_view::npos) {
      out += c;
    } else {
      out += '%';
      out += kDigits[octet >> 4];
      out += kDigits[octet & 15];
    }
  }
}

// True for "https://example.org" and "//example.org": nothing follows the authority.
bool EndsWithAuthority(std::string_view to) {
  std::size_t slashes = to.find("//");
  if (slashes == std::string_view::npos || to.find_first_of("/?#") != slashes) {
    return false;
  }
  return to.find_first_of("/?#", slashes + 2) == std::string_view::npos;
}

}  // namespace

std::string MakeErrorAnswer(ErrorKind error, std::string_view allow, const AnswerContext& context,
                            ResponseHead& head) {
  const ErrorRow& row = RowOf(error);
  Begin(head, row.status == 0 ? 500 : row.status, context);
  std::string_view status = head.arena.Copy("tidegate; error=");
  head.fields.Add("Proxy-Status", head.arena.Extend(status, row.proxy_status));
  head.fields.Add("Content-Type", kPlainText);
  if (head.status == 405) {
    head.fields.Add("Allow", head.arena.Copy(allow));
  }
  if (std::string_view seconds = RetryAfterOf(error); !seconds.empty()) {
    head.fields.Add("Retry-After", seconds);
  }
  std::string body = StatusLine(head.status);
  if (!context.request_id.empty()) {
    body.append("Request ").append(context.request_id).append("\n");
  }
  SetLength(head, body.size());
  return body;
}

std::string MakeRespondAnswer(const RespondAction& action, const AnswerContext& context,
                              ResponseHead& head) {
  Begin(head, action.status, context);
  for (const auto& [name, value] : action.headers) {
    // Only ours are replaced: two Set-Cookie in the file are two Set-Cookie.
    FieldId id = FieldIdOf(name);
    if (id == FieldId::kDate || id == FieldId::kXRequestId) {
      head.fields.Remove(id);
    }
  }
  for (const auto& [name, value] : action.headers) {
    head.fields.Add(head.arena.Copy(name), head.arena.Copy(value));
  }
  std::string body = HasBody(action.status) ? action.body : std::string();
  if (!body.empty() && head.fields.Find("Content-Type") == nullptr) {
    head.fields.Add("Content-Type", kPlainText);
  }
  SetLength(head, body.size());
  return body;
}

std::string RedirectLocation(std::string_view to, std::string_view target) {
  std::string location;
  AppendEncoded(to, location);
  if (EndsWithAuthority(to)) {
    AppendEncoded(target == "*" ? "/" : target, location);
  }
  return location;
}

std::string MakeRedirectAnswer(const RedirectAction& action, std::string_view target,
                               const AnswerContext& context, ResponseHead& head) {
  Begin(head, action.status, context);
  std::string location = RedirectLocation(action.to, target);
  head.fields.Add("Location", head.arena.Copy(location));
  head.fields.Add("Content-Type", kPlainText);
  std::string body = StatusLine(action.status);
  body.append(location).append("\n");
  SetLength(head, body.size());
  return body;
}

std::string MakeOptionsAnswer(std::string_view allow, const AnswerContext& context,
                              ResponseHead& head) {
  Begin(head, 204, context);
  if (!allow.empty()) {
    head.fields.Add("Allow", head.arena.Copy(allow));
  }
  SetLength(head, 0);
  return {};
}

}  // namespace tidegate
