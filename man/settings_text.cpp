#include "man/settings_text.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/config_settings.h"
#include "common/units.h"
#include "man/page.h"

namespace tidegate {
namespace {

// Sizes have no such limit: it is where the arithmetic ends.
constexpr std::uint64_t kNoSizeLimit = 1ULL << 60U;

bool IsOneOf(const ValueType* type, std::initializer_list<const ValueType*> types) {
  return std::ranges::find(types, type) != types.end();
}

// "hosts", "addresses".
std::string Plural(std::string_view noun) {
  return fmt::format("{}{}", noun, noun.ends_with('s') ? "es" : "s");
}

// What the value is; a list is seen in its schema, because a noun is of one element.
std::string TypeText(const Setting& setting) {
  if (!setting.choices.empty() && setting.type == &kChoice) {
    return fmt::format("{} or {}",
                       fmt::join(setting.choices.first(setting.choices.size() - 1), ", "),
                       setting.choices.back());
  }
  std::string noun(setting.type->noun);
  if (IsOneOf(setting.type, {&kSection, &kSectionList, &kSectionMap})) {
    return noun;
  }
  nlohmann::ordered_json schema = setting.type->schema(setting);
  auto is = [](const nlohmann::ordered_json& one, std::string_view type) {
    return one.contains("type") && one["type"] == type;
  };
  if (is(schema, "array")) {
    return fmt::format("array of {}", Plural(noun));
  }
  if (is(schema, "object")) {
    return fmt::format("object of {}", noun);
  }
  bool may_be_array =
      schema.contains("anyOf") &&
      std::ranges::any_of(schema["anyOf"], [&](const auto& one) { return is(one, "array"); });
  return may_be_array ? fmt::format("{} or array of {}", noun, Plural(noun)) : noun;
}

std::string Bound(const Setting& setting, std::uint64_t value) {
  if (IsOneOf(setting.type, {&kDuration, &kDurationOrOff})) {
    return FormatDuration(Duration(static_cast<Duration::rep>(value)));
  }
  if (IsOneOf(setting.type, {&kSize, &kSizeOrOff})) {
    return FormatSize(value);
  }
  return setting.type == &kByteRateOrOff ? FormatSize(value) + "/s" : fmt::format("{}", value);
}

// Empty: any.
std::string RangeText(const Setting& setting) {
  if (setting.range.most >= kNoSizeLimit) {
    return setting.range.least == 0 ? "" : "at least " + Bound(setting, setting.range.least);
  }
  return fmt::format("{} to {}", Bound(setting, setting.range.least),
                     Bound(setting, setting.range.most));
}

void AppendSetting(std::string& text, const std::string& key, const Setting& setting) {
  std::vector<std::string> facts = {fmt::format("_{}_", Escaped(TypeText(setting)))};
  if (std::string range = RangeText(setting); !range.empty()) {
    facts.push_back(range);
  }
  if (setting.required) {
    facts.emplace_back("required");
  } else if (!setting.default_text.empty()) {
    facts.push_back(fmt::format("default {}", Escaped(setting.default_text)));
  }
  text += fmt::format("*{}*: {}\n\t{}\n\n", Escaped(key), fmt::join(facts, ", "),
                      Escaped(setting.help));
}

// `exceptions`: keys of an object that is described as a section of its own.
void AppendSection(std::string& text, const std::string& prefix, const Section& section) {
  for (const Setting& setting : section.settings) {
    if (setting.internal) {
      continue;
    }
    std::string key = fmt::format("{}{}", prefix, setting.key);
    AppendSetting(text, key, setting);
    // What is an exception from a general section has its keys there.
    if (setting.section != nullptr && setting.inherited == nullptr) {
      AppendSection(text, key + (setting.type == &kEndpoints ? "[]." : "."), *setting.section);
    }
  }
  if (!section.one_of.empty()) {
    std::vector<std::string> keys;
    for (std::string_view key : section.one_of) {
      keys.push_back(fmt::format("*{}{}*", Escaped(prefix), Escaped(key)));
    }
    text += fmt::format("One of {}, and only one, must be there.\n\n", fmt::join(keys, ", "));
  }
}

}  // namespace

std::optional<std::string> SettingsText(std::string_view section) {
  std::string text;
  for (const Setting& setting : RootSection().settings) {
    if (setting.internal) {
      continue;
    }
    if (section.empty()) {
      AppendSetting(text, std::string(setting.key), setting);
    } else if (setting.key == section && setting.section != nullptr) {
      AppendSection(text, "", *setting.section);
    }
  }
  return text.empty() ? std::nullopt : std::optional(text);
}

}  // namespace tidegate
