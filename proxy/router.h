#pragma once

// Which route serves a request. Built once a configuration snapshot; a lookup allocates nothing.
//
// Of all routes whose host, path and method match, the most specific wins:
//   1. host: an exact name, then a wildcard (the longest suffix), then any host;
//   2. path: the longest prefix;
//   3. the order of the file.
// A route that matches less specifically is used when a more specific one has no path or no method
// for the request: a host with routes of its own still falls through to the routes of any host.
//
// Hosts are compared without port, without a trailing dot, in any case. "*.example.org" matches any
// name below example.org, not example.org itself.
//
// Paths are compared octet for octet, as received, up to '?': nothing is decoded or cleaned. A
// prefix ends at a segment: "/v1" matches "/v1", "/v1/x" and "/v1?x", not "/v10"; "/v1/" matches
// "/v1/" and "/v1/x", not "/v1". The target "*" (OPTIONS) is routed as "/".
//
// A route with methods takes no others; GET stands for HEAD too (RFC 9110 section 9.3.2), as in
// nginx.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/config.h"
#include "proxy/http/message.h"

namespace tidegate {

class Router {
 public:
  // `config` must outlive the router and what it returns.
  explicit Router(const Config& config);
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  struct Match {
    // Null: nothing serves this request.
    const RouteConfig* route = nullptr;
    // With no route: some route has the host and the path, but none the method (kMethodNotAllowed).
    // False: kNoRoute.
    bool method_mismatch = false;
    // With method_mismatch: the methods that would do, for Allow: "GET, HEAD, POST".
    std::string allow;
  };
  Match Find(const RequestHead& request) const;

 private:
  struct Entry {
    const RouteConfig* route;
    // Bit n: takes the Method of value n.
    std::uint32_t methods;
    // Has methods that Method has no name for; they are in the configuration.
    bool has_other_methods;
  };

  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Prefix {
    std::string text;
    // The longest other prefix of this host that is a prefix of this one.
    std::uint32_t parent = kNone;
    // In the order of the file.
    std::vector<Entry> entries;
  };
  // The routes of one host name, sorted by prefix.
  class PathTable {
   public:
    void Add(const RouteConfig& route);
    // After the last Add.
    void Finish();
    const RouteConfig* Find(std::string_view path, const RequestHead& request) const;
    void CollectMethods(std::string_view path, std::vector<std::string_view>& methods,
                        bool& matched) const;
    bool empty() const { return prefixes_.empty(); }

   private:
    // Calls `visit` for every prefix that matches, the longest first, until it returns true.
    template <class Visit>
    void Walk(std::string_view path, Visit visit) const;
    std::vector<Prefix> prefixes_;
  };

  struct HashText {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  using HostTable = std::unordered_map<std::string, PathTable, HashText, std::equal_to<>>;

  static bool Takes(const Entry& entry, const RequestHead& request);
  // Calls `visit` with each table that the host selects, the most specific first, until it returns
  // true.
  template <class Visit>
  void WalkHosts(const RequestHead& request, Visit visit) const;

  HostTable exact_;
  // By suffix: "example.org" for "*.example.org".
  HostTable wildcards_;
  PathTable any_;
};

}  // namespace tidegate
