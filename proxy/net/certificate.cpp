#include "proxy/net/certificate.h"

#include <arpa/inet.h>

#include <algorithm>
#include <ctime>
#include <iterator>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "common/check.h"
#include "common/text.h"

namespace tidegate {
namespace {

constexpr int kLeastRsaBits = 2048;
// The longest public chains have four or five. RFC 8446 section 4.4.2 would allow 16 MiB.
constexpr std::size_t kLongestChain = 10;
constexpr std::size_t kLargestChain = 64 * 1024;
constexpr std::int64_t kSecondsOfDay = 86400;
constexpr std::int64_t kSoon = 14 * kSecondsOfDay;

using OwnedNames = std::unique_ptr<GENERAL_NAMES, OpenSslDeleter<&GENERAL_NAMES_free>>;

OwnedBio BioOf(std::string_view text) {
  return OwnedBio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Called for a key that is encrypted. OpenSSL's own would ask at the terminal.
int NoPassPhrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// Of a certificate that is shown: every full handshake carries all of it.
std::vector<OwnedX509> ReadChain(std::string_view pem, std::vector<std::string>& faults) {
  if (pem.size() > kLargestChain) {
    faults.push_back(
        fmt::format("its chain has {} bytes, {} are the most: is it a bundle of roots?", pem.size(),
                    kLargestChain));
    return {};
  }
  std::vector<OwnedX509> chain = ReadCertificates(pem, faults);
  if (chain.size() > kLongestChain) {
    faults.push_back(
        fmt::format("it has {} certificates, {} are the most: is it a bundle of roots?",
                    chain.size(), kLongestChain));
  }
  return chain;
}

OwnedKey ReadKey(std::string_view pem, std::vector<std::string>& faults) {
  OwnedBio bio = BioOf(pem);
  bool asked = false;
  ERR_clear_error();
  OwnedKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, &NoPassPhrase, &asked));
  std::string reason = TakeOpenSslError("not PEM");
  if (asked) {
    key.reset();
    faults.emplace_back("its key is encrypted; give it without a pass phrase");
  } else if (key == nullptr) {
    faults.push_back(fmt::format("its key cannot be read: {}", reason));
  }
  return key;
}

std::string TextOf(const ASN1_STRING* text) {
  const auto* data = reinterpret_cast<const char*>(ASN1_STRING_get0_data(text));
  return {data, static_cast<std::size_t>(ASN1_STRING_length(text))};
}

// Letters, digits, '-', '_' and '.', with "*." in front or without: what a client can ask for. The
// rest of what may stand in a subjectAltName (a NUL, part of a label as a wildcard) matches
// nothing.
bool IsHost(std::string_view host) {
  if (host.starts_with("*.")) {
    host.remove_prefix(2);
  }
  return !host.empty() && std::ranges::all_of(host, [](char c) {
    return IsAlnum(c) || c == '-' || c == '_' || c == '.';
  });
}

std::vector<std::string> HostsOf(X509* leaf) {
  std::vector<std::string> hosts;
  OwnedNames names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(leaf, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int type = 0;
    void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type);
    if (type != GEN_DNS) {
      continue;
    }
    std::string host = CanonicalHost(TextOf(static_cast<ASN1_STRING*>(value)));
    if (IsHost(host) && std::ranges::find(hosts, host) == hosts.end()) {
      hosts.push_back(std::move(host));
    }
  }
  ERR_clear_error();
  return hosts;
}

// A wildcard of the configuration needs the same one in the certificate.
bool Covers(std::span<const std::string> names, std::string_view host) {
  std::size_t dot = host.find('.');
  std::string wildcard;
  if (!host.starts_with("*.") && dot != std::string_view::npos && dot > 0) {
    wildcard = "*" + std::string(host.substr(dot));
  }
  return std::ranges::any_of(
      names, [&](const std::string& name) { return name == host || name == wildcard; });
}

// What is wrong with the public key, or nothing.
std::string FaultOfKey(const EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
      if (EVP_PKEY_get_bits(key) < kLeastRsaBits) {
        return fmt::format("its RSA key has {} bits; {} are the least", EVP_PKEY_get_bits(key),
                           kLeastRsaBits);
      }
      return {};
    case EVP_PKEY_EC: {
      char group[64] = "of its own";
      EVP_PKEY_get_group_name(key, group, sizeof(group), nullptr);
      int id = OBJ_txt2nid(group);
      if (id != NID_X9_62_prime256v1 && id != NID_secp384r1 && id != NID_secp521r1) {
        return fmt::format("its key is on the curve {}; use P-256, P-384 or P-521", group);
      }
      return {};
    }
    case EVP_PKEY_ED25519:
      return {};
    default:
      return "its key is of a kind that is not served; use RSA, ECDSA or Ed25519";
  }
}

// "RSA 2048", "ECDSA P-256", "Ed25519".
std::string KindOf(const EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC: {
      char group[64] = "";
      EVP_PKEY_get_group_name(key, group, sizeof(group), nullptr);
      const char* name = EC_curve_nid2nist(OBJ_txt2nid(group));
      return fmt::format("ECDSA {}", name != nullptr ? name : group);
    }
    case EVP_PKEY_ED25519:
      return "Ed25519";
    default:
      return fmt::format("RSA {}", EVP_PKEY_get_bits(key));
  }
}

bool IsSignedWeakly(X509* certificate) {
  int digest = NID_undef;
  if (X509_get_signature_info(certificate, &digest, nullptr, nullptr, nullptr) != 1) {
    return false;
  }
  return digest == NID_sha1 || digest == NID_md5 || digest == NID_md5_sha1 || digest == NID_md4 ||
         digest == NID_md2;
}

std::string NameOf(X509* certificate) {
  std::vector<std::string> hosts = HostsOf(certificate);
  if (!hosts.empty()) {
    return hosts.front();
  }
  char name[256] = "without a name";
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof(name));
  return name;
}

CertificateFingerprint FingerprintOf(const X509* certificate) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  TG_CHECK(X509_digest(certificate, EVP_sha256(), digest.data(), nullptr) == 1);
  CertificateFingerprint fingerprint;
  std::copy_n(digest.begin(), fingerprint.size(), fingerprint.begin());
  return fingerprint;
}

std::string DateOf(std::int64_t seconds) {
  std::tm date{};
  std::time_t time = seconds;
  gmtime_r(&time, &date);
  char text[32];
  std::size_t size = std::strftime(text, sizeof(text), "%Y-%m-%d", &date);
  return {text, size};
}

void CheckOrder(std::span<const OwnedX509> chain, std::vector<std::string>& faults) {
  for (std::size_t i = 1; i < chain.size(); ++i) {
    if (X509_check_issued(chain[i].get(), chain[i - 1].get()) != X509_V_OK) {
      faults.push_back(
          fmt::format("certificate {} of the file ({}) has not issued the one before it ({}); put "
                      "the server's first, then who issued it",
                      i + 1, NameOf(chain[i].get()), NameOf(chain[i - 1].get())));
    }
  }
  ERR_clear_error();
}

// Of every certificate: a weak issuer would show in the first handshake only, and depends on the
// version of OpenSSL. Who signed itself is trusted for itself or not at all.
void CheckStrength(std::span<const OwnedX509> chain, std::vector<std::string>& faults) {
  for (std::size_t i = 0; i < chain.size(); ++i) {
    X509* each = chain[i].get();
    std::string whose =
        i == 0 ? "" : fmt::format("certificate {} of the file ({}): ", i + 1, NameOf(each));
    const EVP_PKEY* key = X509_get0_pubkey(each);
    std::string fault = key != nullptr ? FaultOfKey(key) : "its public key cannot be read";
    if (!fault.empty()) {
      faults.push_back(whose + fault);
    }
    bool signed_by_itself = (X509_get_extension_flags(each) & EXFLAG_SS) != 0;
    if (IsSignedWeakly(each) && (i == 0 || !signed_by_itself)) {
      faults.push_back(whose + "it is signed with SHA-1 or MD5, which no client takes");
    }
  }
  ERR_clear_error();
}

}  // namespace

CertificateMaterial::~CertificateMaterial() {
  OPENSSL_cleanse(key_pem.data(), key_pem.size());
}

MaterialDigest DigestOf(std::span<const std::string_view> texts) {
  // Each with its length: no two lists have the same octets.
  OwnedDigestContext context(EVP_MD_CTX_new());
  bool done = EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  for (std::string_view text : texts) {
    std::uint64_t size = text.size();
    done = done && EVP_DigestUpdate(context.get(), &size, sizeof(size)) == 1 &&
           EVP_DigestUpdate(context.get(), text.data(), text.size()) == 1;
  }
  MaterialDigest digest;
  done = done && EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) == 1;
  TG_CHECK(done);
  return digest;
}

MaterialDigest DigestOf(const CertificateMaterial& material) {
  std::vector<std::string_view> texts = {material.name, material.chain_pem, material.key_pem,
                                         material.ocsp_name, material.ocsp_base64};
  texts.insert(texts.end(), material.hosts.begin(), material.hosts.end());
  return DigestOf(texts);
}

std::string CanonicalHost(std::string_view host) {
  if (host.ends_with('.')) {
    host.remove_suffix(1);
  }
  return ToLower(host);
}

std::vector<OwnedX509> ReadCertificates(std::string_view pem, std::vector<std::string>& faults) {
  std::vector<OwnedX509> chain;
  OwnedBio bio = BioOf(pem);
  bool asked = false;
  while (true) {
    ERR_clear_error();
    OwnedX509 next(PEM_read_bio_X509(bio.get(), nullptr, &NoPassPhrase, &asked));
    if (next == nullptr) {
      break;
    }
    chain.push_back(std::move(next));
  }
  bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  std::string reason = TakeOpenSslError("not PEM");
  if (!at_end) {
    faults.push_back(
        fmt::format("certificate {} of the file cannot be read: {}", chain.size() + 1, reason));
  } else if (chain.empty()) {
    faults.emplace_back("there is no certificate in it (\"-----BEGIN CERTIFICATE-----\")");
  }
  return chain;
}

std::vector<std::string> NamesOf(X509* certificate) {
  std::vector<std::string> names = HostsOf(certificate);
  OwnedNames all(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(all.get()); ++i) {
    int type = 0;
    void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(all.get(), i), &type);
    std::string octets = type == GEN_IPADD ? TextOf(static_cast<ASN1_STRING*>(value)) : "";
    char text[INET6_ADDRSTRLEN];
    int family = octets.size() == sizeof(in6_addr) ? AF_INET6 : AF_INET;
    bool is_address = octets.size() == sizeof(in_addr) || family == AF_INET6;
    if (is_address && inet_ntop(family, octets.data(), text, sizeof(text)) != nullptr) {
      names.emplace_back(text);
    }
  }
  ERR_clear_error();
  return names;
}

std::optional<Certificate> ReadCertificate(const CertificateMaterial& material,
                                           std::vector<std::string>& faults) {
  StartOpenSsl();
  std::vector<std::string> found;
  std::vector<OwnedX509> chain = ReadChain(material.chain_pem, found);
  OwnedKey key = ReadKey(material.key_pem, found);
  Certificate certificate;
  certificate.name = material.name;
  if (!chain.empty()) {
    X509* leaf = chain.front().get();
    CheckOrder(chain, found);
    CheckStrength(chain, found);
    if (key != nullptr && X509_check_private_key(leaf, key.get()) != 1) {
      found.emplace_back("the key belongs to another certificate");
    }
    ERR_clear_error();
    certificate.hosts = HostsOf(leaf);
    if (!material.hosts.empty()) {
      std::vector<std::string> names = std::exchange(certificate.hosts, {});
      for (const std::string& host : material.hosts) {
        certificate.hosts.push_back(CanonicalHost(host));
        if (!Covers(names, certificate.hosts.back())) {
          found.push_back(
              fmt::format("it is not for {}; it names {}", host,
                          names.empty() ? "no host" : fmt::format("{}", fmt::join(names, ", "))));
        }
      }
    }
  }
  for (const std::string& fault : found) {
    faults.push_back(fmt::format("{}: {}", material.name, fault));
  }
  if (!found.empty()) {
    return std::nullopt;
  }
  if (!material.ocsp_base64.empty()) {
    auto ocsp = ReadOcspResponse(material.ocsp_name, material.ocsp_base64, chain[0].get(),
                                 chain.size() > 1 ? chain[1].get() : nullptr);
    if (!ocsp) {
      faults.push_back(std::move(ocsp).error().detail());
      return std::nullopt;
    }
    certificate.ocsp = std::move(*ocsp);
  }
  certificate.digest = DigestOf(material);
  certificate.key = std::move(key);
  certificate.key_type = EVP_PKEY_get_base_id(certificate.key.get());
  certificate.leaf = std::move(chain.front());
  certificate.fingerprint = FingerprintOf(certificate.leaf.get());
  if (chain.size() > 1) {
    certificate.chain.reset(sk_X509_new_null());
    for (auto& issuer : std::span(chain).subspan(1)) {
      sk_X509_push(certificate.chain.get(), issuer.release());
    }
  }
  return certificate;
}

void WarnOfDate(std::string_view file, X509* certificate, std::int64_t now,
                std::vector<std::string>& warnings) {
  std::int64_t begin = SecondsOf(X509_get0_notBefore(certificate));
  std::int64_t end = SecondsOf(X509_get0_notAfter(certificate));
  std::string_view what;
  if (end < now) {
    what = "expired on";
  } else if (begin > now) {
    what = "is not valid before";
  } else if (end - now <= kSoon) {
    what = "expires on";
  } else {
    return;
  }
  warnings.push_back(fmt::format("{}: the certificate {} {} {}", file, NameOf(certificate), what,
                                 DateOf(begin > now && end >= now ? begin : end)));
}

void WarnOfDates(const Certificate& certificate, std::int64_t now,
                 std::vector<std::string>& warnings) {
  WarnOfDate(certificate.name, certificate.leaf.get(), now, warnings);
  for (int i = 0; i < sk_X509_num(certificate.chain.get()); ++i) {
    WarnOfDate(certificate.name, sk_X509_value(certificate.chain.get(), i), now, warnings);
  }
  if (!certificate.ocsp || certificate.ocsp->MayBeSent(now)) {
    return;
  }
  const OcspResponse& ocsp = *certificate.ocsp;
  std::string why = ocsp.fault;
  if (why.empty()) {
    why = ocsp.from > now
              ? fmt::format("the OCSP response is not valid before {}", DateOf(ocsp.from))
              : fmt::format("the OCSP response expired on {}", DateOf(ocsp.until));
  }
  warnings.push_back(fmt::format("{}: {}, and is not sent", ocsp.name, why));
}

CertificateSummary SummaryOf(const Certificate& certificate) {
  X509* leaf = certificate.leaf.get();
  CertificateSummary summary{.file = certificate.name,
                             .hosts = certificate.hosts,
                             .kind = KindOf(certificate.key.get()),
                             .issuer = NameTextOf(X509_get_issuer_name(leaf)),
                             .not_before = SecondsOf(X509_get0_notBefore(leaf)),
                             .not_after = SecondsOf(X509_get0_notAfter(leaf)),
                             .ocsp = certificate.ocsp};
  ERR_clear_error();
  return summary;
}

std::string NameTextOf(const X509_NAME* name) {
  OwnedBio bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  long size = BIO_get_mem_data(bio.get(), &text);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

}  // namespace tidegate
