#include "common/config_reader.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/config_words.h"
#include "common/settings_table.h"
#include "common/text.h"

namespace tidegate {
namespace {

// Gives each element without a name the one that `base_of` makes, with "#2" and so on behind it
// where that is taken. Names that somebody chose come first.
template <class Element, class BaseOf>
void CompleteNames(std::vector<Element>& elements, BaseOf base_of) {
  std::set<std::string> taken;
  for (const Element& element : elements) {
    taken.insert(element.name);
  }
  for (Element& element : elements) {
    if (!element.name.empty()) {
      continue;
    }
    std::string base = NameFrom(base_of(element));
    std::string name = base;
    for (unsigned i = 2; !taken.insert(name).second; ++i) {
      std::string suffix = fmt::format("#{}", i);
      name = base.substr(0, kMaxNameLength - suffix.size()) + suffix;
    }
    element.name = name;
  }
}

}  // namespace

bool HasNearKey(const Section& section, const JsonNode& node,
                std::span<const std::string_view> keys) {
  return std::ranges::any_of(node.members, [&](const JsonMember& member) {
    bool wanted = std::ranges::find(keys, member.key) != keys.end();
    bool known =
        std::ranges::find(section.settings, member.key, &Setting::key) != section.settings.end();
    return wanted || (!known && Nearest(member.key, keys).has_value());
  });
}

const Section& RootSection() {
  return settings::kRoot;
}

void SettingReader::ReadRoot(const JsonNode& root, Config& config) {
  ReadSection(settings::kRoot, root, "", &config);
  CompleteNames(config.listeners,
                [](const ListenerConfig& listener) { return listener.bind.ToString(); });
  CompleteNames(config.routes, [](const RouteConfig& route) {
    return (route.hosts.empty() ? "" : route.hosts.front()) + route.path;
  });
}

void SettingReader::ReadSection(const Section& section, const JsonNode& node,
                                const std::string& path, void* owner) {
  if (node.kind != JsonNode::Kind::kObject) {
    Expected(node, path, "an object");
    return;
  }
  for (const JsonMember& member : node.members) {
    if (Find(section, member.key) == nullptr) {
      ReportUnknown(section, member, path);
    }
  }
  for (const Setting& setting : section.settings) {
    bool known = Find(section, setting.key) != nullptr;
    const JsonNode* value = known ? node.Find(setting.key) : nullptr;
    if (value != nullptr) {
      std::string value_path = MemberPath(path, setting.key);
      if (value->kind == JsonNode::Kind::kNull) {
        Fault(*value, value_path, "null is not a value", "leave the key out");
        continue;
      }
      setting.type->read(*this, setting, *value, value_path, setting.field(owner));
      bool leaf = setting.type != &kSection && setting.type != &kSectionList &&
                  setting.type != &kSectionMap;
      if (leaf) {
        Origin(*value, value_path);
      }
    } else if (setting.required && !HasNearKey(section, node, std::array{setting.key})) {
      Fault(node, path, fmt::format("\"{}\" is missing", setting.key));
    }
  }
  if (!section.one_of.empty()) {
    CheckOneOf(section, node, path);
  }
  if (section.check != nullptr) {
    section.check(*this, node, path, owner);
  }
}

const Setting* SettingReader::Find(const Section& section, std::string_view key) const {
  auto setting = std::ranges::find(section.settings, key, &Setting::key);
  bool known =
      setting != section.settings.end() && (!setting->internal || source_ == Source::kEffective);
  return known ? &*setting : nullptr;
}

void SettingReader::CheckOneOf(const Section& section, const JsonNode& node,
                               const std::string& path) {
  const JsonMember* first = nullptr;
  for (const JsonMember& member : node.members) {
    if (std::ranges::find(section.one_of, member.key) == section.one_of.end()) {
      continue;
    }
    if (first == nullptr) {
      first = &member;
    } else {
      diagnostics_.AddError(member.key_place, path,
                            fmt::format("\"{}\" beside \"{}\"; a {} has one of {}", member.key,
                                        first->key, section.name, QuotedChoice(section.one_of)),
                            "remove one of them");
    }
  }
  if (first == nullptr && !HasNearKey(section, node, section.one_of)) {
    Fault(node, path, fmt::format("a {} needs {}", section.name, QuotedChoice(section.one_of)));
  }
}

void SettingReader::ReportUnknown(const Section& section, const JsonMember& member,
                                  const std::string& path) {
  std::vector<std::string_view> known;
  for (const Setting& setting : section.settings) {
    if (Find(section, setting.key) != nullptr) {
      known.push_back(setting.key);
    }
  }
  std::string suggestion;
  if (auto nearest = Nearest(member.key, known)) {
    suggestion = fmt::format("did you mean \"{}\"?", *nearest);
  }
  diagnostics_.AddError(member.key_place, path, fmt::format("unknown key \"{}\"", member.key),
                        std::move(suggestion));
}

void SettingReader::Fault(const JsonNode& node, const std::string& path, std::string message,
                          std::string suggestion) {
  if (!node.unset) {
    diagnostics_.AddError(node.place, path, std::move(message), std::move(suggestion));
  }
}

void SettingReader::Fault(const JsonNode& node, const std::string& path, const Error& error) {
  if (!node.unset) {
    diagnostics_.AddError(node.place, path, error);
  }
}

void SettingReader::Expected(const JsonNode& node, const std::string& path, std::string_view what,
                             std::string suggestion) {
  Fault(node, path, fmt::format("expected {}, not {}", what, NameOf(node.kind)),
        std::move(suggestion));
}

bool SettingReader::IsText(const JsonNode& node, const std::string& path, std::string_view what) {
  if (node.kind != JsonNode::Kind::kString) {
    Expected(node, path, what);
  }
  return node.kind == JsonNode::Kind::kString && !node.unset;
}

void SettingReader::Origin(const JsonNode& node, const std::string& path) {
  if (origins_ != nullptr) {
    origins_->emplace(path, diagnostics_.LineReference(node.place));
  }
}

}  // namespace tidegate
