#pragma once

// The configuration in force, as plain values. Everything is resolved: short forms, defaults,
// includes, variables, what a route inherits. Whoever holds a Config needs no other file. Defaults
// here are those of settings_table.h; a test compares.
//
// Conventions: a Duration of kNever and a size or count of kUnlimited are "off"; std::nullopt is
// "auto". Hosts are in lower case. Names are not empty and are unique among their kind.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/address.h"
#include "common/log_level.h"
#include "common/units.h"

namespace tidegate {

enum class AcceptMode : std::uint8_t { kReusePort, kShared };

// What a TLS listener speaks (proxy/net/tls_context.h): 1.2 and 1.3 with forward secrecy and AEAD
// ciphers only, or 1.3 alone.
enum class TlsProfile : std::uint8_t { kIntermediate, kModern };

// Whether a client must have a certificate that client_ca vouches for, or may.
enum class ClientAuth : std::uint8_t { kRequired, kOptional };

struct TlsConfig {
  TlsProfile profile = TlsProfile::kIntermediate;
  // How long browsers are to come with TLS only (Strict-Transport-Security); kNever: nothing is
  // said. Zero tells them to forget it.
  Duration hsts = kNever;
  // Who vouches for clients: an absolute path, and the certificates that stood in it, as PEM.
  // Empty: clients are not asked for a certificate, and the two below are at their defaults.
  std::string client_ca_file;
  std::string client_ca_pem;
  ClientAuth client_auth = ClientAuth::kRequired;
  // Upstreams are told about the client's certificate (proxy/client_certificate.h).
  bool client_headers = false;
  bool operator==(const TlsConfig&) const = default;
};

// What concerns all TLS listeners: "tls" beside them.
struct SharedTlsConfig {
  // How long a key seals session tickets.
  Duration ticket_rotation = std::chrono::hours(12);
  bool operator==(const SharedTlsConfig&) const = default;
};

// What a listener speaks: HTTP/1.1; HTTP/2 by ALPN; HTTP/2 without TLS, by prior knowledge (RFC
// 9113 section 3.3).
enum class Protocol : std::uint8_t { kH1, kH2, kH2c };

struct ListenerConfig {
  // Without a name in the file: the text of `bind`; "default" for the short form.
  std::string name;
  Address bind;
  // A unix socket cannot be kReusePort; it is kShared whatever the file says by default.
  AcceptMode accept = AcceptMode::kReusePort;
  // Resolved: its own list, or the general one.
  std::vector<Network> trusted_proxies;
  // None: clients speak without TLS.
  std::optional<TlsConfig> tls;
  // Requests are sent to the same address with https (proxy/listener_rules.h). Never with `tls`.
  bool redirect_to_https = false;
  // The best first, each once. Empty: the default, see Protocols().
  std::vector<Protocol> protocols;
  // With TLS h2 and h1, without it h1, unless the file says something else. Never empty.
  std::span<const Protocol> Protocols() const;
  bool operator==(const ListenerConfig&) const = default;
};

inline std::span<const Protocol> ListenerConfig::Protocols() const {
  static constexpr std::array kWithTls = {Protocol::kH2, Protocol::kH1};
  static constexpr std::array kWithoutTls = {Protocol::kH1};
  if (!protocols.empty()) {
    return protocols;
  }
  return tls ? std::span<const Protocol>(kWithTls) : std::span<const Protocol>(kWithoutTls);
}

// One for all TLS listeners, chosen by the name that the client asks for.
struct CertificateConfig {
  // Exact names or "*.example.org" (one label). Empty: those that the certificate has.
  std::vector<std::string> hosts;
  // Absolute paths.
  std::string certificate_file;
  std::string key_file;
  // What stood in them when the configuration was loaded: PEM, the chain from the leaf on.
  std::string chain_pem;
  std::string key_pem;
  // A response of the issuer's OCSP responder, in DER: an absolute path and what stood in it, as
  // Base64. Both empty: there is none.
  std::string ocsp_file;
  std::string ocsp_base64;
  bool operator==(const CertificateConfig&) const = default;
};

struct ForwardedConfig {
  bool x_forwarded = true;
  bool rfc7239 = false;
  bool via = true;
  bool operator==(const ForwardedConfig&) const = default;
};

struct LimitsConfig {
  // Of all workers together; auto: what the descriptor limit allows.
  std::optional<std::uint64_t> max_connections;
  // Of one client address, all workers together: each has its share, rounded up.
  std::uint64_t max_connections_per_ip = kUnlimited;
  // TLS handshakes under way in all workers together: each has its share, rounded up.
  std::uint64_t max_handshakes = 2000;
  std::uint64_t max_body = kUnlimited;
  std::uint64_t max_header_bytes = 32 * 1024;
  std::uint64_t max_headers = 100;
  std::uint64_t max_url_bytes = 16 * 1024;
  bool operator==(const LimitsConfig&) const = default;
};

struct TimeoutsConfig {
  Duration tls_handshake = std::chrono::seconds(10);
  Duration request_head = std::chrono::seconds(15);
  Duration body_idle = std::chrono::seconds(30);
  // Octets a second; kUnlimited: any.
  std::uint64_t body_min_rate = kUnlimited;
  Duration keepalive = std::chrono::seconds(75);
  Duration write_idle = std::chrono::seconds(30);
  Duration tunnel_idle = std::chrono::hours(1);
  Duration upstream_connect = std::chrono::seconds(3);
  Duration upstream_response = std::chrono::seconds(60);
  Duration upstream_idle = std::chrono::seconds(55);
  bool operator==(const TimeoutsConfig&) const = default;
};

enum class Balance : std::uint8_t { kRoundRobin, kLeastConnections };

struct EndpointConfig {
  // Never kSystemd; a TCP host is never empty and the port never 0.
  Address address;
  bool operator==(const EndpointConfig&) const = default;
};

struct QueueConfig {
  // Exchanges that may wait for a connection; 0: none waits.
  std::uint64_t size = 100;
  Duration timeout = std::chrono::seconds(5);
  bool operator==(const QueueConfig&) const = default;
};

struct RetryConfig {
  // Attempts after the first; 0 to 10.
  std::uint64_t attempts = 1;
  // "on": ["connect", "stale_connection"].
  bool on_connect = true;
  bool on_stale_connection = true;
  bool operator==(const RetryConfig&) const = default;
};

// TLS towards the endpoints of an upstream.
struct UpstreamTlsConfig {
  // Only an endpoint whose certificate is good, and for the right name, gets a request.
  bool verify = true;
  // An absolute path; empty: the system's (Config::system_roots).
  std::string ca_file;
  // A host name, or an IP address (IPv6 in brackets): what is asked for and verified. Empty: the
  // host of the endpoint's address.
  std::string server_name;
  // What we show when asked for it; certificate_file is empty: nothing. It has no hosts.
  CertificateConfig client;
  // What stood in ca_file when the configuration was loaded, in PEM.
  std::string ca_pem;
  bool NeedsSystemRoots() const { return verify && ca_file.empty(); }
  bool operator==(const UpstreamTlsConfig&) const = default;
};

struct UpstreamConfig {
  // "default" for the short form.
  std::string name;
  // At least one.
  std::vector<EndpointConfig> endpoints;
  Balance balance = Balance::kRoundRobin;
  // Of all workers together: each has its share, rounded up.
  std::uint64_t max_connections_per_endpoint = kUnlimited;
  QueueConfig queue;
  RetryConfig retry;
  // None: endpoints are spoken to without TLS.
  std::optional<UpstreamTlsConfig> tls;
  bool operator==(const UpstreamConfig&) const = default;
};

using HeaderList = std::vector<std::pair<std::string, std::string>>;

// Applied in this order: remove, set (replaces every field of that name), add. Names as written;
// they match in any case.
struct HeaderEdits {
  HeaderList set;
  HeaderList add;
  std::vector<std::string> remove;
  bool empty() const { return set.empty() && add.empty() && remove.empty(); }
  bool operator==(const HeaderEdits&) const = default;
};

struct HeaderRules {
  HeaderEdits request;
  HeaderEdits response;
  bool operator==(const HeaderRules&) const = default;
};

struct ForwardAction {
  // The name of an upstream that exists.
  std::string upstream;
  bool operator==(const ForwardAction&) const = default;
};

struct RespondAction {
  // 200 to 599.
  int status = 200;
  std::string body;
  HeaderList headers;
  bool operator==(const RespondAction&) const = default;
};

struct RedirectAction {
  // An absolute URL or a path. The Location as it is; if it ends with the authority
  // ("https://example.org"), the request's path and query follow (proxy/error_page.h).
  std::string to;
  // 301, 302, 303, 307 or 308.
  int status = 302;
  bool operator==(const RedirectAction&) const = default;
};

using RouteAction = std::variant<ForwardAction, RespondAction, RedirectAction>;

struct RouteConfig {
  // Without a name in the file: its host and path, e.g. "api.example.org/v1/" or "/".
  std::string name;
  // Exact names or "*.example.org" (any depth below, not the name itself). Empty: any host.
  std::vector<std::string> hosts;
  // A prefix, compared octet for octet, that ends at a segment ("/v1" is not "/v10"); starts with
  // '/'.
  std::string path = "/";
  // Upper case as written; GET stands for HEAD too. Empty: any method.
  std::vector<std::string> methods;
  // A prefix of `path`, or empty. What is left of a target gets a '/' in front if it has none.
  std::string strip_prefix;
  // Resolved: its own, or limits.max_body.
  std::uint64_t max_body = kUnlimited;
  // Resolved: what the route says, the general timeouts otherwise.
  TimeoutsConfig timeouts;
  RouteAction action;
  HeaderRules headers;
  bool operator==(const RouteConfig&) const = default;
};

struct UpgradeConfig {
  Duration ready_timeout = std::chrono::seconds(30);
  Duration probation = std::chrono::seconds(5);
  Duration drain = std::chrono::seconds(30);
  Duration drain_tunnels = std::chrono::minutes(5);
  std::uint64_t max_generations = 3;
  // Live connections go to the new generation instead of ending with the old one.
  bool hand_over = true;
  bool operator==(const UpgradeConfig&) const = default;
};

struct ShutdownConfig {
  Duration delay = Duration::zero();
  Duration timeout = std::chrono::seconds(30);
  bool operator==(const ShutdownConfig&) const = default;
};

struct AccessLogConfig {
  // A file, "stdout" or "stderr".
  std::string path;
  std::vector<std::string> request_headers;
  // Names of query parameters whose values are not written.
  std::vector<std::string> redact_query;
  bool operator==(const AccessLogConfig&) const = default;
};

struct LoggingConfig {
  LogLevel level = LogLevel::kInfo;
  // A file or "stderr".
  std::string error = "stderr";
  // None: no access log.
  std::optional<AccessLogConfig> access;
  bool operator==(const LoggingConfig&) const = default;
};

// Whom the system trusts: one for all upstreams that have no "ca".
struct SystemRoots {
  std::string file;
  // What stood in it when the configuration was loaded. Empty: nobody needs it.
  std::string pem;
  bool operator==(const SystemRoots&) const = default;
};

struct Config {
  std::optional<unsigned> workers;
  // Whom workers run as when the supervisor is root; empty: as the supervisor does.
  std::string user;
  // The general list; listeners carry their own copy.
  std::vector<Network> trusted_proxies;
  // In the order of the file; never empty.
  std::vector<ListenerConfig> listeners;
  // In the order of the file; the first is for clients that name no other.
  std::vector<CertificateConfig> certificates;
  SharedTlsConfig tls;
  // Files of certificates, keys, OCSP responses and authorities that change are loaded by
  // themselves.
  bool watch = false;
  ForwardedConfig forwarded;
  LimitsConfig limits;
  // The general ones: what a request without a route gets, and what is needed before the route is
  // known.
  TimeoutsConfig timeouts;
  // In the order of the file.
  std::vector<UpstreamConfig> upstreams;
  SystemRoots system_roots;
  // In the order of the file; never empty. The most specific wins, then the first.
  std::vector<RouteConfig> routes;
  UpgradeConfig upgrade;
  ShutdownConfig shutdown;
  LoggingConfig logging;
  bool operator==(const Config&) const = default;
};

}  // namespace tidegate
