#pragma once

// The heads of a request and of a response, as an exchange sees them: meaning, not syntax. The same
// for every version of HTTP. How the body was or will be framed on the wire is the connection's
// business; a head only says what is known.

#include <cstdint>
#include <string_view>

#include "proxy/http/fields.h"

namespace tidegate {

enum class Method : std::uint8_t {
  kGet,
  kHead,
  kPost,
  kPut,
  kDelete,
  kConnect,
  kOptions,
  kTrace,
  kPatch,
  kOther
};

// Case-sensitive (RFC 9110 section 9.1); kOther for the rest.
Method MethodOf(std::string_view name);
// RFC 9110 section 9.2.2. kOther is not idempotent: nobody told us that it is.
bool IsIdempotent(Method method);

// How long a body is.
enum class BodyKind : std::uint8_t {
  kNone,        // there is none
  kLength,      // content_length octets, maybe 0
  kChunked,     // unknown; its end is marked, trailers may follow
  kUntilClose,  // responses only: it ends with the connection (RFC 9112 section 6.3)
};

struct Head {
  Fields fields;
  // Filled when the end of a chunked body has been read.
  Fields trailers;
  // Owns the octets of every view here. Rules that add fields copy their text into it or use static
  // text.
  Arena arena;
  BodyKind body = BodyKind::kNone;
  std::uint64_t content_length = 0;  // for kLength
  // HTTP/1: 0 or 1. What the peer spoke; what we write always carries our own version. HTTP/2 has
  // the rules of 1.1 where those are not about framing: 1 there, too.
  int minor_version = 1;
  // The peer spoke HTTP/2.
  bool is_http2 = false;
  // The sender is willing to keep the connection (RFC 9112 section 9.3).
  bool keep_alive = true;
  // The protocols of Upgrade, if Connection names it; empty if the sender asks for none (RFC 9110
  // section 7.8).
  std::string_view upgrade;

  void ClearHead();
};

struct RequestHead : Head {
  Method method = Method::kOther;
  std::string_view method_name;
  // Path and query, as received; "*" for OPTIONS. Of an absolute-form target, the part after the
  // authority ("/" if none).
  std::string_view target;
  // Host, or the authority of an absolute-form target, which wins (RFC 9112 section 3.2.2): as
  // received, with the port. Empty for an HTTP/1.0 request without Host. The Host field is kept
  // equal to it.
  std::string_view authority;
  // `Expect: 100-continue` from an HTTP/1.1 client.
  bool expects_continue = false;

  // The target up to '?'.
  std::string_view path() const;
  // After '?'; empty if there is none.
  std::string_view query() const;
  // The authority without its port, brackets kept: "[::1]". Not lower-cased.
  std::string_view host() const;

  void Clear();
};

struct ResponseHead : Head {
  int status = 0;  // 100-999
  std::string_view reason;

  // 1xx but 101, which is final for HTTP: a tunnel follows.
  bool IsInterim() const { return status < 200 && status != 101; }

  void Clear();
};

}  // namespace tidegate
