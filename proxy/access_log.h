#pragma once

// One exchange as one line of JSON (INTERFACE section 3). Written for every request, so by hand and
// not through a JSON library: a line costs about as much as copying it.
//
// What cannot be told is absent: `upstream` of an answer that we made, `time_connect` of a reused
// connection, `reason`, `detail` and `who` when all is well. Octets that could harm a reader are
// escaped: control characters as \u00XX, what is no UTF-8 as \xXX (two characters and two digits).
// Authorization, Cookie, Set-Cookie and Proxy-Authorization are never written.

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/config.h"
#include "common/error.h"
#include "proxy/client_info.h"
#include "proxy/http/message.h"

namespace tidegate {

// What an exchange, or a connection that ended before one, has to say. Views live until Format.
struct AccessRecord {
  using Time = std::chrono::microseconds;
  // Not measured.
  static constexpr Time kNoTime{-1};

  // The start, since the epoch.
  std::chrono::milliseconds timestamp{0};
  std::string_view id;
  // Null: peer, listener are absent.
  const ClientInfo* client = nullptr;
  // ClientIpOf; empty: the peer's.
  std::string_view client_ip;
  // As received, before the rewrite; empty: absent (the head never came).
  std::string_view method;
  std::string_view host;
  // Path and query; redacted here.
  std::string_view target;
  // `proto`: "HTTP/1.1".
  std::string_view protocol;
  // What was or would have been sent to the client; 0: absent, nothing was.
  int status = 0;
  // Octets from and to the client, heads and framing included; of a tunnel too.
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::string_view route;
  std::string_view upstream;
  std::string_view endpoint;
  // 0: absent.
  int upstream_status = 0;
  // 0: no attempt was made; then `reused` is absent too.
  std::uint64_t attempts = 0;
  bool reused = false;
  Time time_total = kNoTime;
  Time time_queue = kNoTime;
  Time time_connect = kNoTime;
  Time time_first_byte = kNoTime;
  // Why it did not end well: gives reason, detail and who. Null: all is well.
  const Error* error = nullptr;
  std::uint64_t generation = 0;
  // Filled by CaptureHeaders; in the order of the configuration, null data: the request has none.
  std::vector<std::string_view> request_headers;
};

class AccessFormatter {
 public:
  explicit AccessFormatter(const AccessLogConfig& config);

  // Keeps the request's fields that are to be logged, as received: before RewriteRequest. Several
  // of a name are joined in the head's arena.
  void CaptureHeaders(RequestHead& head, AccessRecord& record) const;

  // Those that a record has, by name; and a record of another process, whose configuration may log
  // others, with those of them that this one logs. Texts go to `arena`.
  using HeaderTexts = std::vector<std::pair<std::string, std::string>>;
  HeaderTexts NamedHeaders(const AccessRecord& record) const;
  void RestoreHeaders(const HeaderTexts& headers, Arena& arena, AccessRecord& record) const;

  // Appends one line with its newline.
  void Format(const AccessRecord& record, std::string& out);

 private:
  class Writer;
  void WriteHeaders(const AccessRecord& record, Writer& line) const;

  struct LoggedHeader {
    std::string name;
    // `"User-Agent":`
    std::string key;
  };
  std::vector<LoggedHeader> headers_;
  std::vector<std::string> redacted_;
  // RFC 3339 up to the seconds, made once a second.
  std::int64_t second_ = -1;
  std::array<char, 20> second_text_{};
};

// Appends `text` as a JSON string with its quotes, escaped as said above.
void AppendJsonString(std::string_view text, std::string& out);

// `target` with the values of the query parameters of these names (decoded, in any case) as "***".
std::string RedactQuery(std::string_view target, const std::vector<std::string>& names);

}  // namespace tidegate
