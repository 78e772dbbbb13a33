#include "common/config_check.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/text.h"

namespace tidegate {
namespace {

// Where an element of a list was given.
struct Element {
  // The whole element, or the value of a short form.
  const JsonNode* node = nullptr;
  // Of members: the key in the file.
  Place place;
  std::string path;
};

// The elements of a list in the order of the Config.
std::vector<Element> ElementsOf(const JsonNode& root, std::string_view list_key,
                                std::string_view short_key) {
  std::vector<Element> elements;
  if (const JsonNode* list = root.Find(list_key); list != nullptr) {
    for (std::size_t i = 0; i < list->items.size(); ++i) {
      elements.push_back({&list->items[i], list->items[i].place, ItemPath(list_key, i)});
    }
    for (const JsonMember& member : list->members) {
      elements.push_back({&member.value, member.key_place, MemberPath(list_key, member.key)});
    }
  }
  if (const JsonNode* node = root.Find(short_key);
      node != nullptr && node->kind != JsonNode::Kind::kNull) {
    elements.push_back({node, node->place, std::string(short_key)});
  }
  return elements;
}

// The value of `key` in the element, or the element itself for short forms and what has no such
// key.
const JsonNode& PartOf(const Element& element, std::string_view key) {
  const JsonNode* part = element.node->Find(key);
  return part == nullptr ? *element.node : *part;
}

class ReferenceCheck {
 public:
  ReferenceCheck(const JsonNode& root, const Config& config, Diagnostics& diagnostics)
      : config_(config),
        diagnostics_(diagnostics),
        listeners_(ElementsOf(root, "listeners", "listen")),
        upstreams_(ElementsOf(root, "upstreams", "upstream")),
        routes_(ElementsOf(root, "routes", "upstream")),
        certificates_(ElementsOf(root, "certificates", "")),
        limits_(root.Find("limits")) {}

  void Run() {
    CheckListeners();
    CheckUpstreams();
    CheckRouteNames();
    CheckRouteUpstreams();
    CheckShadowedRoutes();
    CheckLimits();
    CheckCertificates();
    CheckRedirects();
  }

 private:
  using Known = std::map<std::string, const Element*>;

  void ReportTwice(const Element& first, const Element& element, const std::string& value,
                   std::string_view key, std::string_view what) {
    const JsonNode& part = PartOf(element, key);
    std::string path = &part == element.node ? element.path : MemberPath(element.path, key);
    diagnostics_.AddError(part.place, path,
                          fmt::format("{} \"{}\" is taken, by {} at {}", what, value, first.path,
                                      diagnostics_.LineReference(PartOf(first, key).place)));
  }

  void CheckName(Known& known, const std::string& name, const Element& element) {
    auto [first, is_new] = known.try_emplace(name, &element);
    if (!is_new) {
      ReportTwice(*first->second, element, name, "name", "the name");
    }
  }

  // What nobody else may bind: ":80" takes the port in both families.
  static std::vector<std::string> ClaimsOf(const Address& bind) {
    if (bind.kind != Address::Kind::kTcp) {
      return {bind.ToString()};
    }
    if (bind.port == 0) {
      // The kernel finds a free port for each; an address that was at fault looks the same.
      return {};
    }
    return bind.host.empty() ? std::vector<std::string>{fmt::format("0.0.0.0:{}", bind.port),
                                                        fmt::format("[::]:{}", bind.port)}
                             : std::vector<std::string>{bind.ToString()};
  }

  void CheckListeners() {
    Known names;
    Known claimed;
    for (std::size_t i = 0; i < std::min(config_.listeners.size(), listeners_.size()); ++i) {
      const ListenerConfig& listener = config_.listeners[i];
      CheckName(names, listener.name, listeners_[i]);
      const Element* first = nullptr;
      for (const std::string& claim : ClaimsOf(listener.bind)) {
        auto [known, is_new] = claimed.try_emplace(claim, &listeners_[i]);
        first = is_new ? first : known->second;
      }
      if (first != nullptr) {
        ReportTwice(*first, listeners_[i], listener.bind.ToString(), "bind", "the address");
      }
    }
  }

  void CheckUpstreams() {
    Known names;
    for (std::size_t i = 0; i < std::min(config_.upstreams.size(), upstreams_.size()); ++i) {
      const UpstreamConfig& upstream = config_.upstreams[i];
      // Duplicate keys are found while reading; this is the short form beside an upstream called
      // "default".
      CheckName(names, upstream.name, upstreams_[i]);
      const JsonNode* endpoints = upstreams_[i].node->Find("endpoints");
      std::set<std::string> addresses;
      for (std::size_t k = 0;
           endpoints != nullptr && k < std::min(upstream.endpoints.size(), endpoints->items.size());
           ++k) {
        std::string address = upstream.endpoints[k].address.ToString();
        if (!addresses.insert(address).second && upstream.endpoints[k].address != Address{}) {
          diagnostics_.AddWarning(
              endpoints->items[k].place, ItemPath(MemberPath(upstreams_[i].path, "endpoints"), k),
              fmt::format("the endpoint {} is given twice", address), "remove one of them");
        }
      }
    }
  }

  void CheckRouteNames() {
    Known names;
    for (std::size_t i = 0; i < std::min(config_.routes.size(), routes_.size()); ++i) {
      CheckName(names, config_.routes[i].name, routes_[i]);
    }
  }

  void CheckRouteUpstreams() {
    std::vector<std::string_view> known;
    for (const UpstreamConfig& upstream : config_.upstreams) {
      known.push_back(upstream.name);
    }
    std::set<std::string_view> used;
    // Without any route that is the fault, and with a wrong name the upstream that it meant only
    // looks unused.
    bool all_known = !config_.routes.empty();
    for (std::size_t i = 0; i < std::min(config_.routes.size(), routes_.size()); ++i) {
      const auto* forward = std::get_if<ForwardAction>(&config_.routes[i].action);
      if (forward == nullptr) {
        continue;
      }
      used.insert(forward->upstream);
      if (std::ranges::find(known, forward->upstream) != known.end()) {
        continue;
      }
      all_known = false;
      const JsonNode* node = routes_[i].node->Find("upstream");
      if (node != nullptr && !node->unset && !forward->upstream.empty()) {
        ReportUnknownUpstream(*node, MemberPath(routes_[i].path, "upstream"), forward->upstream,
                              known);
      }
    }
    for (std::size_t i = 0; all_known && i < std::min(config_.upstreams.size(), upstreams_.size());
         ++i) {
      if (!used.contains(config_.upstreams[i].name)) {
        diagnostics_.AddWarning(upstreams_[i].place, upstreams_[i].path,
                                "no route uses this upstream");
      }
    }
  }

  void ReportUnknownUpstream(const JsonNode& node, const std::string& path, const std::string& name,
                             const std::vector<std::string_view>& known) {
    std::string suggestion;
    if (auto nearest = Nearest(name, known)) {
      suggestion = fmt::format("did you mean \"{}\"?", *nearest);
    } else if (auto address = ParseAddress(name); address) {
      suggestion = "a route takes the name of an upstream; give it this endpoint";
    } else if (known.empty()) {
      suggestion = "there are no upstreams";
    } else if (known.size() <= 5) {
      suggestion = fmt::format("there is {}", QuotedChoice(known));
    }
    diagnostics_.AddError(node.place, path, fmt::format("there is no upstream \"{}\"", name),
                          std::move(suggestion));
  }

  // A route never matches if, for each of its hosts, earlier routes of the same host and path take
  // all of its methods: then they are exactly as specific, and the first wins.
  void CheckShadowedRoutes() {
    struct Earlier {
      // Empty: every method.
      const std::vector<std::string>* methods;
      std::size_t index;
    };
    std::map<std::pair<std::string, std::string>, std::vector<Earlier>> seen;
    for (std::size_t i = 0; i < std::min(config_.routes.size(), routes_.size()); ++i) {
      const RouteConfig& route = config_.routes[i];
      if (HasReadFault(routes_[i], route)) {
        continue;
      }
      std::vector<std::string> hosts =
          route.hosts.empty() ? std::vector<std::string>{""} : route.hosts;
      std::size_t by = 0;
      bool shadowed = std::ranges::all_of(hosts, [&](const std::string& host) {
        std::set<std::string_view> left(route.methods.begin(), route.methods.end());
        for (const Earlier& earlier : seen[{host, route.path}]) {
          by = earlier.index;
          if (earlier.methods->empty()) {
            return true;
          }
          for (const std::string& method : *earlier.methods) {
            left.erase(method);
            // The router lets GET stand for HEAD.
            if (method == "GET") {
              left.erase("HEAD");
            }
          }
          if (!route.methods.empty() && left.empty()) {
            return true;
          }
        }
        return false;
      });
      if (shadowed) {
        diagnostics_.AddWarning(
            routes_[i].place, routes_[i].path,
            fmt::format(
                "this route never matches: {} at {} has the same host and path and comes first",
                routes_[by].path, diagnostics_.LineReference(routes_[by].place)));
        continue;
      }
      for (const std::string& host : hosts) {
        seen[{host, route.path}].push_back({&route.methods, i});
      }
    }
  }

  // True if what says which requests match was wrong: the default in its place says nothing.
  static bool HasReadFault(const Element& element, const RouteConfig& route) {
    const JsonNode& node = *element.node;
    if (node.kind != JsonNode::Kind::kObject) {
      return node.kind != JsonNode::Kind::kString;
    }
    const JsonNode* host = node.Find("host");
    const JsonNode* path = node.Find("path");
    const JsonNode* methods = node.Find("methods");
    std::size_t host_count = host == nullptr                        ? 0
                             : host->kind == JsonNode::Kind::kArray ? host->items.size()
                                                                    : 1;
    return host_count != route.hosts.size() || (path != nullptr && path->text != route.path) ||
           (methods != nullptr && methods->items.size() != route.methods.size());
  }

  void CheckLimits() {
    const LimitsConfig& limits = config_.limits;
    if (limits_ != nullptr && limits.max_url_bytes > limits.max_header_bytes) {
      const JsonNode* url = limits_->Find("max_url_bytes");
      diagnostics_.AddWarning(
          url == nullptr ? limits_->place : url->place, "limits.max_url_bytes",
          fmt::format("{} is more than max_header_bytes ({}), which counts the URL too",
                      FormatSize(limits.max_url_bytes), FormatSize(limits.max_header_bytes)));
    }
  }

  void CheckCertificates() {
    Known files;
    for (std::size_t i = 0; i < std::min(config_.certificates.size(), certificates_.size()); ++i) {
      const std::string& file = config_.certificates[i].certificate_file;
      auto [first, is_new] = files.try_emplace(file, &certificates_[i]);
      if (!is_new && !file.empty()) {
        ReportTwice(*first->second, certificates_[i], file, "cert", "the certificate");
      }
    }
    bool wanted = false;
    for (std::size_t i = 0; i < std::min(config_.listeners.size(), listeners_.size()); ++i) {
      if (!config_.listeners[i].tls) {
        continue;
      }
      wanted = true;
      if (certificates_.empty()) {
        diagnostics_.AddError(PartOf(listeners_[i], "tls").place,
                              MemberPath(listeners_[i].path, "tls"), "TLS without a certificate",
                              "add \"certificates\": [ { \"cert\": \"site.pem\", \"key\": { "
                              "\"file\": \"site.key\" } } ]");
      }
    }
    if (!certificates_.empty() && !wanted) {
      diagnostics_.AddWarning(certificates_.front().place, "certificates",
                              "no listener has \"tls\", so nobody sees them");
    }
  }

  // Where proxy/listener_rules.h sends clients to: somebody should be there.
  void CheckRedirects() {
    std::set<std::uint16_t> ports;
    bool has_unknown = false;
    for (const ListenerConfig& listener : config_.listeners) {
      if (listener.tls && listener.bind.kind == Address::Kind::kTcp) {
        ports.insert(listener.bind.port);
      } else if (listener.tls) {
        has_unknown = true;
      }
    }
    if (has_unknown || ports.size() == 1 || ports.contains(443)) {
      return;
    }
    for (std::size_t i = 0; i < std::min(config_.listeners.size(), listeners_.size()); ++i) {
      if (config_.listeners[i].redirect_to_https) {
        diagnostics_.AddWarning(
            PartOf(listeners_[i], "redirect_to_https").place,
            MemberPath(listeners_[i].path, "redirect_to_https"),
            ports.empty() ? "clients are sent to port 443, and no listener has \"tls\""
                          : "clients are sent to port 443, and no listener with \"tls\" has it");
      }
    }
  }

  const Config& config_;
  Diagnostics& diagnostics_;
  std::vector<Element> listeners_;
  std::vector<Element> upstreams_;
  std::vector<Element> routes_;
  std::vector<Element> certificates_;
  // Null if the file has none.
  const JsonNode* limits_;
};

}  // namespace

void CheckReferences(const JsonNode& root, const Config& config, Diagnostics& diagnostics) {
  ReferenceCheck(root, config, diagnostics).Run();
}

}  // namespace tidegate
