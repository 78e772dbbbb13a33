#pragma once

// HTTP/1 out: heads, chunk frames and trailers to octets. Every head carries our own version,
// HTTP/1.1 (RFC 9110 section 2.5). Nothing is checked here but what would split a message: heads
// come from the decoder or from the validated configuration.

#include <cstdint>
#include <string>

#include "proxy/http/message.h"

namespace tidegate {

// The `Connection` field of what is written.
enum class ConnectionOption : std::uint8_t {
  kNone,       // keep-alive is the default of 1.1
  kClose,      // "close"
  kKeepAlive,  // "keep-alive", for an HTTP/1.0 client that asked for it
  kUpgrade,    // "upgrade", with Upgrade: the head's `upgrade`
};

// Appends the head with its empty line. Hop-by-hop fields and framing fields (Content-Length,
// Transfer-Encoding, Connection, Upgrade, ...) among `head.fields` are never copied: framing is
// written from `head.body`, Connection from `option`. Host comes first. A kChunked response to an
// HTTP/1.0 client is written by passing body kUntilClose in the head. kLength is written also for
// 0. For responses to HEAD and for 304, `head.body` says what would have come; the caller sends no
// body.
void EncodeRequestHead(const RequestHead& head, ConnectionOption option, std::string& out);
void EncodeResponseHead(const ResponseHead& head, ConnectionOption option, std::string& out);

// Appends "1f4\r\n".
void EncodeChunkSize(std::uint64_t size, std::string& out);
// Appends the last chunk, the trailers (framing and hop-by-hop fields left out, RFC 9110
// section 6.5.1) and the final empty line.
void EncodeLastChunk(const Fields& trailers, std::string& out);

// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7); `seconds` since the epoch.
std::string FormatHttpDate(std::int64_t seconds);

// RFC 9110 section 15; "" for codes without a registered phrase.
std::string_view ReasonPhrase(int status);

}  // namespace tidegate
