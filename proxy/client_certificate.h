#pragma once

// What an upstream is told about the certificate of a client:
//
//   X-Client-Cert-Verify    SUCCESS; NONE: it has none; "FAILED:" and OpenSSL's reason, which only
//   a
//                           listener with "client_auth": "optional" lets through
//   X-Client-Cert-Subject   the subject's name (RFC 4514): "CN=Ann,O=Example"; octets that are not
//                           printable ASCII are escaped as \XX
//   Client-Cert             the certificate (RFC 9440): DER, Base64, between colons
//
// The last two only after SUCCESS: nobody takes a name for true that nobody has vouched for.

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "proxy/http/fields.h"
#include "proxy/net/client_verifier.h"

namespace tidegate {

class ClientCertificate {
 public:
  // The texts of `peer` have been escaped; an octet that is still not printable ASCII becomes '?',
  // so that nothing can end a line.
  explicit ClientCertificate(const PeerCertificate& peer);
  ClientCertificate(const ClientCertificate&) = delete;
  ClientCertificate& operator=(const ClientCertificate&) = delete;

  // Views into this object.
  std::span<const Field> fields() const { return {fields_.data(), count_}; }
  // The client has shown one; and it was found good by those who vouch for clients.
  bool shown() const { return shown_; }
  bool verified() const { return verified_; }
  const Authorities& authorities() const { return *authorities_; }

 private:
  void Add(std::string_view name, std::string_view value);

  static constexpr std::size_t kMost = 3;
  std::array<std::string, kMost> lines_;
  std::array<Field, kMost> fields_;
  std::size_t count_ = 0;
  std::shared_ptr<const Authorities> authorities_;
  bool shown_;
  bool verified_;
};

// True for the names above, Client-Cert-Chain, all that begin with X-Client-Cert, and what an
// origin could mistake for one of them because it reads '_' or any other mark as '-'.
bool PassesForClientCertificate(std::string_view name);

}  // namespace tidegate
