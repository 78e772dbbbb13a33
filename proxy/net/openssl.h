#pragma once

// OpenSSL's objects as values that own, and its error queue as text. The queue belongs to the
// thread, not to the object that failed: who calls OpenSSL clears it before, and leaves it empty.

#include <time.h>

#include <cstdint>
#include <memory>
#include <string>

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

namespace tidegate {

template <auto Free>
struct OpenSslDeleter {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};

inline void FreeCertificates(STACK_OF(X509) * certificates) {
  sk_X509_pop_free(certificates, &X509_free);
}

using OwnedDigestContext = std::unique_ptr<EVP_MD_CTX, OpenSslDeleter<&EVP_MD_CTX_free>>;
using OwnedBio = std::unique_ptr<BIO, OpenSslDeleter<&BIO_free>>;
using OwnedKey = std::unique_ptr<EVP_PKEY, OpenSslDeleter<&EVP_PKEY_free>>;
using OwnedX509 = std::unique_ptr<X509, OpenSslDeleter<&X509_free>>;
using OwnedX509Stack = std::unique_ptr<STACK_OF(X509), OpenSslDeleter<&FreeCertificates>>;
using OwnedSsl = std::unique_ptr<SSL, OpenSslDeleter<&SSL_free>>;
using OwnedSslContext = std::unique_ptr<SSL_CTX, OpenSslDeleter<&SSL_CTX_free>>;

// Before anything else is asked of OpenSSL: what it does must not depend on a file of the system
// (openssl.cnf), which a worker may not read.
inline void StartOpenSsl() {
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
}

// The first entry of the queue in OpenSSL's words ("no shared cipher"), or `otherwise` where it has
// none; the queue is empty then.
inline std::string TakeOpenSslError(const char* otherwise) {
  const char* reason = ERR_reason_error_string(ERR_peek_error());
  std::string text = reason != nullptr ? reason : otherwise;
  ERR_clear_error();
  return text;
}

// Seconds since 1970. Not a date: 0, long ago.
inline std::int64_t SecondsOf(const ASN1_TIME* time) {
  tm date{};
  return time != nullptr && ASN1_TIME_to_tm(time, &date) == 1 ? std::int64_t{timegm(&date)} : 0;
}

}  // namespace tidegate
