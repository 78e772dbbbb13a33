#pragma once

// The rows of upstreams; see settings_table.h.

#include <array>

#include "common/settings_fields.h"

namespace tidegate::settings {

// Upstreams.

inline constexpr std::array kEndpointSettings = {
    Setting{"address", &kEndpointAddress, kField<&EndpointConfig::address>, "", kAny,
            "\"host:port\" or \"unix:/path\"; names are resolved again when their time to live is "
            "over."}
        .Required(),
};
inline constexpr Section kEndpoint{"endpoint", kEndpointSettings};

inline constexpr std::array kQueueSettings = {
    Setting{"size", &kCount, kField<&QueueConfig::size>, "100", Between(0, 1'000'000),
            "How many exchanges may wait for a connection; one more is answered with 503."},
    Setting{"timeout", &kDuration, kField<&QueueConfig::timeout>, "5s", kWait,
            "How long one of them waits before 503."},
};
inline constexpr Section kQueue{"queue", kQueueSettings};

inline constexpr std::array<std::string_view, 2> kRetryWords = {"connect", "stale_connection"};
inline constexpr std::array kRetrySettings = {
    Setting{"attempts", &kCount, kField<&RetryConfig::attempts>, "1", Between(0, 10),
            "How many attempts may follow the first."},
    Setting{"on", &kRetryOn, &Same, "", kAny,
            "What may be tried again: \"connect\" (no connection), \"stale_connection\" (a kept "
            "one was closed)."}
        .OneOf(kRetryWords),
};
inline constexpr Section kRetry{"retry", kRetrySettings};

template <auto Member>
inline constexpr auto kClientField =
    [](void* owner) -> void* { return &(static_cast<UpstreamTlsConfig*>(owner)->client.*Member); };
// For rows that are written only where they say something.
template <auto Member>
inline constexpr auto kHasText =
    [](const void* owner) { return !MemberField<Member>::Of(owner).empty(); };
template <auto Member>
inline constexpr auto kHasClientText = [](const void* owner) {
  return !(static_cast<const UpstreamTlsConfig*>(owner)->client.*Member).empty();
};

inline constexpr std::array kUpstreamTlsSettings = {
    Setting{"verify", &kFlag, kField<&UpstreamTlsConfig::verify>, "true", kAny,
            "Send nothing to an endpoint whose certificate is not good, or for another name."},
    Setting{"ca", &kFile, kField<&UpstreamTlsConfig::ca_file>, "", kAny,
            "A PEM file with the certificates to trust, relative to the file that names it; by "
            "default those that the system trusts."}
        .When(kHasText<&UpstreamTlsConfig::ca_file>),
    Setting{"server_name", &kServerName, kField<&UpstreamTlsConfig::server_name>, "", kAny,
            "The name to ask for (SNI) and to find in the certificate, or an IP address to find "
            "there; by default the host of the endpoint's address."}
        .When(kHasText<&UpstreamTlsConfig::server_name>),
    Setting{"client_cert", &kFile, kClientField<&CertificateConfig::certificate_file>, "", kAny,
            "A PEM file with the certificate to show to endpoints that ask for one, and the chain "
            "behind it."}
        .When(kHasClientText<&CertificateConfig::certificate_file>),
    Setting{"client_key", &kSection, kField<&UpstreamTlsConfig::client>, "", kAny,
            "The private key of \"client_cert\"."}
        .Of(kKey)
        .When(kHasClientText<&CertificateConfig::key_file>),
    Setting{"ca_pem", &kBody, kField<&UpstreamTlsConfig::ca_pem>, "", kAny,
            "What stands in \"ca\"."}
        .When(kHasText<&UpstreamTlsConfig::ca_pem>)
        .Internal(),
    Setting{"client_chain_pem", &kBody, kClientField<&CertificateConfig::chain_pem>, "", kAny,
            "What stands in \"client_cert\"."}
        .When(kHasClientText<&CertificateConfig::chain_pem>)
        .Internal(),
    Setting{"client_key_pem", &kBody, kClientField<&CertificateConfig::key_pem>, "", kAny,
            "What stands in the file of \"client_key\"."}
        .When(kHasClientText<&CertificateConfig::key_pem>)
        .Internal(),
};
void CheckUpstreamTls(SettingReader& reader, const JsonNode& node, const std::string& path,
                      void* owner);
inline constexpr Section kUpstreamTls{"tls", kUpstreamTlsSettings, &CheckUpstreamTls};

inline constexpr std::array<std::string_view, 2> kBalanceWords = {"round_robin",
                                                                  "least_connections"};
inline constexpr std::array kUpstreamSettings = {
    Setting{"endpoints", &kEndpoints, kField<&UpstreamConfig::endpoints>, "", kAny,
            "Where requests go; at least one."}
        .Of(kEndpoint)
        .Required(),
    Setting{"balance", &kChoice, kField<&UpstreamConfig::balance>, "round_robin", kAny,
            "How an endpoint is chosen."}
        .OneOf(kBalanceWords),
    Setting{"max_connections_per_endpoint", &kCountOrOff,
            kField<&UpstreamConfig::max_connections_per_endpoint>, "off", Between(1, 65535),
            "Of all workers together, each has its share; exchanges beyond it wait in the queue."},
    Setting{"queue", &kSection, kField<&UpstreamConfig::queue>, "", kAny,
            "Exchanges that wait for a connection."}
        .Of(kQueue),
    Setting{"retry", &kSection, kField<&UpstreamConfig::retry>, "", kAny,
            "Trying again, only when the request cannot have been acted on."}
        .Of(kRetry),
    Setting{"tls", &kSection,
            [](void* owner) -> void* {
              auto& tls = static_cast<UpstreamConfig*>(owner)->tls;
              return tls ? &*tls : &tls.emplace();
            },
            "", kAny, "Endpoints are spoken to over TLS: {} for the defaults."}
        .Of(kUpstreamTls)
        .When([](const void* owner) {
          return static_cast<const UpstreamConfig*>(owner)->tls.has_value();
        }),
};
void CheckUpstream(SettingReader& reader, const JsonNode& node, const std::string& path,
                   void* owner);
inline constexpr Section kUpstream{"upstream", kUpstreamSettings, &CheckUpstream};

inline constexpr std::array kSystemRootsSettings = {
    Setting{"file", &kFile, kField<&SystemRoots::file>, "", kAny, "Where they were found."},
    Setting{"pem", &kBody, kField<&SystemRoots::pem>, "", kAny, "What stands in it."},
};
inline constexpr Section kSystemRoots{"system roots", kSystemRootsSettings};

inline constexpr ListAccess kUpstreamList{
    [](void* owner) -> void* { return &static_cast<Config*>(owner)->upstreams.emplace_back(); },
    [](const void* owner) { return static_cast<const Config*>(owner)->upstreams.size(); },
    [](const void* owner, std::size_t i) -> const void* {
      return &static_cast<const Config*>(owner)->upstreams[i];
    },
    [](void* element) -> std::string& { return static_cast<UpstreamConfig*>(element)->name; }};

}  // namespace tidegate::settings
