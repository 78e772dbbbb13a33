#pragma once

// What a configuration says about the requests and answers of one listener: that they belong to
// https, that browsers are to remember it, whose certificates are asked for, and who tells about
// them. Part of the
// snapshot, so that a reload also reaches connections that are open: a name may have been another
// kind of listener when a connection was accepted.

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "common/result.h"
#include "proxy/client_info.h"
#include "proxy/http/message.h"

namespace tidegate {

struct ListenerRules {
  // Of the listener. Empty: of those that no configuration knows any more.
  std::string name;
  // "180 days" as a whole line, `Strict-Transport-Security: max-age=15552000\r\n`; empty: nothing
  // is said.
  std::string strict_transport;
  // Requests are sent to https, at this port; empty: 443.
  bool redirect_to_https = false;
  std::string https_port;
  // Fields that pass for ours about a client's certificate go, whoever sent them.
  bool drops_client_certificates = false;
  // Ours are added.
  bool client_headers = false;
  // Clients are asked for certificates, for which these vouch.
  // Null: they are not.
  std::shared_ptr<const Authorities> authorities;
  // Who has none that is good is not served.
  bool certificate_required = false;
  // The listener is gone, and one that requires certificates may have taken its place.
  bool unknown_verification = false;

  // False for a client whose connection is older than the rules, and was not verified as they
  // demand: where a certificate is required, it has none that these authorities would find good;
  // elsewhere they might find otherwise of the one that it has. A handshake anew would tell. What
  // some of these authorities have found good all of them do: one may be added without a word.
  bool IsVerified(const ServedClient& client) const;
  // Adds Strict-Transport-Security if `head` has none (RFC 6797 section 6.1 allows one). Not for
  // interim heads, nor for clients without TLS (section 7.2).
  void AddStrictTransport(ResponseHead& head) const;
  // True if the answer is a redirect to https. Not for a client that speaks with TLS already, nor
  // for a peer that is trusted and says that its client does, both of which would come back for
  // ever; and not where `route`, which the request
  // matches (null: none), is one for the challenges of ACME (RFC 8555 section 8.3), which come
  // without TLS: its own path begins with /.well-known/acme-challenge.
  bool SendsToHttps(const RequestHead& request, const ClientInfo& client,
                    const RouteConfig* route) const;
  // The redirect: 301 for GET and HEAD, which 301 is sure to keep; 308, which keeps every method
  // and its body, for others. Error: kBadHost, if the request names no host.
  Result<RedirectAction> HttpsRedirect(const RequestHead& request) const;
};

// Of every listener that has any; empty, as with most configurations, if none has.
// `https_ports`: of the listeners with TLS, as they are bound, 0 for a unix socket.
std::vector<ListenerRules> MakeListenerRules(const Config& config,
                                             const std::set<std::uint16_t>& https_ports);
// Those of one listener, null if it has none. One that `all` does not know, because a reload has
// taken it away while its connections go on, may still not pass a certificate off.
const ListenerRules* FindListenerRules(const std::vector<ListenerRules>& all,
                                       std::string_view listener);

}  // namespace tidegate
