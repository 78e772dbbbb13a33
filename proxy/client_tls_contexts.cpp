#include "proxy/client_tls_contexts.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/check.h"

namespace tidegate {

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

Result<ClientTlsContexts> ClientTlsContexts::Make(const Config& config, const Config* before,
                                                  const ClientTlsContexts* previous) {
  ClientTlsContexts contexts;
  Maker maker(config, contexts);
  bool has_previous = before != nullptr && previous != nullptr;
  bool same_roots = has_previous && before->system_roots.pem == config.system_roots.pem;
  if (same_roots) {
    contexts.system_roots_ = previous->system_roots_;
  }
  std::map<std::string_view, const UpstreamConfig*> old;
  for (std::size_t i = 0; has_previous && i < before->upstreams.size(); ++i) {
    old.emplace(before->upstreams[i].name, &before->upstreams[i]);
  }
  for (const UpstreamConfig& upstream : config.upstreams) {
    if (!upstream.tls) {
      continue;
    }
    auto known = old.find(upstream.name);
    bool same = known != old.end() && known->second->tls == upstream.tls &&
                (same_roots || !upstream.tls->NeedsSystemRoots());
    contexts.of_upstream_[upstream.name] =
        same ? previous->Of(*known->second) : maker.Make(*upstream.tls);
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
  TG_CHECK(found != of_upstream_.end() && found->second != nullptr);
  return found->second;
}

std::vector<std::string> ClientTlsContexts::Warnings(std::int64_t now) const {
  std::vector<std::string> warnings;
  for (const auto& [name, context] : of_upstream_) {
    if (context->certificate() != nullptr) {
      WarnOfDates(*context->certificate(), now, warnings);
    }
  }
  std::ranges::sort(warnings);
  warnings.erase(std::ranges::unique(warnings).begin(), warnings.end());
  return warnings;
}

}  // namespace tidegate
