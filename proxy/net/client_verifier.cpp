#include "proxy/net/client_verifier.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <openssl/sha.h>
#include <openssl/x509_vfy.h>

#include "proxy/net/certificate.h"

namespace tidegate {
namespace {

// Intermediates between a client and who vouches for it. More is work that a stranger gives us.
constexpr int kMostIntermediates = 8;

std::string DerOf(X509* certificate) {
  unsigned char* der = nullptr;
  int size = i2d_X509(certificate, &der);
  if (size <= 0) {
    return {};
  }
  std::string copy(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return copy;
}

Authorities::value_type DigestOf(const X509* certificate) {
  Authorities::value_type digest{};
  static_assert(digest.size() == SHA256_DIGEST_LENGTH);
  X509_digest(certificate, EVP_sha256(), digest.data(), nullptr);
  return digest;
}

std::shared_ptr<const Authorities> DigestsOf(const std::vector<OwnedX509>& certificates) {
  auto digests = std::make_shared<Authorities>();
  for (const OwnedX509& certificate : certificates) {
    digests->push_back(DigestOf(certificate.get()));
  }
  std::ranges::sort(*digests);
  digests->erase(std::ranges::unique(*digests).begin(), digests->end());
  return digests;
}

}  // namespace

Result<std::shared_ptr<const ClientVerifier>> ClientVerifier::Make(std::string name,
                                                                   const std::string& ca_pem,
                                                                   bool required) {
  StartOpenSsl();
  std::vector<std::string> faults;
  std::shared_ptr<ClientVerifier> verifier(new ClientVerifier);
  verifier->authorities_ = ReadCertificates(ca_pem, faults);
  if (!faults.empty()) {
    return Fail(ErrorKind::kConfig, fmt::format("{}: {}", name, faults.front()));
  }
  verifier->name_ = std::move(name);
  verifier->digests_ = DigestsOf(verifier->authorities_);
  verifier->required_ = required;
  const std::string asked = (required ? "required " : "optional ") + ca_pem;
  static_assert(kContextBytes == SHA256_DIGEST_LENGTH && kContextBytes <= SSL_MAX_SID_CTX_LENGTH);
  SHA256(reinterpret_cast<const unsigned char*>(asked.data()), asked.size(),
         verifier->session_context_);
  return verifier;
}

std::shared_ptr<const Authorities> ClientVerifier::AuthoritiesOf(const std::string& ca_pem) {
  std::vector<std::string> faults;
  return DigestsOf(ReadCertificates(ca_pem, faults));
}

bool ClientVerifier::Configure(SSL_CTX* context) const {
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const OwnedX509& authority : authorities_) {
    // Its name is what helps a client, or the person before it, to choose.
    if (X509_STORE_add_cert(store, authority.get()) != 1 ||
        SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      return false;
    }
  }
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (required_ ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  SSL_CTX_set_verify_depth(context, kMostIntermediates);
  SSL_CTX_set_cert_verify_callback(context, &ClientVerifier::OnVerify,
                                   const_cast<ClientVerifier*>(this));
  return SSL_CTX_set_session_id_context(context, session_context_, kContextBytes) == 1;
}

// The result is kept with the connection, and with the session; only whether the handshake goes on
// is decided here.
int ClientVerifier::OnVerify(X509_STORE_CTX* chain, void* self) {
  bool good = X509_verify_cert(chain) == 1;
  if (!good && X509_STORE_CTX_get_error(chain) == X509_V_OK) {
    X509_STORE_CTX_set_error(chain, X509_V_ERR_UNSPECIFIED);
  }
  if (good || static_cast<const ClientVerifier*>(self)->required_) {
    return good ? 1 : 0;
  }
  ERR_clear_error();
  return 1;
}

long ClientVerifier::ResultOf(const SSL* ssl) const {
  long result = SSL_get_verify_result(ssl);
  X509* certificate = SSL_get0_peer_certificate(ssl);
  if (result == X509_V_OK && certificate != nullptr &&
      X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0) {
    return X509_V_ERR_CERT_HAS_EXPIRED;
  }
  return result;
}

PeerCertificate ClientVerifier::PeerOf(const SSL* ssl) const {
  PeerCertificate peer{.authorities = digests_};
  X509* certificate = SSL_get0_peer_certificate(ssl);
  long result = ResultOf(ssl);
  if (certificate == nullptr) {
    peer.verify = "NONE";
  } else if (result != X509_V_OK) {
    peer.verify = fmt::format("FAILED:{}", X509_verify_cert_error_string(result));
  } else {
    peer = {.verify = "SUCCESS",
            .subject = NameTextOf(X509_get_subject_name(certificate)),
            .der = DerOf(certificate),
            .authorities = digests_};
    const STACK_OF(X509)* chain = SSL_get0_verified_chain(ssl);
    if (const int length = sk_X509_num(chain); length > 0) {
      peer.authorities =
          std::make_shared<Authorities>(1, DigestOf(sk_X509_value(chain, length - 1)));
    }
  }
  ERR_clear_error();
  return peer;
}

std::string ClientVerifier::RefusalOf(const SSL* ssl) const {
  if (!required_) {
    return {};
  }
  // OpenSSL has seen to both, unless the session was resumed.
  if (SSL_get0_peer_certificate(ssl) == nullptr) {
    return "the client has no certificate";
  }
  long result = ResultOf(ssl);
  return result == X509_V_OK
             ? std::string()
             : fmt::format("the client's certificate: {}", X509_verify_cert_error_string(result));
}

void ClientVerifier::WarnOfDates(std::int64_t now, std::vector<std::string>& warnings) const {
  for (const OwnedX509& authority : authorities_) {
    WarnOfDate(name_, authority.get(), now, warnings);
  }
}

}  // namespace tidegate
