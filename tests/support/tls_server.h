#pragma once

// A server of OpenSSL whose octets the test carries.

#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "tests/support/test_certificates.h"
#include "tests/support/tls_client.h"

namespace tidegate {

struct TlsServerWish {
  const TestCertificate* certificate = nullptr;
  // Sent behind it.
  std::vector<const TestCertificate*> chain = {};
  int oldest = TLS1_2_VERSION;
  int newest = TLS1_3_VERSION;
  // Clients must have a certificate of this one.
  const TestCertificate* clients = nullptr;
  // Chosen whatever is offered; empty: nothing.
  std::string alpn = {};
};

// Connections of one context resume each other's sessions.
inline OwnedSslContext MakeTestServer(const TlsServerWish& wish) {
  StartOpenSsl();
  OwnedSslContext made(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* context = made.get();
  SSL_CTX_set_security_level(context, 0);
  SSL_CTX_set_min_proto_version(context, wish.oldest);
  SSL_CTX_set_max_proto_version(context, wish.newest);
  TG_CHECK(SSL_CTX_use_certificate(context, wish.certificate->certificate.get()) == 1 &&
           SSL_CTX_use_PrivateKey(context, wish.certificate->key.get()) == 1);
  for (const TestCertificate* each : wish.chain) {
    SSL_CTX_add1_chain_cert(context, each->certificate.get());
  }
  if (wish.clients != nullptr) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), wish.clients->certificate.get());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  const unsigned char id[] = "test";
  SSL_CTX_set_session_id_context(context, id, sizeof(id));
  if (!wish.alpn.empty()) {
    static std::string chosen;
    chosen = wish.alpn;
    SSL_CTX_set_alpn_select_cb(
        context,
        [](SSL*, const unsigned char** out, unsigned char* size, const unsigned char*, unsigned,
           void*) {
          *out = reinterpret_cast<const unsigned char*>(chosen.data());
          *size = static_cast<unsigned char>(chosen.size());
          return SSL_TLSEXT_ERR_OK;
        },
        nullptr);
  }
  return made;
}

class TlsServer : public TlsTestPeer {
 public:
  explicit TlsServer(SSL_CTX* context, UniqueFd socket = {})
      : TlsTestPeer(Shared(context), std::move(socket)) {
    SSL_set_accept_state(ssl());
  }
  std::string server_name() const {
    const char* name = SSL_get_servername(ssl(), TLSEXT_NAMETYPE_host_name);
    return name != nullptr ? name : "";
  }

 private:
  static OwnedSslContext Shared(SSL_CTX* context) {
    SSL_CTX_up_ref(context);
    return OwnedSslContext(context);
  }
};

}  // namespace tidegate
