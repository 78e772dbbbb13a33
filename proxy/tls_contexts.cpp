#include "proxy/tls_contexts.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace tidegate {
namespace {

constexpr std::size_t IndexOf(TlsProfile profile) {
  return static_cast<std::size_t>(profile);
}

Result<std::shared_ptr<const CertificateStore>> MakeStore(const Config& config) {
  std::vector<CertificateMaterial> materials;
  for (const CertificateConfig& certificate : config.certificates) {
    materials.push_back({.hosts = certificate.hosts,
                         .name = certificate.certificate_file,
                         .chain_pem = certificate.chain_pem,
                         .key_pem = certificate.key_pem});
  }
  return CertificateStore::Make(materials);
}

}  // namespace

Result<TlsContexts> TlsContexts::Make(const Config& config, const Config* before,
                                      const TlsContexts* previous) {
  TlsContexts contexts;
  const bool wanted = std::ranges::any_of(
      config.listeners, [](const ListenerConfig& listener) { return listener.tls.has_value(); });
  if (wanted && config.certificates.empty()) {
    return Fail(ErrorKind::kConfig, "TLS without a certificate");
  }
  if (config.certificates.empty()) {
    return contexts;
  }
  if (before != nullptr && previous != nullptr && before->certificates == config.certificates) {
    contexts = *previous;
  }
  if (contexts.certificates_ == nullptr) {
    auto store = MakeStore(config);
    if (!store) {
      return Fail(std::move(store).error());
    }
    contexts.certificates_ = std::move(*store);
  }
  for (const ListenerConfig& listener : config.listeners) {
    if (!listener.tls || contexts.of_profile_[IndexOf(listener.tls->profile)] != nullptr) {
      continue;
    }
    static const std::vector<std::string> kProtocols = {"http/1.1"};
    auto made = ServerTls::Make(listener.tls->profile, contexts.certificates_, kProtocols);
    if (!made) {
      return Fail(std::move(made).error());
    }
    contexts.of_profile_[IndexOf(listener.tls->profile)] = std::move(*made);
  }
  return contexts;
}

std::shared_ptr<const ServerTls> TlsContexts::Of(const ListenerConfig& listener) const {
  if (!listener.tls) {
    return nullptr;
  }
  const auto& context = of_profile_[IndexOf(listener.tls->profile)];
  // Never plain text where TLS was asked for.
  TG_CHECK(context != nullptr);
  return context;
}

std::vector<std::string> TlsContexts::Warnings(std::int64_t now) const {
  return certificates_ == nullptr ? std::vector<std::string>() : certificates_->Warnings(now);
}

}  // namespace tidegate
