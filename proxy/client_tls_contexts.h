#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/result.h"
#include "proxy/net/client_tls.h"

namespace tidegate {

// What a configuration says about TLS towards upstreams, ready to be used: one context for each
// upstream that has it. Those that trust the system share its certificates.
class ClientTlsContexts {
 public:
  // Error: kConfig, every fault of every file, one a line. Contexts of `previous` (may be null) are
  // kept where nothing about them has changed, and with them the sessions to resume.
  static Result<ClientTlsContexts> Make(const Config& config, const ClientTlsContexts* previous);

  ClientTlsContexts() = default;
  // Null: the upstream has no TLS. It is one of the configuration.
  std::shared_ptr<ClientTls> Of(const UpstreamConfig& upstream) const;
  // What is wrong with the certificates that we show today, one text each. `now` is Unix time in
  // seconds.
  std::vector<std::string> Warnings(std::int64_t now) const;

 private:
  class Maker;
  struct Context {
    // Of everything that it was made of.
    MaterialDigest digest;
    std::shared_ptr<ClientTls> tls;
  };

  // Null until an upstream trusts them.
  SharedRoots system_roots_;
  MaterialDigest system_digest_{};
  // By the name of the upstream.
  std::map<std::string, Context, std::less<>> of_upstream_;
};

}  // namespace tidegate
