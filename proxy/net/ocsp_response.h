#pragma once

// An OCSP response from a file, to be sent along with a certificate (stapling, RFC 6066 section 8):
// what of it can be judged without the network. Its signature is the client's to check.

#include <cstdint>
#include <string>

#include "common/result.h"
#include "proxy/net/openssl.h"

namespace tidegate {

struct OcspResponse {
  // Of the file, for diagnostics.
  std::string name;
  std::string der;
  // Why it is never sent: it is about another certificate, says that this one is revoked, ...;
  // empty: it may be.
  std::string fault;
  // Seconds since 1970: from when on, and until when it may be sent (RFC 6960 section 4.2.2.1).
  // Without an end: the greatest number.
  std::int64_t from = 0;
  std::int64_t until = 0;

  bool MayBeSent(std::int64_t now) const { return fault.empty() && from <= now && now < until; }
};

// `issuer` of `leaf` may be null; then only its name is compared. Error: kConfig, if `base64` is no
// OCSP response at all.
Result<OcspResponse> ReadOcspResponse(std::string name, const std::string& base64, X509* leaf,
                                      X509* issuer);

}  // namespace tidegate
