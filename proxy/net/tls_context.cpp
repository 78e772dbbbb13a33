#include "proxy/net/tls_context.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <string_view>
#include <utility>

#include <openssl/tls1.h>

#include "common/check.h"
#include "proxy/net/session_note.h"

namespace tidegate {
namespace {

// AES-128 before AES-256: there is no attack that the difference would matter for, and it is
// faster.
constexpr const char* kCiphersOf13 =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
// Forward secrecy and authenticated encryption only (RFC 9325 section 4.2).
constexpr const char* kCiphersOf12 =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr const char* kGroups = "X25519:P-256:P-384";
// From OpenSSL 3.5 on; before, the name is unknown and the whole list refused.
constexpr const char* kGroupsAfterQuantum = "X25519MLKEM768:X25519:P-256:P-384";
// 112 bits. What it would refuse of a certificate in a handshake, ReadCertificate has refused.
constexpr int kSecurityLevel = 2;
constexpr long kMostClientChainBytes = 32L * 1024;

bool SetGroups(SSL_CTX* context) {
  if (SSL_CTX_set1_groups_list(context, kGroupsAfterQuantum) == 1) {
    return true;
  }
  ERR_clear_error();
  return SSL_CTX_set1_groups_list(context, kGroups) == 1;
}

// Any name is ours to take. Without this OpenSSL does not keep it with the session, and a session
// of TLS 1.2 that is resumed would have none.
int AcknowledgeName(SSL* ssl, int*, void*) {
  bool named = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) != nullptr;
  return named ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

}  // namespace

ServerTls::ServerTls(std::shared_ptr<const CertificateStore> certificates,
                     std::shared_ptr<const ClientVerifier> clients, OwnedSslContext context)
    : certificates_(std::move(certificates)),
      clients_(std::move(clients)),
      context_(std::move(context)) {}

Result<std::shared_ptr<const ServerTls>> ServerTls::Make(
    TlsProfile profile, std::shared_ptr<const CertificateStore> certificates,
    std::span<const std::string> protocols, const TicketKeys& tickets, Duration ticket_rotation,
    std::shared_ptr<const ClientVerifier> clients) {
  StartOpenSsl();
  ERR_clear_error();
  OwnedSslContext context(SSL_CTX_new(TLS_server_method()));
  TG_CHECK(context != nullptr && certificates != nullptr);
  std::shared_ptr<ServerTls> tls(
      new ServerTls(std::move(certificates), std::move(clients), std::move(context)));
  for (const std::string& protocol : protocols) {
    TG_CHECK(!protocol.empty() && protocol.size() <= 255);
    tls->protocols_ += static_cast<char>(protocol.size());
    tls->protocols_ += protocol;
  }
  if (!tls->Configure(profile) || !tls->ConfigureSessions(profile, tickets, ticket_rotation)) {
    return Fail(ErrorKind::kConfig,
                "OpenSSL refuses this TLS profile: " + TakeOpenSslError("it does not say why"));
  }
  return tls;
}

bool ServerTls::Configure(TlsProfile profile) {
  SSL_CTX* context = context_.get();
  int oldest = profile == TlsProfile::kModern ? TLS1_3_VERSION : TLS1_2_VERSION;
  SSL_CTX_set_security_level(context, kSecurityLevel);
  if (SSL_CTX_set_min_proto_version(context, oldest) != 1 ||
      SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, kCiphersOf13) != 1 ||
      SSL_CTX_set_cipher_list(context, kCiphersOf12) != 1 || !SetGroups(context)) {
    return false;
  }
  // ChaCha20 first for a client that has it first: it has no AES in hardware.
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                   SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // No buffers for a connection that is idle. The chain is served as it was given.
  // A write that must be repeated is repeated with the same octets from another place.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Of a client's certificates, before anything of them is verified.
  SSL_CTX_set_max_cert_list(context, kMostClientChainBytes);
  SSL_CTX_set_cert_cb(context, &ServerTls::OnCertificate, this);
  SSL_CTX_set_tlsext_servername_callback(context, &AcknowledgeName);
  SSL_CTX_set_tlsext_status_cb(context, &ServerTls::OnStatusRequest);
  SSL_CTX_set_tlsext_status_arg(context, this);
  if (!protocols_.empty()) {
    SSL_CTX_set_alpn_select_cb(context, &ServerTls::OnProtocols, this);
  }
  return true;
}

bool ServerTls::ConfigureSessions(TlsProfile profile, const TicketKeys& tickets,
                                  Duration ticket_rotation) {
  SSL_CTX* context = context_.get();
  // Sessions are resumed by tickets: workers would not share a cache. No early data: what is
  // replayed there is a request.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_early_data(context, 0);
  SSL_CTX_set_num_tickets(context, 1);
  // As long as a key lives after its first ticket, and what RFC 8446 section 4.6.1 allows at most.
  Duration lifetime = std::min<Duration>(2 * ticket_rotation, std::chrono::hours(7 * 24));
  SSL_CTX_set_timeout(context, std::chrono::duration_cast<std::chrono::seconds>(lifetime).count());
  tickets.Use(context);
  JudgeSessions(context, *certificates_);
  // All contexts of all workers open each other's tickets, but take only the sessions of their
  // like. A session of a listener that asks for no certificate is not one of a listener that does.
  if (clients_ != nullptr) {
    return clients_->Configure(context);
  }
  std::string_view likes =
      profile == TlsProfile::kModern ? "tidegate 1 modern" : "tidegate 1 intermediate";
  return SSL_CTX_set_session_id_context(context,
                                        reinterpret_cast<const unsigned char*>(likes.data()),
                                        static_cast<unsigned>(likes.size())) == 1;
}

// The certificates stay the store's, which the connection's ServerTls holds; OpenSSL takes the one
// whose key the client can verify. 0 ends the handshake.
int ServerTls::OnCertificate(SSL* ssl, void* self) {
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  const auto& store = *static_cast<const ServerTls*>(self)->certificates_;
  for (const Certificate* each : store.Find(name != nullptr ? name : "")) {
    if (SSL_use_cert_and_key(ssl, each->leaf.get(), each->key.get(), each->chain.get(), 1) != 1) {
      return 0;
    }
  }
  return 1;
}

// The client wants to know whether the certificate is still good, and the one that it gets has been
// chosen. OpenSSL frees the copy.
int ServerTls::OnStatusRequest(SSL* ssl, void* self) {
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  const auto& store = *static_cast<const ServerTls*>(self)->certificates_;
  for (const Certificate* each : store.Find(name != nullptr ? name : "")) {
    if (each->leaf.get() != SSL_get_certificate(ssl) || !each->ocsp ||
        !each->ocsp->MayBeSent(std::time(nullptr))) {
      continue;
    }
    const std::string& der = each->ocsp->der;
    void* copy = OPENSSL_memdup(der.data(), der.size());
    if (copy != nullptr && SSL_set_tlsext_status_ocsp_resp(ssl, copy, der.size()) == 1) {
      return SSL_TLSEXT_ERR_OK;
    }
    OPENSSL_free(copy);
  }
  return SSL_TLSEXT_ERR_NOACK;
}

int ServerTls::OnProtocols(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                           const unsigned char* offered, unsigned offered_size, void* self) {
  const std::string& ours = static_cast<const ServerTls*>(self)->protocols_;
  unsigned char* found = nullptr;
  int result = SSL_select_next_proto(&found, chosen_size,
                                     reinterpret_cast<const unsigned char*>(ours.data()),
                                     static_cast<unsigned>(ours.size()), offered, offered_size);
  *chosen = found;
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace tidegate
