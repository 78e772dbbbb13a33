#include "common/config_words.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include <fmt/format.h>

#include "common/address.h"
#include "common/text.h"

namespace tidegate {
namespace {

// RFC 9110 section 7.6.1 and RFC 9112 section 6: the proxy decides these for each connection and
// message.
constexpr std::array<std::string_view, 9> kOwnHeaders = {
    "Connection", "Content-Length",    "Keep-Alive", "Proxy-Connection", "TE",
    "Trailer",    "Transfer-Encoding", "Upgrade",    "HTTP2-Settings"};

constexpr std::array<std::string_view, 4> kSecretHeaders = {"Authorization", "Cookie",
                                                            "Proxy-Authorization", "Set-Cookie"};

constexpr std::array<std::string_view, 9> kMethods = {
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"};

std::unexpected<Error> Bad(std::string detail) {
  return Fail(ErrorKind::kConfig, std::move(detail));
}

bool Among(std::string_view text, std::span<const std::string_view> names) {
  return std::ranges::any_of(names,
                             [&](std::string_view name) { return EqualsIgnoringCase(text, name); });
}

bool IsNamePart(char c) {
  return IsVisible(c) && c != '"' && c != '\\';
}

bool IsAscii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

Result<std::string> CheckLog(std::string_view text, std::span<const std::string_view> streams) {
  if (std::ranges::find(streams, text) != streams.end()) {
    return std::string(text);
  }
  if (text.find('\0') != std::string_view::npos) {
    return Bad("a path cannot contain NUL");
  }
  if (text.ends_with('/')) {
    return Bad(fmt::format("\"{}\" is a folder; write the path of a file", text));
  }
  if (text.find('/') == std::string_view::npos) {
    // A misspelt "stderr" must not become a file.
    if (auto stream = Nearest(text, streams)) {
      return Bad(fmt::format("\"{}\" is not a path; did you mean \"{}\"?", text, *stream));
    }
    return Bad(fmt::format("\"{}\" is neither {} nor a path; write a path with a '/'", text,
                           QuotedChoice(streams)));
  }
  return std::string(text);
}

}  // namespace

Result<std::string> CheckName(std::string_view text) {
  if (text.empty()) {
    return Bad("a name cannot be empty");
  }
  if (text.size() > kMaxNameLength) {
    return Bad(fmt::format("a name has at most {} characters", kMaxNameLength));
  }
  if (!std::ranges::all_of(text, IsNamePart)) {
    return Bad("a name has ASCII letters, digits and marks, no spaces and no quotes");
  }
  return std::string(text);
}

std::string NameFrom(std::string_view text) {
  std::string name(text.substr(0, kMaxNameLength));
  std::ranges::replace_if(name, [](char c) { return !IsNamePart(c); }, '_');
  return name;
}

Result<std::string> CheckUser(std::string_view text) {
  auto part = [](char c) { return IsAlnum(c) || c == '_' || c == '-' || c == '.'; };
  if (text.empty() || text.size() > 64 || text.front() == '-' || !std::ranges::all_of(text, part)) {
    return Bad(fmt::format("\"{}\" is not the name of a user", text));
  }
  return std::string(text);
}

Result<std::string> CheckHostPattern(std::string_view text) {
  if (text.empty() || text == "*") {
    return Bad("a host cannot be empty or \"*\"; leave \"host\" out to match every host");
  }
  if (!IsAscii(text)) {
    return Bad(fmt::format(
        "\"{}\" is not ASCII; write the name as it goes over the wire, \"xn--...\"", text));
  }
  if (text.find("://") != std::string_view::npos || text.find('/') != std::string_view::npos) {
    return Bad(
        fmt::format("\"{}\" is not a host; write the host alone, paths have their own key", text));
  }
  if (text.starts_with('.')) {
    return Bad(fmt::format("\"{}\" is not a host; write \"*{}\"", text, text));
  }
  if (text.size() > 1 && text.ends_with('.')) {
    return Bad(
        fmt::format("a host has no dot at its end; write \"{}\"", text.substr(0, text.size() - 1)));
  }
  std::string_view name = text.starts_with("*.") ? text.substr(2) : text;
  if (name.find('*') != std::string_view::npos) {
    return Bad(fmt::format(
        "\"{}\" has a '*' that is not a whole first label; write e.g. \"*.example.org\"", text));
  }
  if (auto address = ParseAddress(text);
      address && address->kind == Address::Kind::kTcp && !address->host.empty()) {
    return Bad(
        fmt::format("a host has no port here; write \"{}\"", text.substr(0, text.rfind(':'))));
  }
  if (name.empty() || !IsHost(name) || (text.starts_with("*.") && name.starts_with('['))) {
    return Bad(
        fmt::format("\"{}\" is not a host; write e.g. \"example.org\" or \"*.example.org\"", text));
  }
  return ToLower(text);
}

Result<std::string> CheckServerName(std::string_view text) {
  if (text.empty()) {
    return Bad("a server name cannot be empty; leave it out to take the endpoint's host");
  }
  if (text.find('*') != std::string_view::npos) {
    return Bad(
        fmt::format("\"{}\" is not the name of one server; write e.g. \"app.internal\"", text));
  }
  return CheckHostPattern(text);
}

Result<std::string> CheckPathPrefix(std::string_view text) {
  if (!text.starts_with('/')) {
    return Bad(fmt::format("a path begins with '/'; write \"/{}\"", text));
  }
  if (text.find_first_of("?#") != std::string_view::npos) {
    return Bad("a path has no query and no fragment; write only what stands before '?' and '#'");
  }
  if (!std::ranges::all_of(text, IsVisible)) {
    return Bad(
        "a path is matched as it is sent, without spaces and beyond ASCII; write %xx for such "
        "octets");
  }
  if (text.ends_with('*')) {
    return Bad(fmt::format("every path is a prefix, '*' stands for itself; write \"{}\"",
                           text.substr(0, text.find('*'))));
  }
  return std::string(text);
}

Result<std::string> CheckMethod(std::string_view text) {
  if (!IsToken(text)) {
    return Bad(fmt::format("\"{}\" is not a method", text));
  }
  // Methods are case-sensitive (RFC 9110 section 9.1): "get" would never match.
  if (std::ranges::find(kMethods, text) == kMethods.end()) {
    if (Among(text, kMethods)) {
      std::string upper(text);
      std::ranges::transform(upper, upper.begin(),
                             [](char c) { return IsAlpha(c) ? static_cast<char>(c & ~0x20) : c; });
      return Bad(fmt::format("methods are written in upper case; write \"{}\"", upper));
    }
    if (auto known = Nearest(text, kMethods)) {
      return Bad(fmt::format("\"{}\" is not a known method; did you mean \"{}\"?", text, *known));
    }
  }
  return std::string(text);
}

Result<std::string> CheckHeaderName(std::string_view text) {
  if (!IsToken(text)) {
    return Bad(fmt::format("\"{}\" is not a header name", text));
  }
  return std::string(text);
}

Result<std::string> CheckHeaderRule(std::string_view text, bool host_allowed) {
  if (Among(text, kOwnHeaders)) {
    return Bad(fmt::format(
        "{} belongs to one connection or frames the message; tidegate sets it itself", text));
  }
  if (!host_allowed && EqualsIgnoringCase(text, "Host")) {
    return Bad("Host can only be set, and only on requests; use \"set\" of \"request\"");
  }
  return CheckHeaderName(text);
}

Result<std::string> CheckLoggedHeader(std::string_view text) {
  if (Among(text, kSecretHeaders)) {
    return Bad(fmt::format("{} carries credentials and is never logged; remove it", text));
  }
  return CheckHeaderName(text);
}

Result<std::string> CheckHeaderValue(std::string_view text) {
  if (!IsFieldValue(text)) {
    return Bad("a header value has no control characters and no spaces at its ends");
  }
  return std::string(text);
}

Result<std::string> CheckParameterName(std::string_view text) {
  bool valid = !text.empty() && std::ranges::all_of(text, [](char c) {
    return IsVisible(c) && std::string_view("=&?#;\"").find(c) == std::string_view::npos;
  });
  if (!valid) {
    return Bad(fmt::format(
        "\"{}\" is not the name of a query parameter; write it as it stands in the URL", text));
  }
  return std::string(text);
}

Result<std::string> CheckLocation(std::string_view text) {
  if (!std::ranges::all_of(text, IsVisible)) {
    return Bad("a URL has no spaces and is ASCII; write %xx for other octets");
  }
  if (text.starts_with('/')) {
    return std::string(text);
  }
  std::size_t scheme = text.starts_with("https://") ? 8 : text.starts_with("http://") ? 7 : 0;
  if (scheme == 0) {
    return Bad(fmt::format(
        "\"{}\" is neither a URL nor a path; write e.g. \"https://example.org/\" or \"/new\"",
        text));
  }
  std::string_view authority = text.substr(scheme, text.find_first_of("/?#", scheme) - scheme);
  bool has_port = ParseAddress(authority).has_value() && !authority.starts_with(':');
  if (!has_port && !IsHost(authority)) {
    return Bad(fmt::format("\"{}\" in \"{}\" is not a host", authority, text));
  }
  return std::string(text);
}

Result<std::string> CheckErrorLog(std::string_view text) {
  static constexpr std::array<std::string_view, 1> kStreams = {"stderr"};
  return CheckLog(text, kStreams);
}

Result<std::string> CheckFile(std::string_view text) {
  if (text.empty() || text.contains('\0')) {
    return Fail(ErrorKind::kConfig, "this is no path");
  }
  return std::string(text);
}

Result<std::string> CheckAccessLog(std::string_view text) {
  static constexpr std::array<std::string_view, 2> kStreams = {"stdout", "stderr"};
  return CheckLog(text, kStreams);
}

}  // namespace tidegate
