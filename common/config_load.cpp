#include "common/config_load.h"

#include <utility>

#include "common/config_check.h"
#include "common/config_diagnostics.h"
#include "common/config_files.h"
#include "common/config_reader.h"
#include "common/config_source.h"

namespace tidegate {
namespace {

std::expected<LoadedConfig, std::vector<Diagnostic>> Load(const std::optional<JsonNode>& tree,
                                                          Diagnostics& diagnostics,
                                                          const Environment& environment,
                                                          const UserLookup& has_user = {}) {
  LoadedConfig loaded;
  if (tree) {
    SettingReader(diagnostics, &loaded.origins).ReadRoot(*tree, loaded.config);
    ReadNamedFiles(*tree, environment, loaded.config, diagnostics);
    CheckReferences(*tree, loaded.config, diagnostics);
    const std::string& user = loaded.config.user;
    // Of a file that is right: whether this machine is the right one for it comes after that.
    if (diagnostics.error_count() == 0 && has_user && !user.empty() && !has_user(user)) {
      diagnostics.AddWarning(tree->Find("user")->place, "user", "no such user here",
                             "started by root, the daemon needs it");
    }
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
                                                                const Environment& environment,
                                                                const UserLookup& has_user) {
  Diagnostics diagnostics;
  return Load(ReadConfigFiles(path, environment, diagnostics), diagnostics, environment, has_user);
}

std::expected<LoadedConfig, std::vector<Diagnostic>> LoadConfigText(
    const std::string& name, std::string_view text, const Environment& environment) {
  Diagnostics diagnostics;
  return Load(ReadConfigText(name, text, environment, diagnostics), diagnostics, environment);
}

}  // namespace tidegate
