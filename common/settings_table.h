#pragma once

// The settings of Tidegate, one row each:
//
//   {key, type, where it is kept, default, range, help}
//
// Adding a setting is one row here and one member in config.h. Rows are read from top to bottom,
// whatever the order in the file: what others inherit comes first.

#include <array>

#include "common/settings_fields.h"
#include "common/settings_upstreams.h"

namespace tidegate::settings {

// Listeners.

inline constexpr std::array<std::string_view, 2> kAcceptWords = {"reuseport", "shared"};

inline constexpr std::array<std::string_view, 2> kProfileWords = {"intermediate", "modern"};
inline constexpr std::array<std::string_view, 2> kClientAuthWords = {"required", "optional"};
inline bool HasClientCa(const void* owner) {
  return !static_cast<const TlsConfig*>(owner)->client_ca_file.empty();
}
inline constexpr std::array kTlsSettings = {
    Setting{"profile", &kChoice, kField<&TlsConfig::profile>, "intermediate", kAny,
            "Which versions and ciphers, as Mozilla's guidelines name them: \"modern\" is TLS 1.3, "
            "\"intermediate\" is 1.2 and 1.3."}
        .OneOf(kProfileWords),
    Setting{
        "hsts", &kDurationOrOff, kField<&TlsConfig::hsts>, "off",
        Between(milliseconds(0), hours(24 * 3650)),
        "For how long browsers are to use TLS only (Strict-Transport-Security), in every answer "
        "without that field; \"0s\" makes them forget it."}
        .When(
            [](const void* owner) { return static_cast<const TlsConfig*>(owner)->hsts != kNever; }),
    Setting{"client_ca", &kFile, kField<&TlsConfig::client_ca_file>, "", kAny,
            "A PEM file with the certificates that vouch for clients, relative to the file that "
            "names it; clients are asked for a certificate then."}
        .When(&HasClientCa),
    Setting{"client_ca_pem", &kBody, kField<&TlsConfig::client_ca_pem>, "", kAny,
            "What stands in \"client_ca\"."}
        .When(&HasClientCa)
        .Internal(),
    Setting{"client_auth", &kChoice, kField<&TlsConfig::client_auth>, "required", kAny,
            "\"required\" refuses a client without such a certificate; \"optional\" serves it, and "
            "client_headers tell what was wrong; needs client_ca."}
        .OneOf(kClientAuthWords)
        .When(&HasClientCa),
    Setting{"client_headers", &kFlag, kField<&TlsConfig::client_headers>, "false", kAny,
            "Tell upstreams about the client's certificate: X-Client-Cert-Verify, "
            "X-Client-Cert-Subject and Client-Cert (RFC 9440); needs client_ca."}
        .When(&HasClientCa),
};
void CheckTls(SettingReader& reader, const JsonNode& node, const std::string& path, void* owner);
inline constexpr Section kTls{"tls", kTlsSettings, &CheckTls};

inline constexpr std::array<std::string_view, 3> kProtocolWords = {"h1", "h2", "h2c"};
inline constexpr std::array kListenerSettings = {
    Setting{"name", &kName, kField<&ListenerConfig::name>, "", kAny,
            "What status and logs call it; by default its address."},
    Setting{"bind", &kBindAddress, kField<&ListenerConfig::bind>, "", kAny,
            "The address to accept on: \"127.0.0.1:80\", \":80\" (both families), \"unix:/path\" "
            "or \"systemd:NAME\". Everybody may connect to a unix socket whom its folder lets in."}
        .Required(),
    Setting{"accept", &kChoice, kField<&ListenerConfig::accept>, "reuseport", kAny,
            "One socket for each worker, or one shared by all; unix and systemd sockets are always "
            "shared."}
        .OneOf(kAcceptWords),
    Setting{"trusted_proxies", &kNetworks, kField<&ListenerConfig::trusted_proxies>, "", kAny,
            "For this listener instead of the general list."}
        .Inherits([](const Config& config) -> const void* { return &config.trusted_proxies; }),
    Setting{"tls", &kSection,
            [](void* owner) -> void* {
              auto& tls = static_cast<ListenerConfig*>(owner)->tls;
              return tls ? &*tls : &tls.emplace();
            },
            "", kAny, "Clients speak TLS here: {} for the defaults."}
        .Of(kTls)
        .When([](const void* owner) {
          return static_cast<const ListenerConfig*>(owner)->tls.has_value();
        }),
    Setting{"redirect_to_https", &kFlag, kField<&ListenerConfig::redirect_to_https>, "false", kAny,
            "Send clients to the same address with https (301, or 308 where the method matters); "
            "routes below /.well-known/acme-challenge are served."}
        .When([](const void* owner) {
          return static_cast<const ListenerConfig*>(owner)->redirect_to_https;
        }),
    Setting{"protocols", &kProtocols, kField<&ListenerConfig::protocols>, "", kAny,
            "What clients may speak, the best first: \"h1\", \"h2\" (over TLS), \"h2c\" (HTTP/2 "
            "without TLS, by prior knowledge); [\"h2\", \"h1\"] with TLS, [\"h1\"] without."}
        .OneOf(kProtocolWords)
        .When([](const void* owner) {
          return !static_cast<const ListenerConfig*>(owner)->protocols.empty();
        }),
};

void CheckListener(SettingReader& reader, const JsonNode& node, const std::string& path,
                   void* owner);
inline constexpr Section kListener{"listener", kListenerSettings, &CheckListener};

inline constexpr ListAccess kListenerList{
    [](void* owner) -> void* {
      Config& config = *static_cast<Config*>(owner);
      config.listeners.emplace_back().trusted_proxies = config.trusted_proxies;
      return &config.listeners.back();
    },
    [](const void* owner) { return static_cast<const Config*>(owner)->listeners.size(); },
    [](const void* owner, std::size_t i) -> const void* {
      return &static_cast<const Config*>(owner)->listeners[i];
    },
    [](void* element) -> std::string& { return static_cast<ListenerConfig*>(element)->name; }};

// Certificates.

inline bool HasOcsp(const void* owner) {
  return !static_cast<const CertificateConfig*>(owner)->ocsp_file.empty();
}
inline constexpr std::array kCertificateSettings = {
    Setting{
        "hosts", &kHosts, kField<&CertificateConfig::hosts>, "", kAny,
        "For which names: exact, or \"*.example.org\" for one label below; without it those that "
        "the certificate has."}
        .When([](const void* owner) {
          return !static_cast<const CertificateConfig*>(owner)->hosts.empty();
        }),
    Setting{
        "cert", &kFile, kField<&CertificateConfig::certificate_file>, "", kAny,
        "A PEM file with the certificate and the chain behind it, relative to the file that names "
        "it."}
        .Required(),
    Setting{"key", &kSection, &Same, "", kAny, "The private key of the certificate."}
        .Of(kKey)
        .Required(),
    Setting{"chain_pem", &kBody, kField<&CertificateConfig::chain_pem>, "", kAny,
            "What stands in \"cert\"."}
        .Internal(),
    Setting{"key_pem", &kBody, kField<&CertificateConfig::key_pem>, "", kAny,
            "What stands in the file of \"key\"."}
        .Internal(),
    Setting{
        "ocsp", &kFile, kField<&CertificateConfig::ocsp_file>, "", kAny,
        "A DER file with the issuer's OCSP response, sent to clients that ask for it (stapling), "
        "relative to the file that names it."}
        .When(&HasOcsp),
    Setting{"ocsp_base64", &kBody, kField<&CertificateConfig::ocsp_base64>, "", kAny,
            "What stands in \"ocsp\"."}
        .When(&HasOcsp)
        .Internal(),
};
inline constexpr Section kCertificate{"certificate", kCertificateSettings};

inline constexpr ListAccess kCertificateList{
    [](void* owner) -> void* { return &static_cast<Config*>(owner)->certificates.emplace_back(); },
    [](const void* owner) { return static_cast<const Config*>(owner)->certificates.size(); },
    [](const void* owner, std::size_t i) -> const void* {
      return &static_cast<const Config*>(owner)->certificates[i];
    },
    nullptr};

// What concerns all TLS listeners.

inline constexpr std::array kSharedTlsSettings = {
    Setting{"ticket_rotation", &kDuration, kField<&SharedTlsConfig::ticket_rotation>, "12h",
            Between(minutes(1), hours(24 * 7)),
            "How long one key seals session tickets. It opens them as long again; all workers have "
            "the same keys."},
};
inline constexpr Section kSharedTls{"tls", kSharedTlsSettings};

// What is said about the client.

inline constexpr std::array kForwardedSettings = {
    Setting{"x_forwarded", &kFlag, kField<&ForwardedConfig::x_forwarded>, "true", kAny,
            "Send X-Forwarded-For, -Proto, -Host and -Port to upstreams."},
    Setting{"rfc7239", &kFlag, kField<&ForwardedConfig::rfc7239>, "false", kAny,
            "Send Forwarded (RFC 7239) to upstreams."},
    Setting{"via", &kFlag, kField<&ForwardedConfig::via>, "true", kAny,
            "Add Via in both directions."},
};
inline constexpr Section kForwarded{"forwarded", kForwardedSettings};

// Limits.

inline constexpr std::array kLimitSettings = {
    Setting{
        "max_connections", &kCountOrAuto, kField<&LimitsConfig::max_connections>, "auto",
        Between(1, 10'000'000),
        "Downstream connections of all workers together; auto: what the descriptor limit allows."},
    Setting{"max_connections_per_ip", &kCountOrOff, kField<&LimitsConfig::max_connections_per_ip>,
            "off", Between(1, 10'000'000),
            "Downstream connections of one IPv4 address or IPv6 /64, of all workers together; more "
            "are closed at once. Peers in trusted_proxies and unix sockets do not count."},
    Setting{
        "max_handshakes", &kCount, kField<&LimitsConfig::max_handshakes>, "2000",
        Between(1, 1'000'000),
        "TLS handshakes under way in all workers together; above it the oldest is ended, because "
        "a client that means it is done within a few round trips."}
        .When([](const void* owner) {
          return static_cast<const LimitsConfig*>(owner)->max_handshakes !=
                 LimitsConfig().max_handshakes;
        }),
    Setting{"max_body", &kSizeOrOff, kField<&LimitsConfig::max_body>, "off",
            Between(0, 1ULL << 60U), "The largest request body; more is answered with 413."},
    Setting{"max_header_bytes", &kSize, kField<&LimitsConfig::max_header_bytes>, "32KiB",
            Between(1024, 1U << 20U),
            "The largest head of a request or response, start line included; more is answered with "
            "431."},
    Setting{"max_headers", &kCount, kField<&LimitsConfig::max_headers>, "100", Between(1, 1000),
            "The most header fields of a request or response; more is answered with 431."},
    Setting{"max_url_bytes", &kSize, kField<&LimitsConfig::max_url_bytes>, "16KiB",
            Between(64, 1U << 20U), "The longest request target; more is answered with 414."},
};
inline constexpr Section kLimits{"limits", kLimitSettings};

// Timeouts. Each is about progress in one phase; none limits a whole exchange.

inline constexpr std::array kTimeoutSettings = {
    Setting{"tls_handshake", &kDurationOrOff, kField<&TimeoutsConfig::tls_handshake>, "10s", kWait,
            "From the accept of a connection to the end of its TLS handshake."}
        .When([](const void* owner) {
          // Not written at its default: an older image, which we may go back to, does not know it.
          const auto& timeouts = *static_cast<const TimeoutsConfig*>(owner);
          return timeouts.tls_handshake != TimeoutsConfig().tls_handshake;
        }),
    Setting{"request_head", &kDurationOrOff, kField<&TimeoutsConfig::request_head>, "15s", kWait,
            "From the first octet of a request to the end of its head (408)."},
    Setting{"body_idle", &kDurationOrOff, kField<&TimeoutsConfig::body_idle>, "30s", kWait,
            "Between two pieces of the body of a request (408)."},
    Setting{"body_min_rate", &kByteRateOrOff, kField<&TimeoutsConfig::body_min_rate>, "off",
            Between(1, 1ULL << 30U),
            "The least that a request body must come at, on average, once the client has been "
            "waited for longer than body_idle (408)."},
    Setting{"keepalive", &kDurationOrOff, kField<&TimeoutsConfig::keepalive>, "75s", kWait,
            "How long an idle downstream connection is kept."},
    Setting{"write_idle", &kDurationOrOff, kField<&TimeoutsConfig::write_idle>, "30s", kWait,
            "How long a peer may take nothing of what is written to it."},
    Setting{"tunnel_idle", &kDurationOrOff, kField<&TimeoutsConfig::tunnel_idle>, "1h", kWait,
            "How long a tunnel (WebSocket) may be silent in both directions."},
    Setting{"upstream_connect", &kDurationOrOff, kField<&TimeoutsConfig::upstream_connect>, "3s",
            kWait, "Connecting to an endpoint, its TLS handshake included (504)."},
    Setting{"upstream_response", &kDurationOrOff, kField<&TimeoutsConfig::upstream_response>, "60s",
            kWait,
            "From the end of the request to the head of the response, and between two pieces of "
            "its body (504)."},
    Setting{"upstream_idle", &kDurationOrOff, kField<&TimeoutsConfig::upstream_idle>, "55s", kWait,
            "How long an idle upstream connection is kept; below what the upstream itself allows."},
};
inline constexpr Section kTimeouts{"timeouts", kTimeoutSettings};

// Routes.

inline constexpr std::array kRequestEditSettings = {
    Setting{"set", &kRequestHeaderMap, kField<&HeaderEdits::set>, "", kAny,
            "Replaces every field of the name."},
    Setting{"add", &kHeaderMap, kField<&HeaderEdits::add>, "", kAny,
            "Adds a field beside those that are there."},
    Setting{"remove", &kHeaderNames, kField<&HeaderEdits::remove>, "", kAny,
            "Removes every field of the name."},
};
inline constexpr std::array kResponseEditSettings = {
    Setting{"set", &kHeaderMap, kField<&HeaderEdits::set>, "", kAny,
            "Replaces every field of the name."},
    Setting{"add", &kHeaderMap, kField<&HeaderEdits::add>, "", kAny,
            "Adds a field beside those that are there."},
    Setting{"remove", &kHeaderNames, kField<&HeaderEdits::remove>, "", kAny,
            "Removes every field of the name."},
};
inline constexpr Section kRequestEdits{"request header rules", kRequestEditSettings};
inline constexpr Section kResponseEdits{"response header rules", kResponseEditSettings};

inline constexpr std::array kHeaderRuleSettings = {
    Setting{"request", &kSection, kField<&HeaderRules::request>, "", kAny,
            "Before the request goes to the upstream."}
        .Of(kRequestEdits),
    Setting{"response", &kSection, kField<&HeaderRules::response>, "", kAny,
            "Before the response goes to the client."}
        .Of(kResponseEdits),
};
inline constexpr Section kHeaderRules{"header rules", kHeaderRuleSettings};

inline constexpr std::array kRespondSettings = {
    Setting{"status", &kStatus, kField<&RespondAction::status>, "200", Between(200, 599),
            "The status of the answer."},
    Setting{"body", &kBody, kField<&RespondAction::body>, "", kAny, "The body of the answer."},
    Setting{"headers", &kHeaderMap, kField<&RespondAction::headers>, "", kAny,
            "Header fields of the answer."},
};
void CheckRespond(SettingReader& reader, const JsonNode& node, const std::string& path,
                  void* owner);
inline constexpr Section kRespond{"respond", kRespondSettings, &CheckRespond};

inline constexpr std::array kRedirectSettings = {
    Setting{"to", &kLocation, kField<&RedirectAction::to>, "", kAny,
            "The Location, sent as it is: a URL or a path."}
        .Required(),
    Setting{"status", &kRedirectStatus, kField<&RedirectAction::status>, "302", kAny,
            "301, 302, 303, 307 or 308."},
};
inline constexpr Section kRedirect{"redirect", kRedirectSettings};

// The action of a route, made if another one is there.
template <class Action>
void* ActionOf(void* owner) {
  RouteAction& action = static_cast<RouteConfig*>(owner)->action;
  if (!std::holds_alternative<Action>(action)) {
    action = Action{};
  }
  return &std::get<Action>(action);
}
inline void* UpstreamOf(void* owner) {
  return &static_cast<ForwardAction*>(ActionOf<ForwardAction>(owner))->upstream;
}
template <class Action>
bool HasAction(const void* owner) {
  return std::holds_alternative<Action>(static_cast<const RouteConfig*>(owner)->action);
}

inline constexpr std::array kRouteSettings = {
    Setting{"name", &kName, kField<&RouteConfig::name>, "", kAny,
            "What logs and metrics call it; by default its host and path."},
    Setting{"host", &kHosts, kField<&RouteConfig::hosts>, "", kAny,
            "Which hosts: names, or \"*.example.org\" for all below; without it every host."}
        .When([](const void* owner) {
          return !static_cast<const RouteConfig*>(owner)->hosts.empty();
        }),
    Setting{"path", &kPathPrefix, kField<&RouteConfig::path>, "/", kAny,
            "The beginning of the request's path in whole segments, compared octet for octet."},
    Setting{"methods", &kMethods, kField<&RouteConfig::methods>, "", kAny,
            "Which methods; GET stands for HEAD too. Without it all."}
        .When([](const void* owner) {
          return !static_cast<const RouteConfig*>(owner)->methods.empty();
        }),
    Setting{"strip_prefix", &kPathPrefix, kField<&RouteConfig::strip_prefix>, "", kAny,
            "Taken off the path before the request goes to the upstream; a beginning of \"path\"."}
        .When([](const void* owner) {
          return !static_cast<const RouteConfig*>(owner)->strip_prefix.empty();
        }),
    Setting{"max_body", &kSizeOrOff, kField<&RouteConfig::max_body>, "", Between(0, 1ULL << 60U),
            "For this route instead of limits.max_body."}
        .Inherits([](const Config& config) -> const void* { return &config.limits.max_body; }),
    Setting{"timeouts", &kSection, kField<&RouteConfig::timeouts>, "", kAny,
            "For this route instead of the general ones."}
        .Of(kTimeouts)
        .Inherits([](const Config& config) -> const void* { return &config.timeouts; }),
    Setting{"upstream", &kName, &UpstreamOf, "", kAny,
            "The name of the upstream that requests go to."}
        .When(&HasAction<ForwardAction>),
    Setting{"respond", &kSection, &ActionOf<RespondAction>, "", kAny,
            "An answer that is given at once."}
        .Of(kRespond)
        .When(&HasAction<RespondAction>),
    Setting{"redirect", &kSection, &ActionOf<RedirectAction>, "", kAny, "A redirect."}
        .Of(kRedirect)
        .When(&HasAction<RedirectAction>),
    Setting{"headers", &kSection, kField<&RouteConfig::headers>, "", kAny,
            "Changes of header fields: remove, set, add."}
        .Of(kHeaderRules)
        .When([](const void* owner) {
          return static_cast<const RouteConfig*>(owner)->headers != HeaderRules{};
        }),
};
void CheckRoute(SettingReader& reader, const JsonNode& node, const std::string& path, void* owner);
inline constexpr std::array<std::string_view, 3> kActionKeys = {"upstream", "respond", "redirect"};
inline constexpr Section kRoute{"route", kRouteSettings, &CheckRoute, kActionKeys};

inline constexpr ListAccess kRouteList{
    [](void* owner) -> void* {
      Config& config = *static_cast<Config*>(owner);
      RouteConfig& route = config.routes.emplace_back();
      route.max_body = config.limits.max_body;
      route.timeouts = config.timeouts;
      return &route;
    },
    [](const void* owner) { return static_cast<const Config*>(owner)->routes.size(); },
    [](const void* owner, std::size_t i) -> const void* {
      return &static_cast<const Config*>(owner)->routes[i];
    },
    [](void* element) -> std::string& { return static_cast<RouteConfig*>(element)->name; }};

// Generations.

inline constexpr std::array kUpgradeSettings = {
    Setting{"ready_timeout", &kDuration, kField<&UpgradeConfig::ready_timeout>, "30s",
            Between(milliseconds(1), hours(24)), "How long a new generation may take to be ready."},
    Setting{"probation", &kDuration, kField<&UpgradeConfig::probation>, "5s",
            Between(milliseconds(0), hours(24)),
            "How long the old generation stands by to take over again."},
    Setting{"drain", &kDurationOrOff, kField<&UpgradeConfig::drain>, "30s", kWaitOrNone,
            "How long the old generation may take to finish its exchanges."},
    Setting{"drain_tunnels", &kDurationOrOff, kField<&UpgradeConfig::drain_tunnels>, "5m",
            kWaitOrNone, "The same for tunnels."},
    Setting{"max_generations", &kCount, kField<&UpgradeConfig::max_generations>, "3",
            Between(2, 16), "How many generations may exist; over it the oldest is cut short."},
    Setting{"hand_over", &kFlag, kField<&UpgradeConfig::hand_over>, "true", kAny,
            "Move idle connections and tunnels to the new generation; false lets them end with the "
            "old one."}
        .When([](const void* owner) {
          // Not written at its default: an older image, which we may go back to, does not know it.
          return !static_cast<const UpgradeConfig*>(owner)->hand_over;
        }),
};
inline constexpr Section kUpgrade{"upgrade", kUpgradeSettings};

inline constexpr std::array kShutdownSettings = {
    Setting{"delay", &kDuration, kField<&ShutdownConfig::delay>, "0s",
            Between(milliseconds(0), hours(24)),
            "How long to go on accepting after the order to stop, for load balancers to notice."},
    Setting{"timeout", &kDurationOrOff, kField<&ShutdownConfig::timeout>, "30s", kWaitOrNone,
            "How long exchanges may take to finish then."},
};
inline constexpr Section kShutdown{"shutdown", kShutdownSettings};

// Logs.

inline constexpr std::array kRedactSettings = {
    Setting{"query", &kParameterNames, kField<&AccessLogConfig::redact_query>, "", kAny,
            "Query parameters whose values are not written."},
};
inline constexpr Section kRedact{"redact", kRedactSettings};

inline constexpr std::array kAccessSettings = {
    Setting{"path", &kAccessLog, kField<&AccessLogConfig::path>, "", kAny,
            "A file, \"stdout\" or \"stderr\"."}
        .Required(),
    Setting{"request_headers", &kLoggedHeaders, kField<&AccessLogConfig::request_headers>, "", kAny,
            "Header fields of the request to log."},
    Setting{"redact", &kSection, &Same, "", kAny, "What must not be written."}.Of(kRedact),
};
inline constexpr Section kAccess{"access", kAccessSettings};

inline constexpr std::array<std::string_view, 4> kLevelWords = {"debug", "info", "warn", "error"};
inline constexpr std::array kLoggingSettings = {
    Setting{"level", &kChoice, kField<&LoggingConfig::level>, "info", kAny,
            "How much the error log says."}
        .OneOf(kLevelWords),
    Setting{"error", &kErrorLog, kField<&LoggingConfig::error>, "stderr", kAny,
            "The error log: a file or \"stderr\"."},
    Setting{"access", &kSection,
            [](void* owner) -> void* {
              auto& access = static_cast<LoggingConfig*>(owner)->access;
              return access ? &*access : &access.emplace();
            },
            "", kAny, "The access log, one JSON object a line; off unless given."}
        .Of(kAccess)
        .When([](const void* owner) {
          return static_cast<const LoggingConfig*>(owner)->access.has_value();
        }),
};
inline constexpr Section kLogging{"logging", kLoggingSettings};

// The file.

inline constexpr std::array kRootSettings = {
    Setting{"include", &kIncludes, &Same, "", kAny,
            "More files, relative to this one; patterns are sorted."},
    Setting{"workers", &kWorkersOrAuto, kField<&Config::workers>, "auto", Between(1, 256),
            "How many worker processes; auto: one for each processor."},
    Setting{"user", &kUser, kField<&Config::user>, "", kAny,
            "Whom workers run as when the supervisor is root."}
        .When([](const void* owner) { return !static_cast<const Config*>(owner)->user.empty(); }),
    Setting{"trusted_proxies", &kNetworks, kField<&Config::trusted_proxies>, "", kAny,
            "Peers whose X-Forwarded-* and Forwarded are believed and continued: networks or "
            "\"unix\"."},
    Setting{"forwarded", &kSection, kField<&Config::forwarded>, "", kAny,
            "What upstreams are told about the client."}
        .Of(kForwarded),
    Setting{"limits", &kSection, kField<&Config::limits>, "", kAny, "What clients may take."}.Of(
        kLimits),
    Setting{"timeouts", &kSection, kField<&Config::timeouts>, "", kAny,
            "How long each phase may make no progress."}
        .Of(kTimeouts),
    Setting{"listeners", &kSectionList, &Same, "", kAny, "Where to accept."}.Of(kListener).In(
        kListenerList),
    Setting{
        "certificates", &kSectionList, &Same, "", kAny,
        "Of all TLS listeners, chosen by the name that the client asks for; the first is for the "
        "others."}
        .Of(kCertificate)
        .In(kCertificateList)
        .When([](const void* owner) {
          return !static_cast<const Config*>(owner)->certificates.empty();
        }),
    Setting{"tls", &kSection, kField<&Config::tls>, "", kAny, "What all TLS listeners share."}
        .Of(kSharedTls)
        .When([](const void* owner) {
          // Not written at its default: an older image, which we may go back to, does not know it.
          return static_cast<const Config*>(owner)->tls != SharedTlsConfig();
        }),
    Setting{"watch", &kFlag, kField<&Config::watch>, "false", kAny,
            "Load the files of certificates, keys, \"ocsp\", \"client_ca\", the \"ca\", "
            "\"client_cert\" and \"client_key\" of upstreams, and the system's roots when they "
            "change on disk."}
        .When([](const void* owner) { return static_cast<const Config*>(owner)->watch; }),
    Setting{"upstreams", &kSectionMap, &Same, "", kAny, "Groups of endpoints, by name."}
        .Of(kUpstream)
        .In(kUpstreamList),
    Setting{"system_roots", &kSection, kField<&Config::system_roots>, "", kAny,
            "The certificates that the system trusts."}
        .Of(kSystemRoots)
        .When([](const void* owner) {
          return !static_cast<const Config*>(owner)->system_roots.pem.empty();
        })
        .Internal(),
    Setting{"routes", &kSectionList, &Same, "", kAny,
            "Which request goes where; the most specific wins: exact host, wildcard, any; longest "
            "path; order."}
        .Of(kRoute)
        .In(kRouteList),
    Setting{"listen", &kShortListener, &Same, "", kAny,
            "Short for one listener, named \"default\"."},
    Setting{"upstream", &kShortUpstream, &Same, "", kAny,
            "Short for one upstream with one endpoint, and a route for every request to it; both "
            "are named \"default\"."},
    Setting{"upgrade", &kSection, kField<&Config::upgrade>, "", kAny,
            "How a new generation takes over."}
        .Of(kUpgrade),
    Setting{"shutdown", &kSection, kField<&Config::shutdown>, "", kAny, "How to stop."}.Of(
        kShutdown),
    Setting{"logging", &kSection, kField<&Config::logging>, "", kAny, "What is written where."}.Of(
        kLogging),
};
void CheckRoot(SettingReader& reader, const JsonNode& node, const std::string& path, void* owner);
inline constexpr Section kRoot{"configuration", kRootSettings, &CheckRoot};

}  // namespace tidegate::settings
