#pragma once

// Certificates of clients: who vouches for them, and what a handshake has found out.
//
//   1. Every certificate of the file is trusted by itself, a root or not: what an operator names is
//   what is believed. Purpose (clientAuth), dates, constraints and strength are OpenSSL's to judge.
//   2. A session is resumed only where its certificate was asked for in the same way: by the same
//   file with the same contents, required or not. So neither a reload nor a listener next door is a
//   way round it.
//   3. A certificate that has expired since is not good because a session is resumed.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/result.h"
#include "proxy/net/openssl.h"

namespace tidegate {

// Which certificates vouch for clients: the SHA-256 of each, in ascending order.
using Authorities = std::vector<std::array<std::uint8_t, 32>>;

// Of the client, after a handshake.
struct PeerCertificate {
  // "SUCCESS", "NONE", or "FAILED:" with OpenSSL's reason.
  std::string verify;
  // RFC 4514, escaped to printable ASCII; and DER. Both empty without SUCCESS.
  std::string subject;
  std::string der;
  // By which it was judged, or would have been. Of one that is good the one that vouches for it,
  // unless the session was resumed: that does not tell. Not null.
  std::shared_ptr<const Authorities> authorities;
};

class ClientVerifier {
 public:
  // `name`: of the file, for diagnostics. Not `required`: who has no certificate, or one that
  // nobody vouches for, is served too, and PeerCertificate says so. Error: kConfig, what of
  // `ca_pem` cannot be read.
  static Result<std::shared_ptr<const ClientVerifier>> Make(std::string name,
                                                            const std::string& ca_pem,
                                                            bool required);
  ClientVerifier(const ClientVerifier&) = delete;
  ClientVerifier& operator=(const ClientVerifier&) = delete;

  // What of `ca_pem` cannot be read is left out.
  static std::shared_ptr<const Authorities> AuthoritiesOf(const std::string& ca_pem);

  // Has `context` ask clients for certificates. This must live as long as the context. False where
  // OpenSSL has no memory.
  bool Configure(SSL_CTX* context) const;

  // Of a handshake that is done in such a context.
  PeerCertificate PeerOf(const SSL* ssl) const;
  // Why a handshake that OpenSSL has ended well is not good; empty: it is (3).
  std::string RefusalOf(const SSL* ssl) const;
  // One line for each certificate that vouches for nobody any more, or not yet. `now`: seconds
  // since 1970.
  void WarnOfDates(std::int64_t now, std::vector<std::string>& warnings) const;

 private:
  static constexpr std::size_t kContextBytes = 32;

  ClientVerifier() = default;
  static int OnVerify(X509_STORE_CTX* chain, void* self);
  long ResultOf(const SSL* ssl) const;

  std::string name_;
  std::vector<OwnedX509> authorities_;
  std::shared_ptr<const Authorities> digests_;
  // Of sessions (2).
  unsigned char session_context_[kContextBytes] = {};
  bool required_ = true;
};

}  // namespace tidegate
