#include "common/config_load.h"

#include <utility>

#include "common/config_check.h"
#include "common/config_diagnostics.h"
#include "common/config_reader.h"
#include "common/config_source.h"

namespace tidegate {
namespace {

std::expected<LoadedConfig, std::vector<Diagnostic>> Load(const std::optional<JsonNode>& tree,
                                                          Diagnostics& diagnostics) {
  LoadedConfig loaded;
  if (tree) {
    SettingReader(diagnostics, &loaded.origins).ReadRoot(*tree, loaded.config);
    CheckReferences(*tree, loaded.config, diagnostics);
  }
  bool failed = diagnostics.error_count() > 0;
  std::vector<Diagnostic> found = diagnostics.Take();
  if (failed) {
    return std::unexpected(std::move(found));
  }
  loaded.warnings = std::move(found);
  loaded.effective = EffectiveJson(loaded.config);
  return loaded;
}

}  // namespace

std::expected<LoadedConfig, std::vector<Diagnostic>> LoadConfig(const std::string& path,
                                                                const Environment& environment) {
  Diagnostics diagnostics;
  return Load(ReadConfigFiles(path, environment, diagnostics), diagnostics);
}

std::expected<LoadedConfig, std::vector<Diagnostic>> LoadConfigText(
    const std::string& name, std::string_view text, const Environment& environment) {
  Diagnostics diagnostics;
  return Load(ReadConfigText(name, text, environment, diagnostics), diagnostics);
}

}  // namespace tidegate
