#pragma once

// Who calls: what the log and the origin are told about the downstream connection and the client
// behind it.

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/address.h"
#include "common/config.h"
#include "proxy/client_certificate.h"
#include "proxy/http/message.h"

namespace tidegate {

// Text in place; what does not fit is cut.
template <std::size_t kCapacity>
class ShortText {
 public:
  ShortText() = default;
  ShortText(std::string_view text)
      : size_(static_cast<std::uint8_t>(text.copy(octets_.data(), kCapacity))) {}
  ShortText(const std::string& text) : ShortText(std::string_view(text)) {}
  ShortText(const char* text) : ShortText(std::string_view(text)) {}
  operator std::string_view() const { return {octets_.data(), size_}; }
  std::string_view view() const { return *this; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  static_assert(kCapacity < 256);
  std::array<char, kCapacity> octets_{};
  std::uint8_t size_ = 0;
};

// Computed once a connection. Must outlive the heads that RewriteRequest was given it for. All of
// it is in place: a string of its own would keep a page of memory for each parked connection.
struct ClientInfo {
  // The other end of the connection: "192.0.2.1:5123", "[2001:db8::1]:5123", "unix"; the longest is
  // an IPv6 address of 39 letters.
  ShortText<47> peer;
  // The same without port and brackets; "unix".
  ShortText<47> ip;
  // False for a unix socket: there is no address to tell anybody.
  bool has_ip = false;
  // The peer is in the listener's trusted_proxies: it is believed what it says about its client.
  bool trusted = false;
  // What the listener speaks, as bits (SpeaksBit). Without TLS and with both h1 and h2c, what the
  // client speaks is not known before its first octets.
  std::uint8_t speaks = SpeaksBit(Protocol::kH1);
  static constexpr std::uint8_t SpeaksBit(Protocol protocol) {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(protocol));
  }
  bool Speaks(Protocol protocol) const { return (speaks & SpeaksBit(protocol)) != 0; }
  // Whose connections are counted together (limits.max_connections_per_ip): the IPv4 address, or
  // the /64 of an IPv6 one, which is what one customer has. 0: not counted, a unix socket or a
  // trusted peer.
  std::uint64_t network = 0;
  // The name of the listener; of those that MakeClientInfo gives, the text lives as long as the
  // process.
  std::string_view listener;
  // Our port, as X-Forwarded-Port says it; empty for a unix socket.
  ShortText<7> port;
  // The scheme that the client used.
  std::string_view proto = "http";
  // "TLSv1.3", once its handshake is over: static text; empty without TLS.
  std::string_view tls;
};

// A client while its connection is served. What every request says about it is at hand, as lines
// that follow each other.
class ServedClient : public ClientInfo {
 public:
  explicit ServedClient(const ClientInfo& client);
  ServedClient(const ServedClient&) = delete;
  ServedClient& operator=(const ServedClient&) = delete;

  const ClientInfo& info() const { return *this; }
  // X-Forwarded-For (none for a unix socket), -Proto and -Port (none for a unix socket) of a peer
  // that is not trusted. Views into this object.
  std::span<const Field> x_forwarded() const { return {fields_.data(), count_}; }
  // What there is to say about its certificate, once its handshake is over; empty where it was not
  // asked for one. Views into this object.
  std::span<const Field> certificate_fields() const {
    return certificate_ ? certificate_->fields() : std::span<const Field>();
  }
  // Null where it was not asked for one.
  const ClientCertificate* certificate() const { return certificate_.get(); }
  void SetCertificate(std::unique_ptr<const ClientCertificate> certificate) {
    certificate_ = std::move(certificate);
  }
  std::unique_ptr<const ClientCertificate> TakeCertificate() { return std::move(certificate_); }

 private:
  void Add(FieldId id, std::string_view name, std::string_view value);

  static constexpr std::size_t kMaxText = 128;
  std::array<char, kMaxText> text_;
  std::size_t size_ = 0;
  std::array<Field, 3> fields_;
  std::size_t count_ = 0;
  std::unique_ptr<const ClientCertificate> certificate_;
};

// `peer` as getpeername() gave it; `port` as PortOf() of what getsockname() gave for the accepting
// socket.
ClientInfo MakeClientInfo(const sockaddr* peer, socklen_t peer_length, std::string_view port,
                          const ListenerConfig& listener);
// "8080"; empty for a unix socket.
std::string PortOf(const sockaddr* local, socklen_t local_length);

// The client of this request: the peer, unless the peer is trusted and sent X-Forwarded-For. Then
// the right-most address of it that is not trusted; the left-most if all are; what stands to the
// right of an element that is no address, because nobody we trust wrote what is left of it.
// `head` as received. The view lives as long as `head` and `client`.
std::string_view ClientIpOf(const RequestHead& head, const ClientInfo& client,
                            std::span<const Network> trusted_proxies);
// The same with the list that `config` has for the client's listener, found only if it is needed.
std::string_view ClientIpOf(const RequestHead& head, const ClientInfo& client,
                            const Config& config);

// Makes 128-bit random numbers in hex: many at once, so that the kernel is asked rarely.
class RequestIds {
 public:
  // X-Request-Id with 32 hex digits, a line in `arena`.
  Field Next(Arena& arena);

 private:
  static constexpr std::size_t kIdBytes = 16;
  static constexpr std::size_t kBatch = 64;
  static constexpr std::string_view kStart = "X-Request-Id: ";
  static constexpr std::string_view kLineEnd = "\r\n";
  using Line = std::array<char, kStart.size() + 2 * kIdBytes + kLineEnd.size()>;
  void MakeBatch();

  std::array<Line, kBatch> lines_;
  std::size_t used_ = kBatch;
};

// The X-Request-Id of a request: that of a trusted peer if it is one field of 1 to 128 letters,
// digits and "-_.:/+=@~", a new one otherwise. In `head`'s arena. `head` as received.
Field ChooseRequestId(RequestHead& head, const ClientInfo& client, RequestIds& ids);

}  // namespace tidegate
