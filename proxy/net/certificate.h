#pragma once

// One certificate with its chain and its key: read, and everything that would make it useless later
// said at once. Opens no file, asks nobody for a pass phrase.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/net/ocsp_response.h"
#include "proxy/net/openssl.h"

namespace tidegate {

// What the supervisor has read from files. Wipes its own copy of the key when it goes.
struct CertificateMaterial {
  // Lower case: exact names, or "*.example.org", one label below only (RFC 6125 section 6.4.3).
  // Empty: the DNS names of the certificate's subjectAltName.
  std::vector<std::string> hosts;
  // The certificate's file, for diagnostics.
  std::string name;
  // The certificate, then who issued it, and so on; the root may be left out.
  std::string chain_pem;
  std::string key_pem;
  // The file of an OCSP response, for diagnostics, and what stands in it. Empty: there is none.
  std::string ocsp_name = {};
  std::string ocsp_base64 = {};

  ~CertificateMaterial();
};

// SHA-256 of everything in a CertificateMaterial: the same one makes the same certificate.
using MaterialDigest = std::array<unsigned char, 32>;
MaterialDigest DigestOf(const CertificateMaterial& material);
// The same for texts in their order, each for itself.
MaterialDigest DigestOf(std::span<const std::string_view> texts);

// The first half of the SHA-256 of a certificate alone.
using CertificateFingerprint = std::array<unsigned char, 16>;

struct Certificate {
  std::string name;
  // Whom it is served for, in the form of CanonicalHost. Empty: for nobody by name.
  std::vector<std::string> hosts;
  OwnedX509 leaf;
  // Without the leaf; null if it stands alone.
  OwnedX509Stack chain;
  OwnedKey key;
  CertificateFingerprint fingerprint{};
  // EVP_PKEY_RSA, EVP_PKEY_EC, ...
  int key_type = 0;
  MaterialDigest digest{};
  // What to staple, if it may be sent now.
  std::optional<OcspResponse> ocsp;
};

// What people want to know of one.
struct CertificateSummary {
  std::string file;
  std::vector<std::string> hosts;
  // "ECDSA P-256".
  std::string kind;
  std::string issuer;
  // Seconds since 1970.
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;
  std::optional<OcspResponse> ocsp;
};
CertificateSummary SummaryOf(const Certificate& certificate);

// RFC 4514, escaped to printable ASCII.
std::string NameTextOf(const X509_NAME* name);

// Appends one line a fault, each with the file's name; none of them: the certificate. A chain of
// more than 10 certificates or 64 KiB of PEM is a fault: every full handshake would carry it.
std::optional<Certificate> ReadCertificate(const CertificateMaterial& material,
                                           std::vector<std::string>& faults);

// Seconds since 1970 as of `now`: appends a line for each certificate of the chain that has
// expired, is not valid yet, or expires within 14 days, and for an OCSP response that is not sent.
void WarnOfDates(const Certificate& certificate, std::int64_t now,
                 std::vector<std::string>& warnings);
// The same for one certificate of `file`.
void WarnOfDate(std::string_view file, X509* certificate, std::int64_t now,
                std::vector<std::string>& warnings);

// The certificates of `pem`, in their order. Appends a fault, without a name in front, if there is
// none or one cannot be read.
std::vector<OwnedX509> ReadCertificates(std::string_view pem, std::vector<std::string>& faults);

// What a certificate is for: the DNS names of its subjectAltName, in lower case, and its IP
// addresses.
std::vector<std::string> NamesOf(X509* certificate);

// Lower case, without a dot at the end: how names are compared.
std::string CanonicalHost(std::string_view host);

}  // namespace tidegate
