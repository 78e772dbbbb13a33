#include "common/config_source.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/support/config_text.h"

namespace tidegate {
namespace {

namespace fs = std::filesystem;

class ConfigSource : public testing::Test {
 protected:
  ConfigSource() {
    std::string pattern = (fs::temp_directory_path() / "tidegate-source-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~ConfigSource() override { fs::remove_all(folder_); }

  std::string Write(const std::string& name, std::string_view text) {
    fs::path path = folder_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }

  // The messages for a main file; empty if it is valid.
  std::string Faults(const std::string& path) {
    auto loaded = LoadConfig(path, {});
    std::string text;
    for (const Diagnostic& d : loaded ? std::vector<Diagnostic>{} : loaded.error()) {
      text += fs::path(d.file).filename().string() + ": " + d.message + "\n";
    }
    return text;
  }

  fs::path folder_;
};

TEST_F(ConfigSource, IncludesAreRelativeToTheirFileAndSorted) {
  std::string path = Write(
      "main.json",
      R"({ "include": ["d/*.json"], "listen": ":1", "routes": [ { "path": "/0", "respond": {} } ] })");
  Write("d/b.json", R"({ "routes": [ { "path": "/2", "respond": {} } ] })");
  Write("d/a.json",
        R"({ "include": ["more/x.json"], "routes": [ { "path": "/1", "respond": {} } ] })");
  Write("d/B.json", R"({ "routes": [ { "path": "/B", "respond": {} } ] })");
  Write("d/more/x.json", R"({ "routes": [ { "path": "/1x", "respond": {} } ] })");
  auto loaded = LoadConfig(path, {});
  ASSERT_TRUE(loaded) << FormatDiagnostics(loaded.error());
  std::string order;
  for (const RouteConfig& route : loaded->config.routes) {
    order += route.path;
  }
  EXPECT_EQ(order, "/0/B/1/1x/2");
  EXPECT_EQ(loaded->origins.at("routes[3].path"), (folder_ / "d/more/x.json:1").string());
}

TEST_F(ConfigSource, WildCharactersInTheFoldersNameAreItsName) {
  std::string path =
      Write("a[b]*c/main.json", R"({ "include": ["*.part", "one?.json"], "listen": ":1" })");
  Write("a[b]*c/x.part", R"({ "upstream": "127.0.0.1:1" })");
  EXPECT_EQ(Faults(path), "");
}

TEST_F(ConfigSource, ObjectsMergeByKeyAndScalarsCannot) {
  std::string path =
      Write("main.json", R"({ "include": ["b"], "listen": ":1", "upstream": "127.0.0.1:1",
      "timeouts": { "keepalive": "1s" }, "limits": { "max_headers": 5 } })");
  Write("b", R"({ "timeouts": { "body_idle": "2s" }, "limits": { "max_headers": 5 } })");
  EXPECT_EQ(Faults(path), "b: already given at " + (folder_ / "main.json:2").string() + "\n");
}

TEST_F(ConfigSource, CyclesAndRepetitionsAreFaultsWhateverTheNames) {
  std::string path = Write(
      "main.json",
      R"({ "include": ["link.json", "b.json", "./b.json"], "listen": ":1", "upstream": "127.0.0.1:1" })");
  fs::create_symlink("main.json", folder_ / "link.json");
  Write("b.json", "{}");
  EXPECT_EQ(Faults(path), "main.json: " + (folder_ / "link.json").string() +
                              " includes itself\nmain.json: " + (folder_ / "./b.json").string() +
                              " is included twice\n");
}

TEST_F(ConfigSource, AMissingNameIsAFaultAndAPatternWithoutMatchIsNot) {
  EXPECT_EQ(
      Faults(Write("main.json",
                   R"({ "include": ["x*.json"], "listen": ":1", "upstream": "127.0.0.1:1" })")),
      "");
  std::string text = Faults(Write(
      "main.json", R"({ "include": ["x.json"], "listen": ":1", "upstream": "127.0.0.1:1" })"));
  EXPECT_NE(text.find("No such file"), std::string::npos);
}

TEST_F(ConfigSource, AFolderAndAHugeFileAreRefused) {
  fs::create_directories(folder_ / "d.json");
  EXPECT_NE(Faults((folder_ / "d.json").string()).find("Is a directory"), std::string::npos);
  std::string path = Write("huge.json", "");
  ASSERT_EQ(::truncate(path.c_str(), 20 << 20), 0);
  EXPECT_NE(Faults(path).find("more than 16MiB"), std::string::npos);
}

TEST_F(ConfigSource, FaultsInAllIncludesAreFoundAtOnce) {
  std::string path = Write("main.json", R"({ "include": ["a", "b"], "listen": ":1" })");
  Write("a", "{,}");
  Write("b", "[]");
  EXPECT_EQ(Faults(path),
            "a: a key is missing before ','\nb: a configuration is an object, not an array\n");
}

TEST(ConfigVariables, AreReplacedInTexts) {
  Environment environment = EnvironmentOf({{"A", "one"}, {"EMPTY", ""}, {"NESTED", "${A}"}});
  struct Row {
    const char* text;
    const char* value;
  };
  for (const Row& row :
       {Row{"plain", "plain"}, Row{"${A}", "one"}, Row{"x${A}y${A}z", "xoneyonez"},
        Row{"${B:-two}", "two"}, Row{"${B:-}", ""}, Row{"${EMPTY}", ""}, Row{"${EMPTY:-d}", "d"},
        Row{"${A:-d}", "one"}, Row{"${NESTED}", "${A}"}, Row{"$A $5 $", "$A $5 $"},
        Row{"$${A}", "${A}"}, Row{"$$${A}", "$${A}"}, Row{"${B:-a:-b}", "a:-b"}}) {
    auto value = ExpandVariables(row.text, environment);
    ASSERT_TRUE(value) << row.text << ": " << value.error().detail();
    EXPECT_EQ(*value, row.value);
  }
  for (const char* text : {"${B}", "${", "${A", "${}", "${:-x}", "${1}", "${a b}", "${a-b}"}) {
    EXPECT_FALSE(ExpandVariables(text, environment)) << text;
  }
  EXPECT_FALSE(ExpandVariables("${X}", EnvironmentOf({{"X", "\xff"}}))) << "not UTF-8";
}

TEST(ConfigVariables, EscapingIsTheInverse) {
  for (const char* text : {"", "$", "${", "${A}", "$${A}", "$$${A}", "a${b${c", "$5", "${${"}) {
    auto value = ExpandVariables(EscapeVariables(text), {});
    ASSERT_TRUE(value) << text;
    EXPECT_EQ(*value, text);
    JsonNode node;
    node.kind = JsonNode::Kind::kString;
    node.text = EscapeVariables(text);
    UnescapeTree(node);
    EXPECT_EQ(node.text, text);
  }
}

TEST(ConfigVariables, AnUnsetOneIsReportedOnceAndNowhereElse) {
  EXPECT_EQ(
      FaultsOf(
          R"({ "listen": ":${P}", "upstream": "127.0.0.1:1", "timeouts": { "keepalive": "${K}" } })"),
      "listen: the variable P is not set | set it, or write ${P:-default}\n"
      "timeouts.keepalive: the variable K is not set | set it, or write ${K:-default}\n");
}

TEST(ConfigVariables, MayStandForNumbersAndFlags) {
  Environment environment = EnvironmentOf({{"N", "7"}, {"T", "true"}, {"W", "auto"}});
  Config config = ConfigFrom(
      With(
          R"("workers": "${N}", "forwarded": { "rfc7239": "${T}" }, "limits": { "max_connections": "${W}" })"),
      environment);
  EXPECT_EQ(config.workers, 7U);
  EXPECT_TRUE(config.forwarded.rfc7239);
  EXPECT_EQ(config.limits.max_connections, std::nullopt);
}

TEST(ConfigVariables, TheProcessHasAnEnvironment) {
  ::setenv("TIDEGATE_TEST_SOURCE", "x", 1);
  EXPECT_EQ(ProcessEnvironment()("TIDEGATE_TEST_SOURCE"), "x");
  ::unsetenv("TIDEGATE_TEST_SOURCE");
  EXPECT_EQ(ProcessEnvironment()("TIDEGATE_TEST_SOURCE"), std::nullopt);
}

}  // namespace
}  // namespace tidegate
