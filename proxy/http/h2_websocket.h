#pragma once

// The proof of RFC 6455 section 4.2.2 that an HTTP/1.1 origin knows WebSocket, which a client of
// HTTP/2 does not ask for (RFC 8441 section 5): so we ask, in its place.

#include <string>
#include <string_view>

namespace tidegate {

// A new Sec-WebSocket-Key: 16 random octets in base64.
std::string MakeWebSocketKey();
// What Sec-WebSocket-Accept must say to it.
std::string WebSocketAcceptOf(std::string_view key);

}  // namespace tidegate
