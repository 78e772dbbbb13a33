// Value types that are lists or maps of scalars: networks, hosts, methods, header names and values,
// reasons to retry.

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/config_reader.h"
#include "common/config_settings.h"
#include "common/config_source.h"
#include "common/config_words.h"
#include "common/text.h"

namespace tidegate {
namespace {

using Json = nlohmann::ordered_json;
using Strings = std::vector<std::string>;

Json StringArraySchema() {
  return {{"type", "array"}, {"items", {{"type", "string"}}}};
}

// Calls `take(item, path)` for each string of an array.
template <class Take>
void ForEachText(SettingReader& reader, const JsonNode& node, const std::string& path,
                 std::string_view what, Take take) {
  if (node.kind != JsonNode::Kind::kArray) {
    std::string suggestion = node.kind == JsonNode::Kind::kString && !node.unset
                                 ? fmt::format("write [\"{}\"]", node.text)
                                 : "";
    reader.Expected(node, path, fmt::format("an array of {}s", what), std::move(suggestion));
    return;
  }
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    const JsonNode& item = node.items[i];
    if (reader.IsText(item, ItemPath(path, i), "a string")) {
      take(item, ItemPath(path, i));
    }
  }
}

// Lists of texts. The last parameter: what makes two of them the same.
template <auto Check, bool kIgnoringCase>
void TakeText(SettingReader& reader, const JsonNode& item, const std::string& path, Strings& list) {
  Result<std::string> text = Check(item.text);
  if (!text) {
    reader.Fault(item, path, text.error());
    return;
  }
  bool twice = std::ranges::any_of(list, [&](const std::string& known) {
    return kIgnoringCase ? EqualsIgnoringCase(known, *text) : known == *text;
  });
  if (twice) {
    reader.Fault(item, path, fmt::format("\"{}\" is given twice", *text), "remove one of them");
    return;
  }
  list.push_back(std::move(*text));
}

template <auto Check, bool kIgnoringCase>
void ReadTexts(SettingReader& reader, const Setting& setting, const JsonNode& node,
               const std::string& path, void* field) {
  Strings list;
  ForEachText(reader, node, path, setting.type->noun,
              [&](const JsonNode& item, const std::string& item_path) {
                TakeText<Check, kIgnoringCase>(reader, item, item_path, list);
              });
  *static_cast<Strings*>(field) = std::move(list);
}

// An empty list would match nothing, or everything: nobody can tell.
bool RefuseEmpty(SettingReader& reader, const Setting& setting, const JsonNode& node,
                 const std::string& path) {
  if (node.kind == JsonNode::Kind::kArray && node.items.empty()) {
    reader.Fault(node, path, fmt::format("an empty list of {}s", setting.type->noun),
                 "leave the key out to match all");
    return true;
  }
  return false;
}

void ReadHosts(SettingReader& reader, const Setting& setting, const JsonNode& node,
               const std::string& path, void* field) {
  auto& hosts = *static_cast<Strings*>(field);
  if (node.kind == JsonNode::Kind::kString) {
    if (reader.IsText(node, path, "a host")) {
      TakeText<&CheckHostPattern, false>(reader, node, path, hosts);
    }
  } else if (node.kind != JsonNode::Kind::kArray) {
    reader.Expected(node, path, "a host or an array of hosts");
  } else if (!RefuseEmpty(reader, setting, node, path)) {
    ReadTexts<&CheckHostPattern, false>(reader, setting, node, path, field);
  }
}

void ReadMethods(SettingReader& reader, const Setting& setting, const JsonNode& node,
                 const std::string& path, void* field) {
  if (!RefuseEmpty(reader, setting, node, path)) {
    ReadTexts<&CheckMethod, false>(reader, setting, node, path, field);
  }
}

Result<std::string> CheckRemoved(std::string_view text) {
  return CheckHeaderRule(text, /*host_allowed=*/false);
}

Json WriteTexts(const Setting& /*setting*/, const void* field) {
  Json array = Json::array();
  for (const std::string& text : *static_cast<const Strings*>(field)) {
    array.push_back(EscapeVariables(text));
  }
  return array;
}

Json TextsSchema(const Setting& /*setting*/) {
  return StringArraySchema();
}

Json TextOrTextsSchema(const Setting& /*setting*/) {
  return {{"anyOf", Json::array({{{"type", "string"}}, StringArraySchema()})}};
}

// Networks.

void ReadNetworks(SettingReader& reader, const Setting& setting, const JsonNode& node,
                  const std::string& path, void* field) {
  std::vector<Network> networks;
  ForEachText(reader, node, path, setting.type->noun,
              [&](const JsonNode& item, const std::string& item_path) {
                auto network = ParseNetwork(item.text);
                if (!network) {
                  reader.Fault(item, item_path, network.error());
                } else {
                  networks.push_back(*network);
                }
              });
  *static_cast<std::vector<Network>*>(field) = std::move(networks);
}

Json WriteNetworks(const Setting& /*setting*/, const void* field) {
  Json array = Json::array();
  for (const Network& network : *static_cast<const std::vector<Network>*>(field)) {
    array.push_back(network.ToString());
  }
  return array;
}

// Header names with values.

template <bool kHostAllowed>
void ReadHeaderMap(SettingReader& reader, const Setting& /*setting*/, const JsonNode& node,
                   const std::string& path, void* field) {
  if (node.kind != JsonNode::Kind::kObject) {
    reader.Expected(node, path, "an object of header names and values");
    return;
  }
  auto& list = *static_cast<HeaderList*>(field);
  for (const JsonMember& member : node.members) {
    std::string member_path = MemberPath(path, member.key);
    Result<std::string> name = CheckHeaderRule(member.key, kHostAllowed);
    if (!name) {
      reader.diagnostics().AddError(member.key_place, path, name.error());
    } else if (std::ranges::any_of(list, [&](const auto& known) {
                 return EqualsIgnoringCase(known.first, *name);
               })) {
      reader.diagnostics().AddError(member.key_place, path,
                                    fmt::format("the header {} is given twice", *name),
                                    "names match in upper and lower case");
    }
    if (!reader.IsText(member.value, member_path, "a string")) {
      continue;
    }
    Result<std::string> value = CheckHeaderValue(member.value.text);
    if (!value) {
      reader.Fault(member.value, member_path, value.error());
    } else if (name) {
      list.emplace_back(std::move(*name), std::move(*value));
    }
  }
}

Json WriteHeaderMap(const Setting& /*setting*/, const void* field) {
  Json object = Json::object();
  for (const auto& [name, value] : *static_cast<const HeaderList*>(field)) {
    object[name] = EscapeVariables(value);
  }
  return object;
}

Json HeaderMapSchema(const Setting& /*setting*/) {
  return {{"type", "object"}, {"additionalProperties", {{"type", "string"}}}};
}

// Calls `visit(index, item, path)` for each word of a list that is one of the choices; the others
// are faults.
template <class Visit>
void ForEachChoice(SettingReader& reader, const Setting& setting, const JsonNode& node,
                   const std::string& path, const Visit& visit) {
  ForEachText(reader, node, path, setting.type->noun,
              [&](const JsonNode& item, const std::string& item_path) {
                auto found = std::ranges::find(setting.choices, item.text);
                if (found != setting.choices.end()) {
                  visit(static_cast<std::size_t>(found - setting.choices.begin()), item, item_path);
                  return;
                }
                auto nearest = Nearest(item.text, setting.choices);
                reader.Fault(item, item_path,
                             fmt::format("expected {}, not \"{}\"", QuotedChoice(setting.choices),
                                         item.text),
                             nearest ? fmt::format("did you mean \"{}\"?", *nearest) : "");
              });
}

// What may be tried again.

void ReadRetryOn(SettingReader& reader, const Setting& setting, const JsonNode& node,
                 const std::string& path, void* field) {
  auto& retry = *static_cast<RetryConfig*>(field);
  std::array<bool, 2> given{};
  ForEachChoice(
      reader, setting, node, path,
      [&](std::size_t choice, const JsonNode&, const std::string&) { given.at(choice) = true; });
  retry.on_connect = given[0];
  retry.on_stale_connection = given[1];
}

Json WriteRetryOn(const Setting& setting, const void* field) {
  const auto& retry = *static_cast<const RetryConfig*>(field);
  Json array = Json::array();
  if (retry.on_connect) {
    array.push_back(setting.choices[0]);
  }
  if (retry.on_stale_connection) {
    array.push_back(setting.choices[1]);
  }
  return array;
}

Json WordsSchema(const Setting& setting) {
  Json schema = StringArraySchema();
  schema["items"] = kChoice.schema(setting);
  return schema;
}

// What a listener speaks.

void ReadProtocols(SettingReader& reader, const Setting& setting, const JsonNode& node,
                   const std::string& path, void* field) {
  auto& protocols = *static_cast<std::vector<Protocol>*>(field);
  if (node.kind == JsonNode::Kind::kArray && node.items.empty()) {
    reader.Fault(node, path, "an empty list of protocols", "leave the key out for the default");
    return;
  }
  ForEachChoice(reader, setting, node, path,
                [&](std::size_t choice, const JsonNode& item, const std::string& item_path) {
                  auto protocol = static_cast<Protocol>(choice);
                  if (std::ranges::find(protocols, protocol) != protocols.end()) {
                    reader.Fault(item, item_path, fmt::format("\"{}\" is given twice", item.text),
                                 "remove one of them");
                    return;
                  }
                  protocols.push_back(protocol);
                });
}

Json WriteProtocols(const Setting& setting, const void* field) {
  Json array = Json::array();
  for (Protocol protocol : *static_cast<const std::vector<Protocol>*>(field)) {
    array.push_back(setting.choices[static_cast<std::size_t>(protocol)]);
  }
  return array;
}

// Includes.

void ReadNothing(SettingReader& /*reader*/, const Setting& /*setting*/, const JsonNode& /*node*/,
                 const std::string& /*path*/, void* /*field*/) {}
Json WriteNothing(const Setting& /*setting*/, const void* /*field*/) {
  return nullptr;
}

}  // namespace

const ValueType kNetworks{"network", &ReadNetworks, &WriteNetworks, &TextsSchema};
const ValueType kHosts{"host", &ReadHosts, &WriteTexts, &TextOrTextsSchema};
const ValueType kMethods{"method", &ReadMethods, &WriteTexts, &TextsSchema};
const ValueType kHeaderNames{"header name", &ReadTexts<&CheckRemoved, true>, &WriteTexts,
                             &TextsSchema};
const ValueType kLoggedHeaders{"header name", &ReadTexts<&CheckLoggedHeader, true>, &WriteTexts,
                               &TextsSchema};
const ValueType kParameterNames{"parameter name", &ReadTexts<&CheckParameterName, false>,
                                &WriteTexts, &TextsSchema};
const ValueType kHeaderMap{"header names and values", &ReadHeaderMap<false>, &WriteHeaderMap,
                           &HeaderMapSchema};
const ValueType kRequestHeaderMap{"header names and values", &ReadHeaderMap<true>, &WriteHeaderMap,
                                  &HeaderMapSchema};
const ValueType kRetryOn{"reason", &ReadRetryOn, &WriteRetryOn, &WordsSchema};
const ValueType kProtocols{"protocol", &ReadProtocols, &WriteProtocols, &WordsSchema};
const ValueType kIncludes{"pattern", &ReadNothing, &WriteNothing, &TextsSchema};

}  // namespace tidegate
