#include "supervisor/certificates_view.h"

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

Cell DaysCell(const Json& certificate) {
  auto found = certificate.find("days_left");
  if (found == certificate.end() || !found->is_number_integer()) {
    return "";
  }
  const auto days = found->get<std::int64_t>();
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

}  // namespace tidegate
