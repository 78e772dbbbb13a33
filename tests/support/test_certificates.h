#pragma once

// Certificates made here and now: of any age, key and fault.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "common/check.h"
#include "proxy/net/certificate.h"
#include "proxy/net/openssl.h"

namespace tidegate {

struct TestCertificate {
  OwnedX509 certificate;
  OwnedKey key;
};

struct TestCertificateWish {
  // DNS names, or "IP:..." addresses, of the subjectAltName; the first is the common name, too.
  std::vector<std::string> hosts = {"example.org"};
  // "RSA-2048", "P-256", "Ed25519" or another size or curve.
  std::string key = "P-256";
  // Seconds from now.
  std::int64_t begins_in = -3600;
  std::int64_t ends_in = std::int64_t{90} * 86400;
  const EVP_MD* digest = EVP_sha256();
  // Null: it signs itself.
  const TestCertificate* issuer = nullptr;
  bool is_authority = false;
  bool with_alternative_names = true;
};

// RSA keys take long to find: one of each kind a process, unless `fresh`.
inline OwnedKey MakeTestKey(const std::string& kind, bool fresh = false) {
  static std::map<std::string, OwnedKey> made;
  OwnedKey& known = made[kind];
  if (known == nullptr || fresh) {
    if (kind.starts_with("RSA-")) {
      known.reset(EVP_RSA_gen(static_cast<unsigned>(std::stoi(kind.substr(4)))));
    } else if (kind == "Ed25519") {
      known.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
    } else {
      known.reset(EVP_EC_gen(kind.c_str()));
    }
    TG_CHECK(known != nullptr);
  }
  EVP_PKEY_up_ref(known.get());
  return OwnedKey(known.get());
}

inline void AddTestExtension(X509* certificate, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  TG_CHECK(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

inline TestCertificate MakeTestCertificate(const TestCertificateWish& wish,
                                           bool fresh_key = false) {
  static long serial = 0;
  TestCertificate made{OwnedX509(X509_new()), MakeTestKey(wish.key, fresh_key)};
  X509* certificate = made.certificate.get();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), wish.begins_in);
  X509_gmtime_adj(X509_getm_notAfter(certificate), wish.ends_in);
  X509_NAME* name = X509_get_subject_name(certificate);
  const auto* text = reinterpret_cast<const unsigned char*>(wish.hosts.front().c_str());
  X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, text, -1, -1, 0);
  const TestCertificate& issuer = wish.issuer != nullptr ? *wish.issuer : made;
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer.certificate.get()));
  X509_set_pubkey(certificate, made.key.get());
  if (wish.is_authority) {
    AddTestExtension(certificate, NID_basic_constraints, "critical,CA:TRUE");
  }
  if (wish.with_alternative_names) {
    std::string names;
    for (const std::string& host : wish.hosts) {
      names += (names.empty() ? "" : ",") + (host.starts_with("IP:") ? host : "DNS:" + host);
    }
    AddTestExtension(certificate, NID_subject_alt_name, names);
  }
  bool own_digest = EVP_PKEY_get_base_id(issuer.key.get()) == EVP_PKEY_ED25519;
  int size = X509_sign(certificate, issuer.key.get(), own_digest ? nullptr : wish.digest);
  TG_CHECK(size > 0);
  return made;
}

inline std::string TestTextOf(BIO* bio) {
  char* text = nullptr;
  long size = BIO_get_mem_data(bio, &text);
  return {text, static_cast<std::size_t>(size)};
}

inline std::string PemOf(const TestCertificate& made) {
  OwnedBio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), made.certificate.get());
  return TestTextOf(bio.get());
}

// With a pass phrase: encrypted by it.
inline std::string KeyPemOf(const TestCertificate& made, std::string pass_phrase = {}) {
  OwnedBio bio(BIO_new(BIO_s_mem()));
  const EVP_CIPHER* cipher = pass_phrase.empty() ? nullptr : EVP_aes_256_cbc();
  PEM_write_bio_PKCS8PrivateKey(bio.get(), made.key.get(), cipher,
                                pass_phrase.empty() ? nullptr : pass_phrase.data(),
                                static_cast<int>(pass_phrase.size()), nullptr, nullptr);
  return TestTextOf(bio.get());
}

// As the supervisor would hand it over, under the name "<first host>.pem" unless given.
inline CertificateMaterial TestMaterial(const TestCertificateWish& wish,
                                        std::vector<std::string> hosts = {},
                                        std::string name = {}) {
  TestCertificate made = MakeTestCertificate(wish);
  return {.hosts = std::move(hosts),
          .name = name.empty() ? wish.hosts.front() + ".pem" : std::move(name),
          .chain_pem = PemOf(made),
          .key_pem = KeyPemOf(made)};
}

}  // namespace tidegate
