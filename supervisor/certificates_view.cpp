#include "supervisor/certificates_view.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/control_messages.h"
#include "common/text.h"

namespace tidegate {
namespace {

using Json = nlohmann::json;
using Cell = Table::Cell;

// Renewals are made before that.
constexpr std::int64_t kSoonDays = 14;
constexpr std::size_t kIssuerColumns = 32;

const Json& ListOf(const Json& object, const char* name) {
  static const Json kEmpty = Json::array();
  auto found = object.find(name);
  return found != object.end() && found->is_array() ? *found : kEmpty;
}

std::string HostsText(const Json& certificate, bool detailed) {
  std::string text;
  const Json& hosts = ListOf(certificate, "hosts");
  for (const Json& host : hosts) {
    if (!detailed && !text.empty()) {
      return fmt::format("{} +{}", text, hosts.size() - 1);
    }
    text += (text.empty() ? "" : ",") + (host.is_string() ? host.get<std::string>() : "?");
  }
  return text.empty() ? "(no name)" : Printable(text);
}

// Of one that does not say it, kUnknownDays.
constexpr std::int64_t kUnknownDays = std::numeric_limits<std::int64_t>::max();
std::int64_t DaysLeft(const Json& certificate) {
  if (!certificate.is_object()) {
    return kUnknownDays;
  }
  auto found = certificate.find("days_left");
  return found != certificate.end() && found->is_number_integer() ? found->get<std::int64_t>()
                                                                  : kUnknownDays;
}

Cell DaysCell(const Json& certificate) {
  const std::int64_t days = DaysLeft(certificate);
  if (days == kUnknownDays) {
    return "";
  }
  if (days < 0) {
    return {"expired", Tint::kBad};
  }
  return {fmt::format("{}", days), days <= kSoonDays ? Tint::kWarning : Tint::kNone};
}

Cell OcspCell(const Json& certificate) {
  auto found = certificate.find("ocsp");
  if (found == certificate.end() || !found->is_object()) {
    return "";
  }
  return FlagOf(*found, "sent") ? Cell("stapled") : Cell("not sent", Tint::kBad);
}

// The day alone.
std::string DayOf(const Json& certificate, const char* name) {
  return Printable(TextOf(certificate, name).substr(0, 10));
}

}  // namespace

std::string CertificatesText(const Json& data, const Output& output, bool detailed) {
  Table table({"HOSTS", "KIND", "NOT AFTER", "DAYS", "OCSP", "ISSUER", "FILE"});
  const Json& certificates = ListOf(data, "certificates");
  for (const Json& one : certificates) {
    const std::string issuer = Printable(TextOf(one, "issuer"));
    table.Add({HostsText(one, detailed), Printable(TextOf(one, "kind")), DayOf(one, "not_after"),
               DaysCell(one), OcspCell(one), detailed ? issuer : Fit(issuer, kIssuerColumns),
               Printable(TextOf(one, "file"))});
  }
  std::string text = table.empty() ? std::string() : table.Format(output) + "\n";
  text += CountOf(certificates.size(), "certificate");
  return text + (FlagOf(data, "watched") ? ", loaded when their files change\n" : "\n");
}

std::string CertificatesInStatus(const Json& status, const Output& output, bool detailed) {
  constexpr std::size_t kMostShown = 10;
  std::vector<const Json*> certificates;
  for (const Json& one : ListOf(status, "certificates")) {
    certificates.push_back(&one);
  }
  // They are neighbours in an array: in its order where the days are the same.
  std::ranges::sort(certificates, {},
                    [](const Json* one) { return std::pair(DaysLeft(*one), one); });
  const std::size_t shown =
      detailed ? certificates.size() : std::min(kMostShown, certificates.size());
  Table table({"CERTIFICATE", "NOT AFTER", "DAYS", "FILE"});
  for (std::size_t i = 0; i < shown; ++i) {
    const Json& one = *certificates[i];
    table.Add({HostsText(one, detailed), DayOf(one, "not_after"), DaysCell(one),
               detailed ? Printable(TextOf(one, "file")) : std::string()});
  }
  if (table.empty()) {
    return {};
  }
  std::string text = "\n" + table.Format(output);
  if (shown < certificates.size()) {
    text += fmt::format("and {} that are good for longer\n",
                        CountOf(certificates.size() - shown, "certificate"));
  }
  return text;
}

}  // namespace tidegate
