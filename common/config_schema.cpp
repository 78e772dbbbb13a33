// The JSON schema (draft 2020-12) of a configuration file, out of the settings table.

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/config_load.h"
#include "common/config_settings.h"

namespace tidegate {
namespace {

using Json = nlohmann::ordered_json;

// "100" and "true" stand for themselves, everything else for a text.
Json DefaultOf(const Setting& setting) {
  Json value = Json::parse(setting.default_text, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? Json(setting.default_text) : value;
}

}  // namespace

Json SectionSchema(const Section& section) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const Setting& setting : section.settings) {
    if (setting.internal) {
      continue;
    }
    Json schema = setting.type->schema(setting);
    schema["description"] = setting.help;
    if (!setting.default_text.empty()) {
      schema["default"] = DefaultOf(setting);
    }
    properties[std::string(setting.key)] = std::move(schema);
    if (setting.required) {
      required.push_back(setting.key);
    }
  }
  Json schema = {
      {"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  if (!required.empty()) {
    schema["required"] = std::move(required);
  }
  for (std::string_view key : section.one_of) {
    schema["oneOf"].push_back({{"required", Json::array({key})}});
  }
  return schema;
}

std::string ConfigSchema() {
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                 {"title", "Configuration of Tidegate"},
                 {"description", "tidegate.json; comments are allowed in the file"}};
  schema.update(SectionSchema(RootSection()));
  return schema.dump(2) + "\n";
}

}  // namespace tidegate
