// Writing a configuration: canonical JSON, `check --print`, and what a reload changes.

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/config_load.h"
#include "common/config_reader.h"
#include "common/config_settings.h"
#include "common/config_source.h"
#include "common/json_reader.h"
#include "common/text.h"

namespace tidegate {
namespace {

using Json = nlohmann::ordered_json;

// Removes from `value` what is the same in `general`. True if nothing is left.
bool Prune(Json& value, const Json& general) {
  if (!value.is_object()) {
    return value == general;
  }
  Json left = Json::object();
  for (const auto& [key, member] : value.items()) {
    if (!general.contains(key) || general[key] != member) {
      left[key] = member;
    }
  }
  value = std::move(left);
  return value.empty();
}

// Arrays whose elements are objects, and the key that tells them apart.
std::optional<std::string_view> NameKeyOf(const std::string& path) {
  if (path == "listeners" || path == "routes") {
    return "name";
  }
  return path == "certificates" ? std::optional<std::string_view>("cert") : std::nullopt;
}

// Contents of files are nothing to look at, and some are secret.
void HideContents(Json& tree) {
  tree.erase("system_roots");
  if (auto upstreams = tree.find("upstreams"); upstreams != tree.end()) {
    for (Json& upstream : *upstreams) {
      if (auto tls = upstream.find("tls"); tls != upstream.end()) {
        tls->erase("ca_pem");
        tls->erase("client_chain_pem");
        tls->erase("client_key_pem");
      }
    }
  }
  if (auto certificates = tree.find("certificates"); certificates != tree.end()) {
    for (Json& certificate : *certificates) {
      certificate.erase("chain_pem");
      certificate.erase("key_pem");
      certificate.erase("ocsp_base64");
    }
  }
  for (Json& listener : tree["listeners"]) {
    if (auto tls = listener.find("tls"); tls != listener.end()) {
      tls->erase("client_ca_pem");
    }
  }
}

// Calls `visit(path, value)` for each value that has one row in the table, and for each header.
template <class Visit>
void VisitLeaves(const Json& value, const std::string& path, const Visit& visit) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, member] : value.items()) {
      VisitLeaves(member, MemberPath(path, key), visit);
    }
  } else if (NameKeyOf(path)) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      VisitLeaves(value[i], ItemPath(path, i), visit);
    }
  } else {
    visit(path, value);
  }
}

// The file and line of a value, or of what it is a part of.
std::string OriginOf(const std::map<std::string, std::string>& origins, std::string path) {
  while (!path.empty()) {
    if (auto found = origins.find(path); found != origins.end()) {
      return found->second;
    }
    std::size_t cut = path.ends_with(']') ? path.rfind('[') : path.rfind('.');
    path.resize(cut == std::string::npos ? 0 : cut);
  }
  return "default";
}

// For sentences: texts without quotes.
std::string Plain(const Json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

class Differ {
 public:
  std::vector<std::string> Compare(const Json& before, const Json& after) {
    CompareObjects("", before, after);
    return std::move(changes_);
  }

 private:
  void CompareValues(const std::string& path, const Json& before, const Json& after) {
    if (before == after) {
      return;
    }
    if (path == "upstreams") {
      CompareNamed(path, NamedMembers(before), NamedMembers(after));
    } else if (auto key = NameKeyOf(path)) {
      CompareNamed(path, NamedItems(before, *key), NamedItems(after, *key));
    } else if (before.is_object() && after.is_object()) {
      std::size_t known = changes_.size();
      CompareObjects(path, before, after);
      // The same members in another order, e.g. headers.
      if (changes_.size() == known) {
        changes_.push_back(fmt::format("{}: order changed", path));
      }
    } else {
      changes_.push_back(fmt::format("{}: {} -> {}", path, Plain(before), Plain(after)));
    }
  }

  void CompareObjects(const std::string& path, const Json& before, const Json& after) {
    for (const auto& [key, value] : before.items()) {
      std::string member = MemberPath(path, key);
      if (after.contains(key)) {
        CompareValues(member, value, after[key]);
      } else {
        Appeared(member, value, "removed");
      }
    }
    for (const auto& [key, value] : after.items()) {
      if (!before.contains(key)) {
        Appeared(MemberPath(path, key), value, "added");
      }
    }
  }

  void Appeared(const std::string& path, const Json& value, std::string_view how) {
    VisitLeaves(value, path, [&](const std::string& leaf, const Json& part) {
      changes_.push_back(fmt::format("{}: {} {}", leaf, how, Plain(part)));
    });
  }

  using Named = std::vector<std::pair<std::string, Json>>;

  static Named NamedMembers(const Json& object) {
    Named named;
    for (const auto& [key, value] : object.items()) {
      named.emplace_back(key, value);
    }
    return named;
  }

  static Named NamedItems(const Json& array, std::string_view key) {
    Named named;
    for (const Json& item : array) {
      named.emplace_back(item.at(key).get<std::string>(), item);
    }
    return named;
  }

  void CompareNamed(const std::string& path, const Named& before, const Named& after) {
    std::map<std::string_view, const Json*> old_values;
    std::map<std::string_view, const Json*> new_values;
    for (const auto& [name, value] : before) {
      old_values.emplace(name, &value);
    }
    for (const auto& [name, value] : after) {
      new_values.emplace(name, &value);
    }
    std::vector<std::string_view> kept_before;
    for (const auto& [name, value] : before) {
      if (new_values.contains(name)) {
        kept_before.push_back(name);
      } else {
        changes_.push_back(fmt::format("{}: removed \"{}\"", path, name));
      }
    }
    std::vector<std::string_view> kept_after;
    for (const auto& [name, value] : after) {
      auto old = old_values.find(name);
      if (old == old_values.end()) {
        changes_.push_back(fmt::format("{}: added \"{}\"", path, name));
        continue;
      }
      kept_after.push_back(name);
      CompareValues(fmt::format("{}[\"{}\"]", path, name), *old->second, value);
    }
    // Moved past each other, or a new one in between: for routes of equal rank that is a change of
    // meaning.
    if (kept_before != kept_after) {
      changes_.push_back(fmt::format("{}: order changed", path));
    }
  }

  std::vector<std::string> changes_;
};

Json EffectiveTree(const Config& config) {
  return WriteSection(RootSection(), &config);
}

Json ShownTree(const Config& config) {
  Json tree = EffectiveTree(config);
  HideContents(tree);
  return tree;
}

// Files that are named as before and have other contents.
void ComparePair(std::string_view what, const CertificateConfig& before,
                 const CertificateConfig& after, std::vector<std::string>& changes) {
  if (before.certificate_file == after.certificate_file && before.chain_pem != after.chain_pem) {
    changes.push_back(fmt::format("{}: {} has another certificate", what, after.certificate_file));
  }
  if (before.key_file == after.key_file && before.key_pem != after.key_pem) {
    changes.push_back(fmt::format("{}: {} has another key", what, after.key_file));
  }
  if (before.ocsp_file == after.ocsp_file && before.ocsp_base64 != after.ocsp_base64) {
    changes.push_back(fmt::format("{}: {} has another OCSP response", what, after.ocsp_file));
  }
}

void CompareContents(const Config& before, const Config& after, std::vector<std::string>& changes) {
  for (const CertificateConfig& certificate : after.certificates) {
    auto old = std::ranges::find(before.certificates, certificate.certificate_file,
                                 &CertificateConfig::certificate_file);
    if (old != before.certificates.end()) {
      ComparePair("certificates", *old, certificate, changes);
    }
  }
  for (const UpstreamConfig& upstream : after.upstreams) {
    auto old = std::ranges::find(before.upstreams, upstream.name, &UpstreamConfig::name);
    if (!upstream.tls || old == before.upstreams.end() || !old->tls) {
      continue;
    }
    const std::string what = fmt::format("upstreams[\"{}\"].tls", upstream.name);
    ComparePair(what, old->tls->client, upstream.tls->client, changes);
    if (old->tls->ca_file == upstream.tls->ca_file && old->tls->ca_pem != upstream.tls->ca_pem) {
      changes.push_back(fmt::format("{}: {} has other certificates", what, upstream.tls->ca_file));
    }
  }
  for (const ListenerConfig& listener : after.listeners) {
    auto old = std::ranges::find(before.listeners, listener.name, &ListenerConfig::name);
    if (old != before.listeners.end() && old->tls && listener.tls &&
        old->tls->client_ca_file == listener.tls->client_ca_file &&
        old->tls->client_ca_pem != listener.tls->client_ca_pem) {
      changes.push_back(fmt::format("listeners[\"{}\"]: {} has other certificates", listener.name,
                                    listener.tls->client_ca_file));
    }
  }
  // Where they are needed for the first time, or not any more, an upstream has changed.
  bool needed_twice = !before.system_roots.pem.empty() && !after.system_roots.pem.empty();
  if (needed_twice && before.system_roots != after.system_roots) {
    changes.push_back(
        fmt::format("the system trusts others: {} has changed", after.system_roots.file));
  }
}

}  // namespace

Json WriteSection(const Section& section, const void* owner, const Config* general) {
  Json object = Json::object();
  for (const Setting& setting : section.settings) {
    if (!setting.IsPresent(owner)) {
      continue;
    }
    Json value = setting.type->write(setting, setting.FieldOf(owner));
    bool inherited = general != nullptr && setting.inherited != nullptr &&
                     Prune(value, setting.type->write(setting, setting.inherited(*general)));
    if (!value.is_null() && !inherited) {
      object[std::string(setting.key)] = std::move(value);
    }
  }
  return object;
}

std::string EffectiveJson(const Config& config) {
  return EffectiveTree(config).dump(2);
}

std::string ShownJson(const Config& config) {
  return ShownTree(config).dump(2);
}

Result<Config> ParseEffectiveConfig(std::string_view effective) {
  Diagnostics diagnostics;
  std::uint32_t file = diagnostics.AddFile("effective configuration", std::string(effective));
  JsonDocument document = ReadJson(diagnostics.TextOf(file), file);
  for (const JsonFault& fault : document.faults) {
    diagnostics.AddError(fault.place, fault.path, fault.message);
  }
  Config config;
  if (document.root) {
    UnescapeTree(*document.root);
    SettingReader(diagnostics, nullptr, SettingReader::Source::kEffective)
        .ReadRoot(*document.root, config);
  }
  if (diagnostics.error_count() > 0) {
    Diagnostic first = diagnostics.Take().front();
    return Fail(ErrorKind::kConfig, fmt::format("effective configuration, line {}: {}: {}",
                                                first.line, first.path, first.message));
  }
  return config;
}

std::string PrintEffective(const LoadedConfig& loaded) {
  struct Row {
    std::string value;
    std::string origin;
  };
  std::vector<Row> rows;
  std::size_t width = 0;
  VisitLeaves(ShownTree(loaded.config), "", [&](const std::string& path, const Json& value) {
    rows.push_back(
        {fmt::format("{} = {}", path, value.dump(-1, ' ', false, Json::error_handler_t::replace)),
         OriginOf(loaded.origins, path)});
    width = std::max(width, Utf8Length(rows.back().value));
  });
  // One long value must not push every origin out of sight.
  width = std::min<std::size_t>(width, 64);
  std::string text;
  for (const Row& row : rows) {
    std::size_t used = Utf8Length(row.value);
    text += fmt::format("{}{}  # {}\n", row.value,
                        std::string(width > used ? width - used : 0, ' '), row.origin);
  }
  return text;
}

std::vector<std::string> DiffConfig(const Config& before, const Config& after) {
  if (before == after) {
    return {};
  }
  std::vector<std::string> changes = Differ().Compare(ShownTree(before), ShownTree(after));
  CompareContents(before, after, changes);
  return changes;
}

bool NeedsUpgrade(const Config& before, const Config& after) {
  return before.workers != after.workers || before.user != after.user;
}

}  // namespace tidegate
