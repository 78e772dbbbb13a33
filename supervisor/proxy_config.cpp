#include "supervisor/proxy_config.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/address.h"

namespace tidegate {
namespace {

// People paste what a browser shows.
std::string WithoutScheme(const std::string& text) {
  constexpr std::string_view kScheme = "http://";
  return text.starts_with(kScheme) ? text.substr(kScheme.size()) : text;
}

Error FlagError(const char* flag, const std::string& value, std::string_view fault) {
  return Error(ErrorKind::kConfig, fmt::format("{} {}: {}", flag, value, fault));
}

Result<std::string> EndpointOf(const std::string& value) {
  auto address = ParseAddress(WithoutScheme(value));
  if (!address) {
    return Fail(FlagError("--to", value, address.error().ToString()));
  }
  if (address->kind == Address::Kind::kSystemd) {
    return Fail(FlagError("--to", value, "an endpoint cannot be a socket of systemd"));
  }
  if (address->kind == Address::Kind::kTcp && address->port == 0) {
    return Fail(FlagError("--to", value, "an endpoint needs a port"));
  }
  if (address->kind == Address::Kind::kTcp && address->host.empty()) {
    address->host = "127.0.0.1";
  }
  return address->ToString();
}

}  // namespace

Result<std::string> ProxyConfigText(const std::string& from, const std::vector<std::string>& to) {
  auto bind = ParseAddress(WithoutScheme(from));
  if (!bind) {
    return Fail(FlagError("--from", from, bind.error().ToString()));
  }
  nlohmann::json endpoints = nlohmann::json::array();
  for (const std::string& value : to) {
    auto endpoint = EndpointOf(value);
    if (!endpoint) {
      return Fail(endpoint.error());
    }
    endpoints.push_back(*endpoint);
  }
  nlohmann::json config = {
      {"listeners", {{{"name", "default"}, {"bind", bind->ToString()}}}},
      {"upstreams", {{"default", {{"endpoints", endpoints}}}}},
      {"routes", {{{"upstream", "default"}}}},
  };
  return config.dump(2);
}

}  // namespace tidegate
