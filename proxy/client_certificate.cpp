#include "proxy/client_certificate.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

// True if `name` begins with `words`, any mark standing where `words` has '-', and ends there or
// goes on with a mark.
bool BeginsLike(std::string_view name, std::string_view words) {
  if (name.size() < words.size()) {
    return false;
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    bool same = words[i] == '-' ? !IsAlnum(name[i]) : ToLower(name[i]) == words[i];
    if (!same) {
      return false;
    }
  }
  return name.size() == words.size() || !IsAlnum(name[words.size()]);
}

}  // namespace

ClientCertificate::ClientCertificate(const PeerCertificate& peer)
    : authorities_(peer.authorities),
      shown_(peer.verify != "NONE"),
      verified_(peer.verify == "SUCCESS") {
  Add("X-Client-Cert-Verify", peer.verify);
  if (verified_) {
    Add("X-Client-Cert-Subject", peer.subject);
    // A Byte Sequence of a structured field (RFC 8941 section 3.3.5).
    Add("Client-Cert", fmt::format(":{}:", ToBase64(peer.der)));
  }
}

void ClientCertificate::Add(std::string_view name, std::string_view value) {
  std::string& line = lines_[count_];
  line = fmt::format("{}: {}\r\n", name, value);
  std::ranges::replace_if(
      line.begin(), line.end() - 2, [](char c) { return c != ' ' && !IsVisible(c); }, '?');
  fields_[count_++] = Field::OfLine(FieldId::kOther, line, name.size());
}

bool PassesForClientCertificate(std::string_view name) {
  return BeginsLike(name, "client-cert") || BeginsLike(name, "x-client-cert");
}

}  // namespace tidegate
