#include "common/config_load.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/config_text.h"

namespace tidegate {
namespace {

namespace fs = std::filesystem;

fs::path TreeRoot() {
  return fs::path(__FILE__).parent_path().parent_path().parent_path().parent_path();
}

std::vector<fs::path> JsonFilesIn(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") {
      files.push_back(entry.path());
    }
  }
  std::ranges::sort(files);
  return files;
}

std::string ContentOf(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Diagnostics name files as they were given; goldens give them without a folder.
class InFolder {
 public:
  explicit InFolder(const fs::path& folder) : before_(fs::current_path()) {
    fs::current_path(folder);
  }
  ~InFolder() { fs::current_path(before_); }

 private:
  fs::path before_;
};

TEST(ConfigLoad, AUserWhomTheSystemDoesNotHaveIsAWarningIfThatMatters) {
  fs::path path = fs::path(testing::TempDir()) / "tidegate_config_user.json";
  std::ofstream(path) << R"({ "listen": ":8080", "upstream": "127.0.0.1:3000",
                              "user": "tidegate" })";
  auto loaded = LoadConfig(path, {}, [](const std::string& name) { return name != "tidegate"; });
  ASSERT_TRUE(loaded);
  ASSERT_EQ(loaded->warnings.size(), 1U);
  const Diagnostic& warning = loaded->warnings.front();
  EXPECT_EQ(warning.severity, Severity::kWarning);
  EXPECT_EQ(warning.path, "user");
  EXPECT_EQ(warning.message, "no such user here");
  EXPECT_NE(warning.source_line.find("\"user\": \"tidegate\""), std::string::npos);
  for (const UserLookup& lookup :
       {UserLookup(), UserLookup([](const std::string&) { return true; })}) {
    loaded = LoadConfig(path, {}, lookup);
    ASSERT_TRUE(loaded);
    EXPECT_TRUE(loaded->warnings.empty());
  }
}

TEST(ConfigLoad, BrokenFilesGiveTheExpectedDiagnostics) {
  // TIDEGATE_UPDATE_GOLDENS=1 writes what is there now; read the difference before committing it.
  bool update = std::getenv("TIDEGATE_UPDATE_GOLDENS") != nullptr;
  InFolder folder(TreeRoot() / "tests/e2e/config/broken");
  auto files = JsonFilesIn(".");
  EXPECT_GE(files.size(), 45U);
  for (const fs::path& path : files) {
    auto loaded = LoadConfig(path.filename(), {});
    ASSERT_FALSE(loaded) << path << " is valid";
    std::string text = FormatDiagnostics(loaded.error());
    fs::path golden = path.filename().replace_extension(".expected");
    if (update) {
      std::ofstream(golden, std::ios::binary) << text;
    }
    EXPECT_EQ(text, ContentOf(golden)) << path;
  }
}

TEST(ConfigLoad, EveryExampleIsValidAndSurvivesItsEffectiveForm) {
  for (const char* name : {"tests/e2e/config/valid", "packaging", "packaging/examples"}) {
    auto files = JsonFilesIn(TreeRoot() / name);
    EXPECT_FALSE(files.empty());
    for (const fs::path& path : files) {
      auto loaded = LoadConfig(path, {});
      ASSERT_TRUE(loaded) << FormatDiagnostics(loaded.error());
      EXPECT_EQ(loaded->warnings.empty(), path.stem() != "only_warnings")
          << FormatDiagnostics(loaded->warnings);
      auto again = ParseEffectiveConfig(loaded->effective);
      ASSERT_TRUE(again) << again.error().detail();
      EXPECT_EQ(*again, loaded->config) << path;
      EXPECT_EQ(EffectiveJson(*again), loaded->effective) << path;
      // It is a configuration file by itself.
      EXPECT_EQ(ConfigFrom(loaded->effective), loaded->config) << path;
    }
  }
}

TEST(ConfigLoad, DefaultsAreThoseOfTheInterface) {
  Config config = ConfigFrom(R"({ "listen": ":8080", "upstream": "127.0.0.1:3000" })");
  EXPECT_EQ(config.workers, std::nullopt);
  EXPECT_EQ(config.user, "");
  EXPECT_TRUE(config.forwarded.x_forwarded && !config.forwarded.rfc7239 && config.forwarded.via);
  EXPECT_EQ(config.limits.max_connections, std::nullopt);
  EXPECT_EQ(config.limits.max_body, kUnlimited);
  EXPECT_EQ(config.limits.max_header_bytes, 32768U);
  EXPECT_EQ(config.limits.max_headers, 100U);
  EXPECT_EQ(config.limits.max_url_bytes, 16384U);
  EXPECT_EQ(FormatDuration(config.timeouts.keepalive), "75s");
  EXPECT_EQ(FormatDuration(config.timeouts.tunnel_idle), "1h");
  EXPECT_EQ(FormatDuration(config.upgrade.drain_tunnels), "5m");
  EXPECT_EQ(config.upgrade.max_generations, 3U);
  EXPECT_TRUE(config.upgrade.hand_over);
  EXPECT_EQ(config.shutdown.delay.count(), 0);
  EXPECT_EQ(config.logging, LoggingConfig{});
  ASSERT_EQ(config.upstreams.size(), 1U);
  EXPECT_EQ(config.upstreams[0].balance, Balance::kRoundRobin);
  EXPECT_EQ(config.upstreams[0].max_connections_per_endpoint, kUnlimited);
  EXPECT_EQ(config.upstreams[0].queue, QueueConfig{});
  EXPECT_EQ(config.upstreams[0].retry, RetryConfig{});
}

TEST(ConfigLoad, AFileThatCannotBeReadIsOneError) {
  auto loaded = LoadConfig("/nonexistent/tidegate.json", {});
  ASSERT_FALSE(loaded);
  EXPECT_EQ(FormatDiagnostics(loaded.error()),
            "/nonexistent/tidegate.json: error: cannot read the configuration: No such file or "
            "directory\n1 error.\n");
  EXPECT_FALSE(LoadConfig("/", {}));
}

TEST(ConfigLoad, ATextIsNamedAsTheCallerSays) {
  auto loaded = LoadConfigText("the command line", "{", {});
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().front().file, "the command line");
}

TEST(ConfigLoad, ParsingTheEffectiveFormReportsDamage) {
  auto config = ParseEffectiveConfig(R"({ "listen": 5, "upstream": "127.0.0.1:1" })");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind(), ErrorKind::kConfig);
  EXPECT_NE(config.error().detail().find("listen"), std::string::npos);
  EXPECT_FALSE(ParseEffectiveConfig("{"));
}

TEST(ConfigLoad, ANewerWordInTheEffectiveFormIsAnErrorNotACrash) {
  std::string effective =
      LoadedFrom(R"({ "listen": ":8080", "upstream": "127.0.0.1:3000" })").effective;
  effective.insert(1, R"("from_the_future": 1,)");
  EXPECT_FALSE(ParseEffectiveConfig(effective));
}

}  // namespace
}  // namespace tidegate
