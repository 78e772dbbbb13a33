#include "proxy/net/certificate_store.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

// RFC 1035 section 2.3.4: no name is longer, so none of ours.
constexpr std::size_t kLongestName = 253;
constexpr std::string_view kAnyLabel = "*.";

}  // namespace

Result<std::shared_ptr<const CertificateStore>> CertificateStore::Make(
    std::span<const CertificateMaterial> materials) {
  std::vector<std::string> faults;
  std::shared_ptr<CertificateStore> store(new CertificateStore);
  if (materials.empty()) {
    faults.emplace_back("TLS needs at least one certificate");
  }
  for (const CertificateMaterial& material : materials) {
    auto certificate = ReadCertificate(material, faults);
    if (!certificate) {
      continue;
    }
    // The first is what a client gets that names no host, as one that asks for an address does.
    if (certificate->hosts.empty() && &material != &materials.front()) {
      faults.push_back(
          fmt::format("{}: it names no host, so no client would get it", material.name));
      continue;
    }
    store->Add(std::move(*certificate));
  }
  if (!faults.empty()) {
    return Fail(ErrorKind::kConfig, fmt::format("{}", fmt::join(faults, "\n")));
  }
  const Certificate& first = *store->certificates_.front();
  store->default_ = {&first};
  if (!first.hosts.empty()) {
    std::string_view host = first.hosts.front();
    store->default_ = host.starts_with(kAnyLabel)
                          ? store->wildcard_.find(host.substr(kAnyLabel.size()))->second
                          : store->exact_.find(host)->second;
  }
  return store;
}

void CertificateStore::Add(Certificate certificate) {
  certificates_.push_back(std::make_unique<const Certificate>(std::move(certificate)));
  const Certificate& added = *certificates_.back();
  for (std::string_view host : added.hosts) {
    bool wildcard = host.starts_with(kAnyLabel);
    Choice& choice = wildcard ? wildcard_[std::string(host.substr(kAnyLabel.size()))]
                              : exact_[std::string(host)];
    bool known = std::ranges::any_of(
        choice, [&](const Certificate* each) { return each->key_type == added.key_type; });
    if (!known) {
      choice.push_back(&added);
    }
  }
}

const CertificateStore::Choice& CertificateStore::Find(std::string_view server_name) const {
  if (server_name.ends_with('.')) {
    server_name.remove_suffix(1);
  }
  if (server_name.empty() || server_name.size() > kLongestName) {
    return default_;
  }
  // No allocation: this is done for every handshake.
  std::array<char, kLongestName> buffer;
  std::ranges::transform(server_name, buffer.begin(), [](char c) { return ToLower(c); });
  std::string_view name(buffer.data(), server_name.size());
  if (auto found = exact_.find(name); found != exact_.end()) {
    return found->second;
  }
  std::size_t dot = name.find('.');
  if (dot == std::string_view::npos || dot == 0) {
    return default_;
  }
  auto found = wildcard_.find(name.substr(dot + 1));
  return found != wildcard_.end() ? found->second : default_;
}

std::vector<std::string> CertificateStore::Warnings(std::int64_t now) const {
  std::vector<std::string> warnings;
  for (const auto& certificate : certificates_) {
    WarnOfDates(*certificate, now, warnings);
  }
  return warnings;
}

}  // namespace tidegate
