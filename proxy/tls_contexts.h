#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/result.h"
#include "proxy/net/tls_context.h"

namespace tidegate {

// What a configuration says about TLS towards clients, ready to be used. Listeners that ask for the
// same share a context.
class TlsContexts {
 public:
  // Error: kConfig, every fault of every certificate, one a line. What has not changed since
  // `previous` (may be null) is kept: certificates one by one, contexts while all certificates are
  // the same. What clients may resume does not depend on it. `tickets` outlives all that comes of
  // it.
  static Result<TlsContexts> Make(const Config& config, const TlsContexts* previous,
                                  const TicketKeys& tickets);

  TlsContexts() = default;
  // Null: the listener has no TLS.
  std::shared_ptr<const ServerTls> Of(const ListenerConfig& listener) const;
  // What is wrong with the certificates today, one text each. `now` is Unix time in seconds.
  std::vector<std::string> Warnings(std::int64_t now) const;
  // An array of the certificates, in the order of the configuration: file, hosts, kind, issuer,
  // not_before, not_after (Unix times), and ocsp {file, sent, fault, until} if there is one.
  std::string CertificatesJson(std::int64_t now) const;

 private:
  // What a context is made of besides the certificates.
  struct Entry {
    TlsProfile profile;
    std::string client_ca_pem;
    ClientAuth client_auth;
    // For ALPN.
    std::vector<std::string> protocols;
    std::shared_ptr<const ServerTls> context;
    bool Serves(const ListenerConfig& listener) const;
  };
  const Entry* Find(const ListenerConfig& listener) const;
  Result<std::shared_ptr<const ServerTls>> MakeContext(const ListenerConfig& listener,
                                                       const TicketKeys& tickets) const;

  std::shared_ptr<const CertificateStore> certificates_;
  Duration ticket_rotation_{};
  std::vector<Entry> entries_;
};

// Wipes and forgets what stood in files: the contexts, those towards upstreams too, have it in
// another form. But for client_ca, by which the contexts of listeners are told apart.
void ForgetFileContents(Config& config);

}  // namespace tidegate
