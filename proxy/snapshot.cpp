#include "proxy/snapshot.h"

#include <algorithm>
#include <utility>

namespace tidegate {

Snapshot::Snapshot(const Parts& parts, Config config, const Snapshot* previous)
    : config_(std::move(config)),
      router_(config_),
      tls_(parts.tls),
      client_tls_(parts.client_tls),
      listener_rules_(MakeListenerRules(config_, parts.https_ports)),
      workers_(parts.workers) {
  limits_.max_head_bytes = config_.limits.max_header_bytes;
  limits_.max_fields = config_.limits.max_headers;
  limits_.max_url_bytes = config_.limits.max_url_bytes;
  if (config_.logging.access) {
    access_formatter_ = std::make_unique<AccessFormatter>(*config_.logging.access);
  }
  for (const UpstreamConfig& upstream : config_.upstreams) {
    std::shared_ptr<ClientTls> tls = client_tls_.Of(upstream);
    if (previous != nullptr) {
      auto same = previous->upstreams_.find(upstream.name);
      if (same != previous->upstreams_.end() && same->second->config() == upstream &&
          same->second->tls() == tls) {
        upstreams_.insert(*same);
        continue;
      }
    }
    upstreams_.emplace(upstream.name,
                       std::make_shared<Upstream>(parts.loop, parts.buffers, parts.resolver,
                                                  parts.counters, upstream, std::move(tls)));
  }
  for (const RouteConfig& route : config_.routes) {
    const auto* forward = std::get_if<ForwardAction>(&route.action);
    upstream_of_route_.push_back(forward != nullptr ? upstreams_.at(forward->upstream).get()
                                                    : nullptr);
  }
}

Upstream& Snapshot::UpstreamOf(const RouteConfig& route) const {
  Upstream* upstream = upstream_of_route_[static_cast<std::size_t>(&route - config_.routes.data())];
  TG_CHECK(upstream != nullptr);
  return *upstream;
}

void Snapshot::PutInForce() const {
  for (const auto& [name, upstream] : upstreams_) {
    upstream->Configure(limits_, config_.timeouts.upstream_idle, workers_);
  }
}

}  // namespace tidegate
