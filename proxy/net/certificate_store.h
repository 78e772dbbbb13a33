#pragma once

// All certificates of a configuration, by the name that a client asks for. Parsed once: a thousand
// cost a connection no more than one, because what is chosen is lent to it (SSL_use_cert_and_key).

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/result.h"
#include "proxy/net/certificate.h"

namespace tidegate {

class CertificateStore {
 public:
  // Of one name, at most one of each key type: which one is served depends on the client.
  using Choice = std::vector<const Certificate*>;

  // Error: kConfig, every fault of every material, one a line, each with the file's name. Of two
  // certificates of one key type for one name the first is served; Warnings tells.
  // Certificates of `previous` (may be null) are taken over where their material is the same:
  // reading one costs a worker about as much as a handshake. All the same: it is `previous`.
  static Result<std::shared_ptr<const CertificateStore>> Make(
      std::span<const CertificateMaterial> materials,
      const std::shared_ptr<const CertificateStore>& previous = nullptr);

  CertificateStore(const CertificateStore&) = delete;
  CertificateStore& operator=(const CertificateStore&) = delete;

  // Never empty: the exact name's, the wildcard's one label up, those of the first certificate's
  // first name. Any octets, in any case, with a dot at the end or without; empty: none was named.
  const Choice& Find(std::string_view server_name) const;

  // Of all, in the order of the materials.
  std::vector<CertificateSummary> Summaries() const;

  // One line a certificate that has expired, is not valid yet, or expires within 14 days, and one
  // for each that is never served for some of its names. `now`: seconds since 1970.
  std::vector<std::string> Warnings(std::int64_t now) const;

  std::size_t size() const { return certificates_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };
  using ByName = std::unordered_map<std::string, Choice, Hash, std::equal_to<>>;

  CertificateStore() = default;
  using Certificates = std::vector<std::shared_ptr<const Certificate>>;

  void Add(std::shared_ptr<const Certificate> certificate);

  // In the order of the materials.
  Certificates certificates_;
  std::vector<std::string> unserved_;
  ByName exact_;
  // "*.example.org" as "example.org".
  ByName wildcard_;
  Choice default_;
};

}  // namespace tidegate
