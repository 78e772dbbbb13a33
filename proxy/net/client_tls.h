#pragma once

// TLS towards endpoints: whom to trust, which name to ask for and to find in the certificate, what
// to show when asked, and the sessions that the next handshake may resume. Reads only octets that
// it is given.

#include <cstddef>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/address.h"
#include "common/error.h"
#include "common/result.h"
#include "proxy/net/certificate.h"
#include "proxy/net/openssl.h"

namespace tidegate {

// Certificates that are trusted. Shared by all contexts that trust the same: the system's are some
// hundred.
using SharedRoots = std::shared_ptr<X509_STORE>;
// Appends one line a fault, with `name`; none of them: the certificates of `pem`. What is among
// them is trusted as it is, also an intermediate or a server's own.
SharedRoots ReadRoots(std::string_view pem, const std::string& name,
                      std::vector<std::string>& faults);

struct ClientTlsSettings {
  // Null: no certificate is verified.
  SharedRoots roots;
  // A host name, or an IP address (IPv6 in brackets or without). Empty: the host of the endpoint's
  // address; a unix socket has none, and nothing is asked for then.
  std::string server_name;
  // Null: none is shown.
  std::shared_ptr<const Certificate> certificate;
};

class TlsPeer;

// Of an upstream and its "tls": what has been learnt under one must not serve under another.
class ClientTls : public std::enable_shared_from_this<ClientTls> {
 public:
  // TLS 1.2 and 1.3 with 112 bits at least, ALPN "http/1.1". Error: kConfig, where OpenSSL refuses
  // it.
  static Result<std::shared_ptr<ClientTls>> Make(ClientTlsSettings settings);
  ClientTls(const ClientTls&) = delete;
  ClientTls& operator=(const ClientTls&) = delete;

  SSL_CTX* context() const { return context_.get(); }
  bool verifies() const { return settings_.roots != nullptr; }
  // Null: none is shown.
  const Certificate* certificate() const { return settings_.certificate.get(); }

  // The endpoint at an address, as TLS sees it: the same for all who ask while somebody holds it.
  std::shared_ptr<TlsPeer> PeerOf(const Address& endpoint);

 private:
  explicit ClientTls(ClientTlsSettings settings);
  bool Configure();

  ClientTlsSettings settings_;
  OwnedSslContext context_;
  std::map<std::string, std::weak_ptr<TlsPeer>> peers_;
};

// Whether a session may be resumed at that time: what is resumed is not verified again, so not
// beyond the life of the certificate that was.
bool MayResume(SSL_SESSION* session, std::time_t now);

using OwnedSslSession = std::unique_ptr<SSL_SESSION, OpenSslDeleter<&SSL_SESSION_free>>;

// One endpoint: the name that is verified, and the sessions that it has given. A TlsStream holds it
// as long as it lives.
class TlsPeer {
 public:
  // A session of TLS 1.3 is used once (RFC 8446 appendix C.4): a burst of connections resumes as
  // many.
  static constexpr std::size_t kMostSessions = 4;

  TlsPeer(std::shared_ptr<const ClientTls> tls, std::string host);
  TlsPeer(const TlsPeer&) = delete;
  TlsPeer& operator=(const TlsPeer&) = delete;

  // The peer of a connection that Open made; null for another.
  static TlsPeer* Of(const SSL* ssl);

  // A connection that is to begin its handshake: with the name, what is to be verified, and the
  // latest session that can be resumed. This outlives it.
  OwnedSsl Open();
  // What a handshake that OpenSSL calls done lacks, in words; empty: nothing.
  std::string FaultOf(const SSL* ssl) const;
  // Why a connection failed, out of OpenSSL's queue, which is empty then: kUpstreamTlsVerify with
  // what is wrong with the certificate, kUpstreamTlsAlert with what the peer said,
  // kUpstreamTlsHandshake with OpenSSL's reason, or `otherwise` where it has none.
  Error TakeError(const SSL* ssl, const char* otherwise) const;

  void Keep(OwnedSslSession session);
  // What a handshake has failed with is not offered again.
  void ForgetSessions() { sessions_.clear(); }
  std::size_t session_count() const { return sessions_.size(); }

 private:
  OwnedSslSession TakeSession();
  std::string FaultOfCertificate(const SSL* ssl) const;

  std::shared_ptr<const ClientTls> tls_;
  std::string host_;
  bool is_address_ = false;
  // The latest is the last.
  std::vector<OwnedSslSession> sessions_;
};

}  // namespace tidegate
