#include "proxy/tls_contexts.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>
#include <openssl/crypto.h>

#include "common/check.h"

namespace tidegate {
namespace {

Result<std::shared_ptr<const CertificateStore>> MakeStore(
    const Config& config, const std::shared_ptr<const CertificateStore>& previous) {
  std::vector<CertificateMaterial> materials;
  for (const CertificateConfig& certificate : config.certificates) {
    materials.push_back({.hosts = certificate.hosts,
                         .name = certificate.certificate_file,
                         .chain_pem = certificate.chain_pem,
                         .key_pem = certificate.key_pem,
                         .ocsp_name = certificate.ocsp_file,
                         .ocsp_base64 = certificate.ocsp_base64});
  }
  return CertificateStore::Make(materials, previous);
}

// As ALPN knows them (RFC 7301 section 6).
std::vector<std::string> NamesOf(std::span<const Protocol> protocols) {
  std::vector<std::string> names;
  for (Protocol protocol : protocols) {
    names.emplace_back(protocol == Protocol::kH2 ? "h2" : "http/1.1");
  }
  return names;
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
  const bool kept = previous != nullptr && previous->certificates_ == *store &&
                    previous->ticket_rotation_ == config.tls.ticket_rotation;
  contexts.ticket_rotation_ = config.tls.ticket_rotation;
  contexts.certificates_ = std::move(*store);
  for (const ListenerConfig& listener : config.listeners) {
    if (!listener.tls || contexts.Find(listener) != nullptr) {
      continue;
    }
    if (const Entry* same = kept ? previous->Find(listener) : nullptr) {
      contexts.entries_.push_back(*same);
      continue;
    }
    auto made = contexts.MakeContext(listener, tickets);
    if (!made) {
      return Fail(std::move(made).error());
    }
    contexts.entries_.push_back({.profile = listener.tls->profile,
                                 .client_ca_pem = listener.tls->client_ca_pem,
                                 .client_auth = listener.tls->client_auth,
                                 .protocols = NamesOf(listener.Protocols()),
                                 .context = std::move(*made)});
  }
  return contexts;
}

Result<std::shared_ptr<const ServerTls>> TlsContexts::MakeContext(const ListenerConfig& listener,
                                                                  const TicketKeys& tickets) const {
  const TlsConfig& tls = *listener.tls;
  std::shared_ptr<const ClientVerifier> clients;
  if (!tls.client_ca_file.empty()) {
    auto made = ClientVerifier::Make(tls.client_ca_file, tls.client_ca_pem,
                                     tls.client_auth == ClientAuth::kRequired);
    if (!made) {
      return Fail(std::move(made).error());
    }
    clients = std::move(*made);
  }
  return ServerTls::Make(tls.profile, certificates_, NamesOf(listener.Protocols()), tickets,
                         ticket_rotation_, std::move(clients));
}

bool TlsContexts::Entry::Serves(const ListenerConfig& listener) const {
  return profile == listener.tls->profile && client_ca_pem == listener.tls->client_ca_pem &&
         client_auth == listener.tls->client_auth && protocols == NamesOf(listener.Protocols());
}

const TlsContexts::Entry* TlsContexts::Find(const ListenerConfig& listener) const {
  auto found =
      std::ranges::find_if(entries_, [&](const Entry& each) { return each.Serves(listener); });
  return found == entries_.end() ? nullptr : &*found;
}

std::shared_ptr<const ServerTls> TlsContexts::Of(const ListenerConfig& listener) const {
  if (!listener.tls) {
    return nullptr;
  }
  const Entry* entry = Find(listener);
  // Never plain text where TLS was asked for.
  TG_CHECK(entry != nullptr);
  return entry->context;
}

void ForgetFileContents(Config& config) {
  auto forget = [](CertificateConfig& certificate) {
    OPENSSL_cleanse(certificate.key_pem.data(), certificate.key_pem.size());
    certificate.key_pem = {};
    certificate.chain_pem = {};
    certificate.ocsp_base64 = {};
  };
  for (CertificateConfig& certificate : config.certificates) {
    forget(certificate);
  }
  for (UpstreamConfig& upstream : config.upstreams) {
    if (upstream.tls) {
      forget(upstream.tls->client);
      upstream.tls->ca_pem = {};
    }
  }
  config.system_roots.pem = {};
}

std::vector<std::string> TlsContexts::Warnings(std::int64_t now) const {
  std::vector<std::string> warnings =
      certificates_ == nullptr ? std::vector<std::string>() : certificates_->Warnings(now);
  for (const Entry& entry : entries_) {
    if (entry.context->clients() != nullptr) {
      entry.context->clients()->WarnOfDates(now, warnings);
    }
  }
  return warnings;
}

std::string TlsContexts::CertificatesJson(std::int64_t now) const {
  nlohmann::json array = nlohmann::json::array();
  if (certificates_ == nullptr) {
    return "[]";
  }
  for (const CertificateSummary& summary : certificates_->Summaries()) {
    nlohmann::json one = {{"file", summary.file},
                          {"hosts", summary.hosts},
                          {"kind", summary.kind},
                          {"issuer", summary.issuer},
                          {"not_before", summary.not_before},
                          {"not_after", summary.not_after}};
    if (const auto& ocsp = summary.ocsp) {
      one["ocsp"] = {{"file", ocsp->name},
                     {"sent", ocsp->MayBeSent(now)},
                     {"fault", ocsp->fault},
                     {"until", ocsp->until}};
    }
    array.push_back(std::move(one));
  }
  // A file's name need not be UTF-8.
  return array.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace tidegate
