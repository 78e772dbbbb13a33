#pragma once

// What a configuration means for TLS towards clients: which versions, ciphers and groups, which
// certificate for whom. Reads only octets that it is given.

#include <memory>
#include <span>
#include <string>

#include "common/config.h"
#include "common/result.h"
#include "proxy/net/certificate_store.h"
#include "proxy/net/client_verifier.h"
#include "proxy/net/openssl.h"
#include "proxy/net/ticket_keys.h"

namespace tidegate {

// Of a listener. A TlsStream holds it as long as it lives.
class ServerTls {
 public:
  // `protocols`: for ALPN, best first, each of 1 to 255 octets ("h2", "http/1.1"). A client that
  // offers some, but none of these, is refused (RFC 7301 section 3.2); one that offers none is
  // served. Empty: ALPN is ignored. `tickets` outlives all that comes of it; a key of theirs seals
  // for `ticket_rotation`. `clients` (null: they are not asked for certificates). Error: kConfig,
  // where OpenSSL refuses what a profile asks for.
  static Result<std::shared_ptr<const ServerTls>> Make(
      TlsProfile profile, std::shared_ptr<const CertificateStore> certificates,
      std::span<const std::string> protocols, const TicketKeys& tickets, Duration ticket_rotation,
      std::shared_ptr<const ClientVerifier> clients = nullptr);

  ServerTls(const ServerTls&) = delete;
  ServerTls& operator=(const ServerTls&) = delete;

  SSL_CTX* context() const { return context_.get(); }
  const CertificateStore& certificates() const { return *certificates_; }
  const ClientVerifier* clients() const { return clients_.get(); }

 private:
  ServerTls(std::shared_ptr<const CertificateStore> certificates,
            std::shared_ptr<const ClientVerifier> clients, OwnedSslContext context);
  bool Configure(TlsProfile profile);
  bool ConfigureSessions(TlsProfile profile, const TicketKeys& tickets, Duration ticket_rotation);
  static int OnCertificate(SSL* ssl, void* self);
  static int OnStatusRequest(SSL* ssl, void* self);
  static int OnProtocols(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size,
                         const unsigned char* offered, unsigned offered_size, void* self);

  std::shared_ptr<const CertificateStore> certificates_;
  std::shared_ptr<const ClientVerifier> clients_;
  // As ALPN has them: each with its length in front.
  std::string protocols_;
  OwnedSslContext context_;
};

}  // namespace tidegate
