#include "proxy/net/ocsp_response.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>
#include <openssl/ocsp.h>

namespace tidegate {
namespace {

using OwnedOcsp = std::unique_ptr<OCSP_RESPONSE, OpenSslDeleter<&OCSP_RESPONSE_free>>;
using OwnedBasic = std::unique_ptr<OCSP_BASICRESP, OpenSslDeleter<&OCSP_BASICRESP_free>>;

// Empty if it is no Base64, which only another version of the program could have written.
std::string FromBase64(const std::string& base64) {
  std::string octets(base64.size() / 4 * 3, '\0');
  int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(octets.data()),
                             reinterpret_cast<const unsigned char*>(base64.data()),
                             static_cast<int>(base64.size()));
  std::size_t padding = base64.ends_with("==") ? 2 : base64.ends_with("=") ? 1 : 0;
  octets.resize(size < 0 ? 0 : static_cast<std::size_t>(size) - padding);
  return octets;
}

bool SameOctets(const ASN1_OCTET_STRING* text, const unsigned char* digest, unsigned size) {
  return ASN1_STRING_length(text) == static_cast<int>(size) &&
         std::equal(digest, digest + size, ASN1_STRING_get0_data(text));
}

// RFC 6960 section 4.1.1: a certificate is named by its number, and by digests of its issuer's name
// and key.
bool IsAbout(const OCSP_SINGLERESP* single, const X509* leaf, const X509* issuer) {
  ASN1_OCTET_STRING* name_digest = nullptr;
  ASN1_OCTET_STRING* key_digest = nullptr;
  ASN1_OBJECT* algorithm = nullptr;
  ASN1_INTEGER* number = nullptr;
  OCSP_id_get0_info(&name_digest, &algorithm, &key_digest, &number,
                    const_cast<OCSP_CERTID*>(OCSP_SINGLERESP_get0_id(single)));
  const EVP_MD* method = EVP_get_digestbyobj(algorithm);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (method == nullptr || ASN1_INTEGER_cmp(number, X509_get0_serialNumber(leaf)) != 0 ||
      X509_NAME_digest(X509_get_issuer_name(leaf), method, digest, &size) != 1 ||
      !SameOctets(name_digest, digest, size)) {
    return false;
  }
  return issuer == nullptr || (X509_pubkey_digest(issuer, method, digest, &size) == 1 &&
                               SameOctets(key_digest, digest, size));
}

void Judge(OCSP_SINGLERESP* single, OcspResponse& response) {
  ASN1_GENERALIZEDTIME* from = nullptr;
  ASN1_GENERALIZEDTIME* until = nullptr;
  int status = OCSP_single_get0_status(single, nullptr, nullptr, &from, &until);
  response.from = SecondsOf(from);
  response.until = until != nullptr ? SecondsOf(until) : std::numeric_limits<std::int64_t>::max();
  if (status != V_OCSP_CERTSTATUS_GOOD) {
    response.fault = fmt::format("the OCSP response says that the certificate is {}",
                                 OCSP_cert_status_str(status));
  }
}

}  // namespace

Result<OcspResponse> ReadOcspResponse(std::string name, const std::string& base64, X509* leaf,
                                      X509* issuer) {
  OcspResponse response{.name = std::move(name), .der = FromBase64(base64)};
  const auto* octets = reinterpret_cast<const unsigned char*>(response.der.data());
  const unsigned char* end = octets;
  ERR_clear_error();
  OwnedOcsp whole(d2i_OCSP_RESPONSE(nullptr, &end, static_cast<long>(response.der.size())));
  if (whole == nullptr || end != octets + response.der.size()) {
    ERR_clear_error();
    return Fail(ErrorKind::kConfig, fmt::format("{}: is no OCSP response in DER", response.name));
  }
  int status = OCSP_response_status(whole.get());
  if (status != OCSP_RESPONSE_STATUS_SUCCESSFUL) {
    response.fault =
        fmt::format("the OCSP responder answered \"{}\"", OCSP_response_status_str(status));
    return response;
  }
  OwnedBasic basic(OCSP_response_get1_basic(whole.get()));
  ERR_clear_error();
  for (int i = 0; basic != nullptr && i < OCSP_resp_count(basic.get()); ++i) {
    OCSP_SINGLERESP* single = OCSP_resp_get0(basic.get(), i);
    if (IsAbout(single, leaf, issuer)) {
      Judge(single, response);
      ERR_clear_error();
      return response;
    }
  }
  response.fault = "the OCSP response is about another certificate";
  return response;
}

}  // namespace tidegate
