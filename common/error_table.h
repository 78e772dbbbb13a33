// The errors of Tidegate, one row each. No include guard: included by error.h and by whoever walks
// the table.
//
//   TG_ERROR(kind, log name, status, side, Proxy-Status error type of RFC 9209 section 2.3)
//
// log name  what `reason` says in the access log; stable, users grep for it
// status    what the client is told while the response head is not sent; 0: nobody is left to tell
// side      who is to blame: kClient, kTidegate, kUpstream

// clang-format off: a table reads by its columns.

// The client.
TG_ERROR(kClientClosed,           "client_closed",            0,   kClient,   "http_request_error")
TG_ERROR(kTlsHandshakeFailed,     "tls_handshake_failed",     0,   kClient,   "tls_protocol_error")
TG_ERROR(kTlsHandshakeEvicted,    "tls_handshake_evicted",    0,   kClient,   "connection_limit_reached")
TG_ERROR(kTlsHandshakeTimeout,    "tls_handshake_timeout",    0,   kClient,   "connection_timeout")
TG_ERROR(kRequestHeadTimeout,     "request_head_timeout",     408, kClient,   "http_request_error")
TG_ERROR(kBodyIdleTimeout,        "body_idle_timeout",        408, kClient,   "http_request_error")
TG_ERROR(kBodyTooSlow,            "body_too_slow",            408, kClient,   "http_request_error")
TG_ERROR(kWriteIdleTimeout,       "write_idle_timeout",       0,   kClient,   "connection_write_timeout")
TG_ERROR(kKeepaliveTimeout,       "keepalive_timeout",        0,   kClient,   "http_request_error")
TG_ERROR(kTunnelIdleTimeout,      "tunnel_idle_timeout",      0,   kClient,   "connection_read_timeout")
TG_ERROR(kBadRequest,             "bad_request",              400, kClient,   "http_request_error")
TG_ERROR(kBadHost,                "bad_host",                 400, kClient,   "http_request_error")
TG_ERROR(kBadTarget,              "bad_target",               400, kClient,   "http_request_error")
TG_ERROR(kMethodNotAllowed,       "method_not_allowed",       405, kClient,   "http_request_denied")
TG_ERROR(kLengthRequired,         "length_required",          411, kClient,   "http_request_error")
TG_ERROR(kBodyTooLarge,           "body_too_large",           413, kClient,   "http_request_denied")
TG_ERROR(kUrlTooLong,             "url_too_long",             414, kClient,   "http_request_denied")
TG_ERROR(kExpectationFailed,      "expectation_failed",       417, kClient,   "http_request_error")
TG_ERROR(kHeadTooLarge,           "head_too_large",           431, kClient,   "http_request_denied")
TG_ERROR(kTooManyFields,          "too_many_fields",          431, kClient,   "http_request_denied")
TG_ERROR(kMethodNotImplemented,   "method_not_implemented",   501, kClient,   "http_request_denied")
TG_ERROR(kBadTransferCoding,      "bad_transfer_coding",      501, kClient,   "http_request_error")
TG_ERROR(kVersionNotSupported,    "version_not_supported",    505, kClient,   "http_request_error")

// Connections of HTTP/2 that we have ended (RFC 9113 section 10.5): each is one line of the access log and one count.
TG_ERROR(kH2Protocol,             "h2_protocol",              0,   kClient,   "http_protocol_error")
TG_ERROR(kH2PrefaceTimeout,       "h2_preface_timeout",       0,   kClient,   "http_request_error")
TG_ERROR(kH2RapidReset,           "h2_rapid_reset",           0,   kClient,   "http_request_denied")
TG_ERROR(kH2ProvokedResets,       "h2_provoked_resets",       0,   kClient,   "http_request_denied")
TG_ERROR(kH2ContinuationFlood,    "h2_continuation_flood",    0,   kClient,   "http_request_denied")
TG_ERROR(kH2HeaderFlood,          "h2_header_flood",          0,   kClient,   "http_request_denied")
TG_ERROR(kH2SettingsFlood,        "h2_settings_flood",        0,   kClient,   "http_request_denied")
TG_ERROR(kH2PingFlood,            "h2_ping_flood",            0,   kClient,   "http_request_denied")
TG_ERROR(kH2PriorityFlood,        "h2_priority_flood",        0,   kClient,   "http_request_denied")
TG_ERROR(kH2EmptyDataFlood,       "h2_empty_data_flood",      0,   kClient,   "http_request_denied")
TG_ERROR(kH2WindowFlood,          "h2_window_flood",          0,   kClient,   "http_request_denied")
TG_ERROR(kH2UnknownFlood,         "h2_unknown_frame_flood",   0,   kClient,   "http_request_denied")
TG_ERROR(kH2StreamFlood,          "h2_stream_flood",          0,   kClient,   "http_request_denied")

// The configuration and this process.
TG_ERROR(kNoRoute,                "no_route",                 404, kTidegate, "destination_not_found")
TG_ERROR(kShutdown,               "shutdown",                 503, kTidegate, "proxy_internal_response")
TG_ERROR(kDrainDeadline,          "drain_deadline",           503, kTidegate, "proxy_internal_response")
TG_ERROR(kClientVerificationChanged, "client_verification_changed", 421, kTidegate, "http_request_denied")
TG_ERROR(kOutOfDescriptors,       "out_of_descriptors",       503, kTidegate, "proxy_internal_error")
TG_ERROR(kConnectionLimit,        "connection_limit",         503, kTidegate, "connection_limit_reached")
TG_ERROR(kQueueFull,              "queue_full",               503, kTidegate, "connection_limit_reached")
TG_ERROR(kQueueTimeout,           "queue_timeout",            503, kTidegate, "connection_limit_reached")
TG_ERROR(kInternal,               "internal",                 500, kTidegate, "proxy_internal_error")

// The upstream.
TG_ERROR(kUpstreamUnresolved,     "upstream_unresolved",      503, kUpstream, "dns_error")
TG_ERROR(kUpstreamUnavailable,    "upstream_unavailable",     503, kUpstream, "destination_unavailable")
TG_ERROR(kUpstreamRefused,        "upstream_refused",         502, kUpstream, "connection_refused")
TG_ERROR(kUpstreamConnectFailed,  "upstream_connect_failed",  502, kUpstream, "destination_unavailable")
TG_ERROR(kUpstreamConnectTimeout, "upstream_connect_timeout", 504, kUpstream, "connection_timeout")
TG_ERROR(kUpstreamTlsHandshake,   "upstream_tls_handshake",   502, kUpstream, "tls_protocol_error")
TG_ERROR(kUpstreamTlsVerify,      "upstream_tls_verify",      502, kUpstream, "tls_certificate_error")
TG_ERROR(kUpstreamTlsAlert,       "upstream_tls_alert",       502, kUpstream, "tls_alert_received")
TG_ERROR(kUpstreamReset,          "upstream_reset",           502, kUpstream, "connection_terminated")
TG_ERROR(kUpstreamClosed,         "upstream_closed",          502, kUpstream, "connection_terminated")
TG_ERROR(kUpstreamResponseTimeout,"upstream_response_timeout",504, kUpstream, "http_response_timeout")
TG_ERROR(kUpstreamWriteTimeout,   "upstream_write_timeout",   504, kUpstream, "connection_write_timeout")
TG_ERROR(kUpstreamBadResponse,    "upstream_bad_response",    502, kUpstream, "http_protocol_error")
TG_ERROR(kUpstreamHeadTooLarge,   "upstream_head_too_large",  502, kUpstream, "http_response_header_section_size")
TG_ERROR(kUpstreamTruncated,      "upstream_truncated",       502, kUpstream, "http_response_incomplete")
TG_ERROR(kUpstreamUpgradeFailed,  "upstream_upgrade_failed",  502, kUpstream, "http_upgrade_failed")

// Below HTTP: what streams, files and channels report. An exchange never ends with one of these; whoever knows the side
// turns it into a row above.
TG_ERROR(kClosed,                 "closed",                   500, kTidegate, "proxy_internal_error")
TG_ERROR(kReset,                  "reset",                    500, kTidegate, "proxy_internal_error")
TG_ERROR(kTimeout,                "timeout",                  500, kTidegate, "proxy_internal_error")
TG_ERROR(kCancelled,              "cancelled",                500, kTidegate, "proxy_internal_error")
TG_ERROR(kSystem,                 "system",                   500, kTidegate, "proxy_internal_error")
TG_ERROR(kProtocol,               "protocol",                 500, kTidegate, "proxy_internal_error")
TG_ERROR(kConfig,                 "config",                   500, kTidegate, "proxy_configuration_error")
// clang-format on
