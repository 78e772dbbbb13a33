// Value types that are objects, the short forms, and what a section checks beyond its single keys.

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/config_reader.h"
#include "common/config_settings.h"
#include "common/config_words.h"
#include "common/settings_table.h"
#include "common/text.h"

namespace tidegate {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kDefaultName = "default";

// Objects.

void ReadObject(SettingReader& reader, const Setting& setting, const JsonNode& node,
                const std::string& path, void* field) {
  reader.ReadSection(*setting.section, node, path, field);
}

Json WriteObject(const Setting& setting, const void* field) {
  return WriteSection(*setting.section, field);
}

Json ObjectSchema(const Setting& setting) {
  return SectionSchema(*setting.section);
}

void ReadObjects(SettingReader& reader, const Setting& setting, const JsonNode& node,
                 const std::string& path, void* field) {
  if (node.kind != JsonNode::Kind::kArray) {
    reader.Expected(node, path, fmt::format("an array of {}s", setting.section->name),
                    node.kind == JsonNode::Kind::kObject ? "write [ { ... } ]" : "");
    return;
  }
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    // Also for an item that is no object: the n-th element belongs to the n-th item.
    reader.ReadSection(*setting.section, node.items[i], ItemPath(path, i),
                       setting.list->append(field));
  }
}

Json WriteObjects(const Setting& setting, const void* field) {
  Json array = Json::array();
  for (std::size_t i = 0; i < setting.list->size(field); ++i) {
    array.push_back(WriteSection(*setting.section, setting.list->at(field, i),
                                 static_cast<const Config*>(field)));
  }
  return array;
}

Json ObjectsSchema(const Setting& setting) {
  return {{"type", "array"}, {"items", SectionSchema(*setting.section)}};
}

void ReadNamedObjects(SettingReader& reader, const Setting& setting, const JsonNode& node,
                      const std::string& path, void* field) {
  if (node.kind != JsonNode::Kind::kObject) {
    reader.Expected(node, path, "an object with a name for each", "write { \"app\": { ... } }");
    return;
  }
  for (const JsonMember& member : node.members) {
    void* element = setting.list->append(field);
    if (Result<std::string> name = CheckName(member.key); name) {
      setting.list->name(element) = *name;
    } else {
      // Kept, so that routes that use it are not at fault too.
      setting.list->name(element) = member.key;
      reader.diagnostics().AddError(member.key_place, path, name.error());
    }
    reader.ReadSection(*setting.section, member.value, MemberPath(path, member.key), element);
  }
}

Json WriteNamedObjects(const Setting& setting, const void* field) {
  Json object = Json::object();
  for (std::size_t i = 0; i < setting.list->size(field); ++i) {
    const void* element = setting.list->at(field, i);
    object[setting.list->name(const_cast<void*>(element))] =
        WriteSection(*setting.section, element);
  }
  return object;
}

Json NamedObjectsSchema(const Setting& setting) {
  return {{"type", "object"}, {"additionalProperties", SectionSchema(*setting.section)}};
}

// Endpoints: an address, or an object with one.

void ReadEndpoints(SettingReader& reader, const Setting& setting, const JsonNode& node,
                   const std::string& path, void* field) {
  if (node.kind != JsonNode::Kind::kArray || node.items.empty()) {
    std::string suggestion = node.kind == JsonNode::Kind::kString && !node.unset
                                 ? fmt::format("write [\"{}\"]", node.text)
                                 : "";
    if (node.kind == JsonNode::Kind::kArray) {
      reader.Fault(node, path, "an upstream needs at least one endpoint");
    } else {
      reader.Expected(node, path, "an array of addresses", std::move(suggestion));
    }
    return;
  }
  auto& endpoints = *static_cast<std::vector<EndpointConfig>*>(field);
  const Setting& address = setting.section->settings.front();
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    const JsonNode& item = node.items[i];
    EndpointConfig& endpoint = endpoints.emplace_back();
    if (item.kind == JsonNode::Kind::kObject) {
      reader.ReadSection(*setting.section, item, ItemPath(path, i), &endpoint);
    } else {
      address.type->read(reader, address, item, ItemPath(path, i), &endpoint.address);
    }
  }
}

Json WriteEndpoints(const Setting& setting, const void* field) {
  const Setting& address = setting.section->settings.front();
  Json array = Json::array();
  for (const EndpointConfig& endpoint : *static_cast<const std::vector<EndpointConfig>*>(field)) {
    array.push_back(address.type->write(address, &endpoint.address));
  }
  return array;
}

Json EndpointsSchema(const Setting& setting) {
  Json address = setting.section->settings.front().type->schema(setting.section->settings.front());
  return {
      {"type", "array"},
      {"minItems", 1},
      {"items", {{"anyOf", Json::array({std::move(address), SectionSchema(*setting.section)})}}}};
}

// The short forms.

Json WriteNothing(const Setting& /*setting*/, const void* /*field*/) {
  return nullptr;
}

void ReadShortListener(SettingReader& reader, const Setting& /*setting*/, const JsonNode& node,
                       const std::string& path, void* field) {
  auto& config = *static_cast<Config*>(field);
  auto& listener = *static_cast<ListenerConfig*>(settings::kListenerList.append(&config));
  listener.name = kDefaultName;
  const Setting& bind = settings::kListenerSettings[1];
  bind.type->read(reader, bind, node, path, &listener.bind);
  if (listener.bind.kind != Address::Kind::kTcp) {
    listener.accept = AcceptMode::kShared;
  }
  reader.Origin(node, MemberPath(ItemPath("listeners", config.listeners.size() - 1), "bind"));
}

void ReadShortUpstream(SettingReader& reader, const Setting& /*setting*/, const JsonNode& node,
                       const std::string& path, void* field) {
  auto& config = *static_cast<Config*>(field);
  UpstreamConfig& upstream = config.upstreams.emplace_back();
  upstream.name = kDefaultName;
  const Setting& address = settings::kEndpointSettings[0];
  address.type->read(reader, address, node, path, &upstream.endpoints.emplace_back().address);
  auto& route = *static_cast<RouteConfig*>(settings::kRouteList.append(&config));
  route.name = kDefaultName;
  route.action = ForwardAction{upstream.name};
  reader.Origin(node, "upstreams.default.endpoints");
  reader.Origin(node, MemberPath(ItemPath("routes", config.routes.size() - 1), "upstream"));
}

Json AddressSchema(const Setting& setting) {
  return kBindAddress.schema(setting);
}

}  // namespace

const ValueType kSection{"object", &ReadObject, &WriteObject, &ObjectSchema};
const ValueType kSectionList{"array of objects", &ReadObjects, &WriteObjects, &ObjectsSchema};
const ValueType kSectionMap{"objects by name", &ReadNamedObjects, &WriteNamedObjects,
                            &NamedObjectsSchema};
const ValueType kEndpoints{"address", &ReadEndpoints, &WriteEndpoints, &EndpointsSchema};
const ValueType kShortListener{"address", &ReadShortListener, &WriteNothing, &AddressSchema};
const ValueType kShortUpstream{"address", &ReadShortUpstream, &WriteNothing, &AddressSchema};

namespace settings {

namespace {

// HTTP/2 has two names: with TLS it is negotiated, without it is known beforehand. Who writes the
// wrong one means the other, or has forgotten the TLS.
void CheckProtocols(SettingReader& reader, const JsonNode& node, const std::string& path,
                    ListenerConfig& listener) {
  const bool with_tls = listener.tls.has_value();
  const Protocol wrong = with_tls ? Protocol::kH2c : Protocol::kH2;
  auto found = std::ranges::find(listener.protocols, wrong);
  if (found != listener.protocols.end()) {
    const JsonNode* list = node.Find("protocols");
    std::string_view word = kProtocolWords[static_cast<std::size_t>(wrong)];
    auto item = std::ranges::find(list->items, word, &JsonNode::text);
    auto index = static_cast<std::size_t>(item - list->items.begin());
    reader.Fault(*item, ItemPath(MemberPath(path, "protocols"), index),
                 with_tls ? "\"h2c\" is HTTP/2 without TLS, and this listener has TLS"
                          : "\"h2\" is HTTP/2 over TLS, and this listener has no \"tls\"",
                 with_tls ? "write \"h2\"" : "write \"h2c\", or add \"tls\": {}");
  }
  // The default is not kept: an older image, which we may go back to, does not know the key.
  if (std::ranges::equal(listener.protocols, ListenerConfig{.tls = listener.tls}.Protocols())) {
    listener.protocols.clear();
  }
}

}  // namespace

void CheckTls(SettingReader& reader, const JsonNode& node, const std::string& path,
              void* /*owner*/) {
  if (HasNearKey(kTls, node, std::array<std::string_view, 1>{"client_ca"})) {
    return;
  }
  for (std::string_view key : {"client_auth", "client_headers"}) {
    if (const JsonNode* value = node.Find(key)) {
      reader.Fault(*value, MemberPath(path, key),
                   fmt::format("\"{}\" without \"client_ca\": nobody vouches for clients", key),
                   "add \"client_ca\": \"ca.pem\"");
    }
  }
}

void CheckListener(SettingReader& reader, const JsonNode& node, const std::string& path,
                   void* owner) {
  auto& listener = *static_cast<ListenerConfig*>(owner);
  if (listener.redirect_to_https && listener.tls) {
    reader.Fault(*node.Find("redirect_to_https"), MemberPath(path, "redirect_to_https"),
                 "clients of this listener speak https already",
                 "move it to the listener without \"tls\"");
  }
  CheckProtocols(reader, node, path, listener);
  if (listener.bind.kind == Address::Kind::kTcp) {
    return;
  }
  // A unix socket has one path, and systemd gives one socket: there is nothing to give each worker.
  const JsonNode* accept = node.Find("accept");
  if (accept != nullptr && accept->text == kAcceptWords[0]) {
    reader.Fault(*accept, MemberPath(path, "accept"),
                 fmt::format("\"{}\" is one socket; reuseport needs one for each worker",
                             listener.bind.ToString()),
                 "write \"shared\"");
  }
  listener.accept = AcceptMode::kShared;
}

void CheckUpstreamTls(SettingReader& reader, const JsonNode& node, const std::string& path,
                      void* owner) {
  const auto& tls = *static_cast<const UpstreamTlsConfig*>(owner);
  const JsonNode* certificate = node.Find("client_cert");
  const JsonNode* key = node.Find("client_key");
  if (certificate != nullptr && key == nullptr &&
      !HasNearKey(kUpstreamTls, node, std::array<std::string_view, 1>{"client_key"})) {
    reader.Fault(*certificate, MemberPath(path, "client_cert"), "a certificate without its key",
                 "add \"client_key\": { \"file\": \"client.key\" }");
  }
  if (key != nullptr && certificate == nullptr &&
      !HasNearKey(kUpstreamTls, node, std::array<std::string_view, 1>{"client_cert"})) {
    reader.Fault(*key, MemberPath(path, "client_key"), "a key without its certificate",
                 "add \"client_cert\": \"client.pem\"");
  }
  const JsonNode* ca = node.Find("ca");
  if (!tls.verify && ca != nullptr) {
    reader.diagnostics().AddWarning(ca->place, MemberPath(path, "ca"),
                                    "nothing is verified, so nobody asks whom this trusts",
                                    "remove \"verify\": false, or this");
  }
}

void CheckUpstream(SettingReader& reader, const JsonNode& node, const std::string& path,
                   void* owner) {
  const auto& upstream = *static_cast<const UpstreamConfig*>(owner);
  const JsonNode* tls = node.Find("tls");
  if (tls == nullptr || !upstream.tls || !upstream.tls->verify ||
      tls->Find("server_name") != nullptr) {
    return;
  }
  for (const EndpointConfig& endpoint : upstream.endpoints) {
    if (endpoint.address.kind == Address::Kind::kUnix) {
      reader.Fault(*tls, MemberPath(path, "tls"),
                   fmt::format("\"{}\" has no name that its certificate could be for",
                               endpoint.address.ToString()),
                   "add \"server_name\": \"app.internal\"");
      return;
    }
  }
}

void CheckRespond(SettingReader& reader, const JsonNode& node, const std::string& path,
                  void* owner) {
  const auto& respond = *static_cast<const RespondAction*>(owner);
  // RFC 9110 section 6.4.1: such a response has no content.
  constexpr std::array<int, 3> kWithoutBody = {204, 205, 304};
  bool without = std::ranges::find(kWithoutBody, respond.status) != kWithoutBody.end();
  const JsonNode* body = node.Find("body");
  if (without && body != nullptr && !respond.body.empty()) {
    reader.Fault(*body, MemberPath(path, "body"),
                 fmt::format("a response with status {} has no body", respond.status),
                 "remove the body");
  }
}

// A route cannot set what is over, or belongs to a connection, before it is known.
void CheckRouteTimeouts(SettingReader& reader, const JsonNode& route, const std::string& path) {
  const JsonNode* timeouts = route.Find("timeouts");
  for (std::string_view key : {"tls_handshake", "request_head", "keepalive", "upstream_idle"}) {
    const JsonNode* value = timeouts == nullptr ? nullptr : timeouts->Find(key);
    if (value != nullptr) {
      reader.Fault(*value, MemberPath(MemberPath(path, "timeouts"), key),
                   fmt::format("\"{}\" is of connections, not of a route", key),
                   "move it to the general \"timeouts\"");
    }
  }
}

void CheckRoute(SettingReader& reader, const JsonNode& node, const std::string& path, void* owner) {
  CheckRouteTimeouts(reader, node, path);
  const auto& route = *static_cast<const RouteConfig*>(owner);
  const JsonNode* strip = node.Find("strip_prefix");
  if (strip == nullptr) {
    return;
  }
  if (!route.path.starts_with(route.strip_prefix)) {
    reader.Fault(*strip, MemberPath(path, "strip_prefix"),
                 fmt::format("\"{}\" is not a beginning of the path \"{}\"", route.strip_prefix,
                             route.path));
  } else if (!HasAction<ForwardAction>(owner)) {
    reader.Fault(*strip, MemberPath(path, "strip_prefix"),
                 "only a route with \"upstream\" sends a path on", "remove this key");
  }
}

void CheckRoot(SettingReader& reader, const JsonNode& node, const std::string& path, void* owner) {
  const auto& config = *static_cast<const Config*>(owner);
  if (config.listeners.empty() &&
      !HasNearKey(kRoot, node, std::array<std::string_view, 2>{"listen", "listeners"})) {
    reader.Fault(node, path, "no listener", "add \"listen\": \":8080\"");
  }
  if (config.routes.empty() &&
      !HasNearKey(kRoot, node, std::array<std::string_view, 2>{"upstream", "routes"})) {
    reader.Fault(node, path, "no route", "add \"upstream\": \"127.0.0.1:3000\", or \"routes\"");
  }
  for (const char* key : {"listeners", "routes"}) {
    const JsonNode* list = node.Find(key);
    bool short_form =
        node.Find(std::string_view(key) == "routes" ? "upstream" : "listen") != nullptr;
    if (list != nullptr && list->kind == JsonNode::Kind::kArray && list->items.empty() &&
        !short_form) {
      reader.Fault(*list, key, fmt::format("there are no {}", key));
    }
  }
}

}  // namespace settings
}  // namespace tidegate
