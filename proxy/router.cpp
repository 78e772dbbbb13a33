#include "proxy/router.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace tidegate {
namespace {

// A name in DNS has at most 253 octets (RFC 1035); what is longer is nobody's name.
constexpr std::size_t kMaxHostOctets = 255;

std::string_view WithoutTrailingDot(std::string_view host) {
  if (host.ends_with('.')) {
    host.remove_suffix(1);
  }
  return host;
}

constexpr std::uint32_t BitOf(Method method) {
  return std::uint32_t{1} << static_cast<unsigned>(method);
}

std::uint32_t MethodBits(const std::vector<std::string>& names) {
  std::uint32_t bits = 0;
  for (const std::string& name : names) {
    Method method = MethodOf(name);
    bits |= BitOf(method);
    if (method == Method::kGet) {
      bits |= BitOf(Method::kHead);
    }
  }
  return bits;
}

std::size_t CommonPrefixLength(std::string_view a, std::string_view b) {
  std::size_t limit = std::min(a.size(), b.size());
  std::size_t length = 0;
  while (length < limit && a[length] == b[length]) {
    ++length;
  }
  return length;
}

bool EndsAtSegment(std::string_view prefix, std::string_view path) {
  return path.size() == prefix.size() || prefix.back() == '/' || path[prefix.size()] == '/';
}

std::string_view RoutedPath(const RequestHead& request) {
  std::string_view path = request.path();
  return path == "*" ? std::string_view("/") : path;
}

void AddOnce(std::vector<std::string_view>& names, std::string_view name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    names.push_back(name);
  }
}

}  // namespace

Router::Router(const Config& config) {
  for (const RouteConfig& route : config.routes) {
    if (route.hosts.empty()) {
      any_.Add(route);
    }
    for (std::string_view host : route.hosts) {
      host = WithoutTrailingDot(host);
      if (host.starts_with("*.")) {
        wildcards_[std::string(host.substr(2))].Add(route);
      } else {
        exact_[std::string(host)].Add(route);
      }
    }
  }
  any_.Finish();
  for (auto& [host, table] : exact_) {
    table.Finish();
  }
  for (auto& [host, table] : wildcards_) {
    table.Finish();
  }
}

Router::Match Router::Find(const RequestHead& request) const {
  Match match;
  std::string_view path = RoutedPath(request);
  WalkHosts(request, [&](const PathTable& table) {
    match.route = table.Find(path, request);
    return match.route != nullptr;
  });
  if (match.route != nullptr) {
    return match;
  }
  std::vector<std::string_view> methods;
  WalkHosts(request, [&](const PathTable& table) {
    table.CollectMethods(path, methods, match.method_mismatch);
    return false;
  });
  for (std::string_view method : methods) {
    match.allow.append(match.allow.empty() ? "" : ", ").append(method);
  }
  return match;
}

template <class Visit>
void Router::WalkHosts(const RequestHead& request, Visit visit) const {
  bool named = !(exact_.empty() && wildcards_.empty());
  std::string_view host = named ? WithoutTrailingDot(request.host()) : std::string_view();
  if (!host.empty() && host.size() <= kMaxHostOctets) {
    std::array<char, kMaxHostOctets> buffer;
    for (std::size_t i = 0; i < host.size(); ++i) {
      char c = host[i];
      buffer[i] = c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    }
    std::string_view name(buffer.data(), host.size());
    if (auto found = exact_.find(name); found != exact_.end() && visit(found->second)) {
      return;
    }
    // Each suffix that begins after a dot, the longest first.
    std::size_t dot = wildcards_.empty() ? std::string_view::npos : name.find('.');
    while (dot != std::string_view::npos) {
      name.remove_prefix(dot + 1);
      if (auto found = wildcards_.find(name); found != wildcards_.end() && visit(found->second)) {
        return;
      }
      dot = name.find('.');
    }
  }
  if (!any_.empty()) {
    visit(any_);
  }
}

bool Router::Takes(const Entry& entry, const RequestHead& request) {
  if (request.method != Method::kOther) {
    return (entry.methods & BitOf(request.method)) != 0;
  }
  return entry.route->methods.empty() ||
         (entry.has_other_methods && std::ranges::find(entry.route->methods, request.method_name) !=
                                         entry.route->methods.end());
}

void Router::PathTable::Add(const RouteConfig& route) {
  std::uint32_t methods = MethodBits(route.methods);
  Entry entry{.route = &route,
              .methods = route.methods.empty() ? ~std::uint32_t{0} : methods,
              .has_other_methods = (methods & BitOf(Method::kOther)) != 0};
  // Sorted in Finish: inserting in place would be quadratic with thousands of routes.
  prefixes_.push_back(Prefix{.text = route.path, .entries = {entry}});
}

void Router::PathTable::Finish() {
  // Routes stand in one array in the order of the file, so their addresses are that order. (Not
  // std::stable_sort: clang finds deprecated code in that of libstdc++ 12.)
  std::ranges::sort(prefixes_, [](const Prefix& a, const Prefix& b) {
    int order = a.text.compare(b.text);
    return order != 0 ? order < 0 : a.entries.front().route < b.entries.front().route;
  });
  std::vector<Prefix> merged;
  for (Prefix& prefix : prefixes_) {
    if (!merged.empty() && merged.back().text == prefix.text) {
      merged.back().entries.push_back(prefix.entries.front());
    } else {
      merged.push_back(std::move(prefix));
    }
  }
  prefixes_ = std::move(merged);
  // What is a prefix of a text sorts before it, and so does all that begins with that prefix: the
  // parent is the predecessor or one of its parents.
  for (std::uint32_t i = 1; i < prefixes_.size(); ++i) {
    std::uint32_t parent = i - 1;
    while (parent != kNone && !prefixes_[i].text.starts_with(prefixes_[parent].text)) {
      parent = prefixes_[parent].parent;
    }
    prefixes_[i].parent = parent;
  }
}

// The last prefix that sorts at or before the path shares with it every prefix that the path has:
// that one and its parents are all candidates.
template <class Visit>
void Router::PathTable::Walk(std::string_view path, Visit visit) const {
  auto after = prefixes_.end();
  if (prefixes_.size() > 1) {
    after = std::upper_bound(
        prefixes_.begin(), prefixes_.end(), path,
        [](std::string_view text, const Prefix& prefix) { return text < prefix.text; });
  }
  if (after == prefixes_.begin()) {
    return;
  }
  auto index = static_cast<std::uint32_t>(after - prefixes_.begin() - 1);
  std::size_t common = CommonPrefixLength(prefixes_[index].text, path);
  while (index != kNone) {
    const Prefix& prefix = prefixes_[index];
    if (prefix.text.size() <= common && EndsAtSegment(prefix.text, path) && visit(prefix)) {
      return;
    }
    index = prefix.parent;
  }
}

const RouteConfig* Router::PathTable::Find(std::string_view path,
                                           const RequestHead& request) const {
  const RouteConfig* route = nullptr;
  Walk(path, [&](const Prefix& prefix) {
    for (const Entry& entry : prefix.entries) {
      if (Takes(entry, request)) {
        route = entry.route;
        return true;
      }
    }
    return false;
  });
  return route;
}

void Router::PathTable::CollectMethods(std::string_view path,
                                       std::vector<std::string_view>& methods,
                                       bool& matched) const {
  Walk(path, [&](const Prefix& prefix) {
    matched = true;
    for (const Entry& entry : prefix.entries) {
      for (const std::string& method : entry.route->methods) {
        AddOnce(methods, method);
        if (method == "GET") {
          AddOnce(methods, "HEAD");
        }
      }
    }
    return false;
  });
}

}  // namespace tidegate
