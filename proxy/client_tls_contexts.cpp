#include "proxy/client_tls_contexts.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/check.h"

namespace tidegate {
namespace {

MaterialDigest DigestOfContext(const UpstreamTlsConfig& tls, const MaterialDigest& system) {
  std::string_view system_octets(reinterpret_cast<const char*>(system.data()), system.size());
  const std::array texts = {
      std::string_view(tls.verify ? "verified" : "not verified"),
      std::string_view(tls.server_name),
      tls.NeedsSystemRoots() ? system_octets : std::string_view(tls.ca_pem),
      std::string_view(tls.client.certificate_file),
      std::string_view(tls.client.chain_pem),
      std::string_view(tls.client.key_pem),
  };
  return DigestOf(texts);
}

}  // namespace

// Makes what cannot be kept.
class ClientTlsContexts::Maker {
 public:
  Maker(const Config& config, ClientTlsContexts& made) : config_(config), made_(made) {}

  // Null, and faults, where a file is of no use.
  std::shared_ptr<ClientTls> Make(const UpstreamTlsConfig& tls) {
    std::size_t before = faults_.size();
    ClientTlsSettings settings{.roots = RootsOf(tls),
                               .server_name = tls.server_name,
                               .certificate = CertificateOf(tls.client)};
    if (faults_.size() > before) {
      return nullptr;
    }
    auto context = ClientTls::Make(std::move(settings));
    if (!context) {
      faults_.push_back(context.error().detail());
      return nullptr;
    }
    return *context;
  }

  // Every fault once, however many upstreams have it.
  std::vector<std::string> TakeFaults() {
    std::vector<std::string> once;
    for (std::string& fault : faults_) {
      if (std::ranges::find(once, fault) == once.end()) {
        once.push_back(std::move(fault));
      }
    }
    return once;
  }

 private:
  SharedRoots RootsOf(const UpstreamTlsConfig& tls) {
    if (!tls.verify) {
      return nullptr;
    }
    if (!tls.NeedsSystemRoots()) {
      return ReadRoots(tls.ca_pem, tls.ca_file, faults_);
    }
    if (made_.system_roots_ == nullptr) {
      made_.system_roots_ = ReadRoots(config_.system_roots.pem, config_.system_roots.file, faults_);
    }
    return made_.system_roots_;
  }

  std::shared_ptr<const Certificate> CertificateOf(const CertificateConfig& client) {
    if (client.certificate_file.empty()) {
      return nullptr;
    }
    CertificateMaterial material{.hosts = {},
                                 .name = client.certificate_file,
                                 .chain_pem = client.chain_pem,
                                 .key_pem = client.key_pem};
    auto certificate = ReadCertificate(material, faults_);
    return certificate ? std::make_shared<const Certificate>(std::move(*certificate)) : nullptr;
  }

  const Config& config_;
  ClientTlsContexts& made_;
  std::vector<std::string> faults_;
};

Result<ClientTlsContexts> ClientTlsContexts::Make(const Config& config,
                                                  const ClientTlsContexts* previous) {
  ClientTlsContexts contexts;
  Maker maker(config, contexts);
  contexts.system_digest_ = DigestOf(std::array<std::string_view, 1>{config.system_roots.pem});
  if (previous != nullptr && previous->system_digest_ == contexts.system_digest_) {
    contexts.system_roots_ = previous->system_roots_;
  }
  for (const UpstreamConfig& upstream : config.upstreams) {
    if (!upstream.tls) {
      continue;
    }
    MaterialDigest digest = DigestOfContext(*upstream.tls, contexts.system_digest_);
    std::shared_ptr<ClientTls> tls;
    if (previous != nullptr) {
      auto known = previous->of_upstream_.find(upstream.name);
      bool same = known != previous->of_upstream_.end() && known->second.digest == digest;
      tls = same ? known->second.tls : nullptr;
    }
    if (tls == nullptr) {
      tls = maker.Make(*upstream.tls);
    }
    contexts.of_upstream_[upstream.name] = {.digest = digest, .tls = std::move(tls)};
  }
  std::vector<std::string> faults = maker.TakeFaults();
  if (!faults.empty()) {
    return Fail(ErrorKind::kConfig, fmt::format("{}", fmt::join(faults, "\n")));
  }
  return contexts;
}

std::shared_ptr<ClientTls> ClientTlsContexts::Of(const UpstreamConfig& upstream) const {
  if (!upstream.tls) {
    return nullptr;
  }
  auto found = of_upstream_.find(upstream.name);
  // Never plain text where TLS was asked for.
  TG_CHECK(found != of_upstream_.end() && found->second.tls != nullptr);
  return found->second.tls;
}

std::vector<std::string> ClientTlsContexts::Warnings(std::int64_t now) const {
  std::vector<std::string> warnings;
  for (const auto& [name, context] : of_upstream_) {
    if (context.tls->certificate() != nullptr) {
      WarnOfDates(*context.tls->certificate(), now, warnings);
    }
  }
  std::ranges::sort(warnings);
  warnings.erase(std::ranges::unique(warnings).begin(), warnings.end());
  return warnings;
}

}  // namespace tidegate
