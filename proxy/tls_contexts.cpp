#include "proxy/tls_contexts.h"

#include <algorithm>
#include <utility>

#include <openssl/crypto.h>

#include "common/check.h"

namespace tidegate {
namespace {

constexpr std::size_t IndexOf(TlsProfile profile) {
  return static_cast<std::size_t>(profile);
}

Result<std::shared_ptr<const CertificateStore>> MakeStore(
    const Config& config, const std::shared_ptr<const CertificateStore>& previous) {
  std::vector<CertificateMaterial> materials;
  for (const CertificateConfig& certificate : config.certificates) {
    materials.push_back({.hosts = certificate.hosts,
                         .name = certificate.certificate_file,
                         .chain_pem = certificate.chain_pem,
                         .key_pem = certificate.key_pem});
  }
  return CertificateStore::Make(materials, previous);
}

}  // namespace

Result<TlsContexts> TlsContexts::Make(const Config& config, const TlsContexts* previous,
                                      const TicketKeys& tickets) {
  TlsContexts contexts;
  const bool wanted = std::ranges::any_of(
      config.listeners, [](const ListenerConfig& listener) { return listener.tls.has_value(); });
  if (wanted && config.certificates.empty()) {
    return Fail(ErrorKind::kConfig, "TLS without a certificate");
  }
  if (config.certificates.empty()) {
    return contexts;
  }
  auto store = MakeStore(config, previous != nullptr ? previous->certificates_ : nullptr);
  if (!store) {
    return Fail(std::move(store).error());
  }
  if (previous != nullptr && previous->certificates_ == *store &&
      previous->ticket_rotation_ == config.tls.ticket_rotation) {
    contexts = *previous;
  }
  contexts.ticket_rotation_ = config.tls.ticket_rotation;
  contexts.certificates_ = std::move(*store);
  for (const ListenerConfig& listener : config.listeners) {
    if (!listener.tls || contexts.of_profile_[IndexOf(listener.tls->profile)] != nullptr) {
      continue;
    }
    static const std::vector<std::string> kProtocols = {"http/1.1"};
    auto made = ServerTls::Make(listener.tls->profile, contexts.certificates_, kProtocols, tickets,
                                config.tls.ticket_rotation);
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

void ForgetFileContents(Config& config) {
  for (CertificateConfig& certificate : config.certificates) {
    OPENSSL_cleanse(certificate.key_pem.data(), certificate.key_pem.size());
    certificate.key_pem = {};
    certificate.chain_pem = {};
  }
}

std::vector<std::string> TlsContexts::Warnings(std::int64_t now) const {
  return certificates_ == nullptr ? std::vector<std::string>() : certificates_->Warnings(now);
}

}  // namespace tidegate
