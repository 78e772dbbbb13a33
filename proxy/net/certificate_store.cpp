#include "proxy/net/certificate_store.h"

#include <algorithm>
#include <array>
#include <map>
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
    std::span<const CertificateMaterial> materials,
    const std::shared_ptr<const CertificateStore>& previous) {
  std::map<MaterialDigest, std::shared_ptr<const Certificate>> known;
  if (previous != nullptr) {
    for (const auto& each : previous->certificates_) {
      known.emplace(each->digest, each);
    }
  }
  std::vector<std::string> faults;
  std::shared_ptr<CertificateStore> store(new CertificateStore);
  if (materials.empty()) {
    faults.emplace_back("TLS needs at least one certificate");
  }
  for (const CertificateMaterial& material : materials) {
    std::shared_ptr<const Certificate> certificate;
    auto found = known.empty() ? known.end() : known.find(DigestOf(material));
    if (found != known.end()) {
      certificate = found->second;
    } else if (auto read = ReadCertificate(material, faults)) {
      certificate = std::make_shared<const Certificate>(std::move(*read));
    } else {
      continue;
    }
    // The first is what a client gets that names no host, as one that asks for an address does.
    if (certificate->hosts.empty() && &material != &materials.front()) {
      faults.push_back(
          fmt::format("{}: it names no host, so no client would get it", material.name));
      continue;
    }
    store->Add(std::move(certificate));
  }
  if (!faults.empty()) {
    return Fail(ErrorKind::kConfig, fmt::format("{}", fmt::join(faults, "\n")));
  }
  if (previous != nullptr && previous->certificates_ == store->certificates_) {
    return previous;
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

void CertificateStore::Add(std::shared_ptr<const Certificate> certificate) {
  certificates_.push_back(std::move(certificate));
  const Certificate& added = *certificates_.back();
  std::map<const Certificate*, std::vector<std::string_view>> hidden_by;
  for (std::string_view host : added.hosts) {
    bool wildcard = host.starts_with(kAnyLabel);
    Choice& choice = wildcard ? wildcard_[std::string(host.substr(kAnyLabel.size()))]
                              : exact_[std::string(host)];
    auto known = std::ranges::find(choice, added.key_type, &Certificate::key_type);
    if (known == choice.end()) {
      choice.push_back(&added);
    } else if (*known != &added) {
      hidden_by[*known].push_back(host);
    }
  }
  for (const auto& [other, hosts] : hidden_by) {
    unserved_.push_back(
        fmt::format("{}: it is never served for {}: {} is, and has the same kind of key",
                    added.name, fmt::join(hosts, ", "), other->name));
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

std::vector<CertificateSummary> CertificateStore::Summaries() const {
  std::vector<CertificateSummary> summaries;
  for (const auto& certificate : certificates_) {
    summaries.push_back(SummaryOf(*certificate));
  }
  return summaries;
}

std::vector<std::string> CertificateStore::Warnings(std::int64_t now) const {
  std::vector<std::string> warnings = unserved_;
  for (const auto& certificate : certificates_) {
    WarnOfDates(*certificate, now, warnings);
  }
  return warnings;
}

}  // namespace tidegate
