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
};
inline constexpr Section kUpstream{"upstream", kUpstreamSettings};

inline constexpr ListAccess kUpstreamList{
    [](void* owner) -> void* { return &static_cast<Config*>(owner)->upstreams.emplace_back(); },
    [](const void* owner) { return static_cast<const Config*>(owner)->upstreams.size(); },
    [](const void* owner, std::size_t i) -> const void* {
      return &static_cast<const Config*>(owner)->upstreams[i];
    },
    [](void* element) -> std::string& { return static_cast<UpstreamConfig*>(element)->name; }};

}  // namespace tidegate::settings
