#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "proxy/access_log.h"
#include "proxy/client_tls_contexts.h"
#include "proxy/http/h1_decoder.h"
#include "proxy/listener_rules.h"
#include "proxy/router.h"
#include "proxy/tls_contexts.h"
#include "proxy/upstream/upstream.h"

namespace tidegate {

// Everything that one configuration means to a worker. Built by prepare, in force from commit on;
// an exchange keeps the one that it began with, and the last exchange ends it. Never changed after
// it was built.
class Snapshot {
 public:
  // What building takes from the worker, besides the configuration.
  struct Parts {
    Loop& loop;
    BufferPool& buffers;
    Resolver& resolver;
    Counters& counters;
    unsigned workers = 1;
    // Of the configuration.
    TlsContexts tls;
    ClientTlsContexts client_tls;
    // Of the listeners with TLS, as they are bound; 0 for what has no port.
    std::set<std::uint16_t> https_ports;
  };

  // Upstreams of `previous` (may be null) whose configuration and TLS are the same are taken over
  // with their connections.
  Snapshot(const Parts& parts, Config config, const Snapshot* previous);

  const Config& config() const { return config_; }
  const Router& router() const { return router_; }
  const DecoderLimits& limits() const { return limits_; }
  const TlsContexts& tls() const { return tls_; }
  const ClientTlsContexts& client_tls() const { return client_tls_; }
  // Null, as in most configurations: the listener of that name has none.
  const ListenerRules* RulesOf(std::string_view listener) const {
    return listener_rules_.empty() ? nullptr : FindListenerRules(listener_rules_, listener);
  }
  // The upstream of a route whose action is ForwardAction; `route` is one of config().
  Upstream& UpstreamOf(const RouteConfig& route) const;
  // By name.
  const std::map<std::string, std::shared_ptr<Upstream>>& upstreams() const { return upstreams_; }
  // Null: the configuration has no access log.
  AccessFormatter* access_formatter() const { return access_formatter_.get(); }
  // Gives the upstreams what this configuration says about their connections: at commit.
  void PutInForce() const;

 private:
  Config config_;
  Router router_;
  DecoderLimits limits_;
  TlsContexts tls_;
  ClientTlsContexts client_tls_;
  std::vector<ListenerRules> listener_rules_;
  unsigned workers_;
  std::unique_ptr<AccessFormatter> access_formatter_;
  std::map<std::string, std::shared_ptr<Upstream>> upstreams_;
  // By the index of the route; null where it does not forward.
  std::vector<Upstream*> upstream_of_route_;
};

}  // namespace tidegate
