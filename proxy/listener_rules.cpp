#include "proxy/listener_rules.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

constexpr std::uint16_t kHttpsPort = 443;
constexpr std::string_view kStrictTransport = "Strict-Transport-Security";
constexpr std::string_view kChallenges = "/.well-known/acme-challenge";

// 443 if somebody is there, or if nobody can tell: several ports, or none, because TLS is ended by
// somebody before us. Otherwise the only one.
std::string HttpsPortOf(const std::set<std::uint16_t>& ports) {
  bool only_one = ports.size() == 1 && *ports.begin() != kHttpsPort && *ports.begin() != 0;
  return only_one ? fmt::format("{}", *ports.begin()) : std::string();
}

std::string StrictTransportLine(Duration hsts) {
  return hsts == kNever
             ? std::string()
             : fmt::format("{}: max-age={}\r\n", kStrictTransport,
                           std::chrono::duration_cast<std::chrono::seconds>(hsts).count());
}

bool SaysHttps(const RequestHead& request) {
  const Field* proto = request.fields.Find(FieldId::kXForwardedProto);
  return proto != nullptr && EqualsIgnoringCase(proto->value, "https");
}

}  // namespace

void ListenerRules::AddStrictTransport(ResponseHead& head) const {
  if (!strict_transport.empty() && head.fields.Find(kStrictTransport) == nullptr) {
    head.fields.Add(Field::OfLine(FieldId::kOther, strict_transport, kStrictTransport.size()));
  }
}

bool ListenerRules::IsVerified(const ServedClient& client) const {
  if (unknown_verification) {
    return client.tls.empty();
  }
  if (authorities == nullptr) {
    return true;
  }
  const ClientCertificate* certificate = client.certificate();
  if (certificate == nullptr) {
    return !certificate_required;
  }
  if (certificate->verified()) {
    return std::ranges::includes(*authorities, certificate->authorities());
  }
  return !certificate_required &&
         (!certificate->shown() || certificate->authorities() == *authorities);
}

bool ListenerRules::SendsToHttps(const RequestHead& request, const ClientInfo& client,
                                 const RouteConfig* route) const {
  bool challenge = route != nullptr && route->path.starts_with(kChallenges);
  // With TLS: the name was another listener's when the connection was accepted.
  return redirect_to_https && client.tls.empty() && !challenge &&
         !(client.trusted && SaysHttps(request));
}

Result<RedirectAction> ListenerRules::HttpsRedirect(const RequestHead& request) const {
  if (request.host().empty()) {
    return Fail(ErrorKind::kBadHost, "no Host, so there is no address with https");
  }
  bool safe = request.method == Method::kGet || request.method == Method::kHead;
  return RedirectAction{.to = fmt::format("https://{}{}{}", request.host(),
                                          https_port.empty() ? "" : ":", https_port),
                        .status = safe ? 301 : 308};
}

std::vector<ListenerRules> MakeListenerRules(const Config& config,
                                             const std::set<std::uint16_t>& https_ports) {
  bool any_headers = std::ranges::any_of(config.listeners, [](const ListenerConfig& listener) {
    return listener.tls && listener.tls->client_headers;
  });
  bool any_required = std::ranges::any_of(config.listeners, [](const ListenerConfig& listener) {
    return listener.tls && !listener.tls->client_ca_file.empty() &&
           listener.tls->client_auth == ClientAuth::kRequired;
  });
  std::vector<ListenerRules> all;
  for (const ListenerConfig& listener : config.listeners) {
    ListenerRules rules{.name = listener.name,
                        .redirect_to_https = listener.redirect_to_https,
                        .drops_client_certificates = any_headers};
    if (listener.redirect_to_https) {
      rules.https_port = HttpsPortOf(https_ports);
    }
    if (listener.tls) {
      rules.strict_transport = StrictTransportLine(listener.tls->hsts);
      if (!listener.tls->client_ca_file.empty()) {
        rules.authorities = ClientVerifier::AuthoritiesOf(listener.tls->client_ca_pem);
        rules.certificate_required = listener.tls->client_auth == ClientAuth::kRequired;
      }
      rules.client_headers = listener.tls->client_headers;
      rules.drops_client_certificates = any_headers || !listener.tls->client_ca_file.empty();
    }
    bool has_any = rules.redirect_to_https || rules.drops_client_certificates ||
                   !rules.strict_transport.empty() || any_required;
    if (has_any) {
      all.push_back(std::move(rules));
    }
  }
  if (any_headers || any_required) {
    all.push_back(ListenerRules{.drops_client_certificates = any_headers,
                                .unknown_verification = any_required});
  }
  return all;
}

const ListenerRules* FindListenerRules(const std::vector<ListenerRules>& all,
                                       std::string_view listener) {
  auto found = std::ranges::find_if(all, [&](const ListenerRules& rules) {
    return rules.name.empty() || rules.name == listener;
  });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace tidegate
