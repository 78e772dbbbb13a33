#include <fstream>

#include <nlohmann/json.hpp>

#include "tests/unit/supervisor/run_cli.h"

namespace tidegate {
namespace {

using Json = nlohmann::json;

TEST(OfflineCommands, VersionIsOneLineAndWithDetailNamesTheLibraries) {
  EXPECT_EQ(RunWith({"version"}).results, "tidegate " TIDEGATE_VERSION "\n");
  EXPECT_NE(RunWith({"version", "-v"}).results.find("libuv"), std::string::npos);
  EXPECT_EQ(Json::parse(RunWith({"--version", "--json"}).results)["version"], TIDEGATE_VERSION);
}

TEST(OfflineCommands, VersionWithoutAWorkerSaysSoAndIsNoError) {
  // None is built beside this test.
  Ran ran = RunWith({"version", "-v"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_NE(ran.results.find("\ntidegate-worker does not answer: open "), std::string::npos)
      << ran.results;
  Json object = Json::parse(RunWith({"version", "-v", "--json"}).results);
  EXPECT_NE(object["worker"]["fault"].get<std::string>().find("No such file"), std::string::npos);
}

TEST(OfflineCommands, SchemaIsJson) {
  Ran ran = RunWith({"schema"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_TRUE(Json::parse(ran.results).contains("properties"));
}

TEST(OfflineCommands, CheckSaysThatAFileIsValid) {
  ConfigFile file(R"({ "listen": ":8080", "upstream": "127.0.0.1:3000" })");
  Ran ran = RunWith({"check", file.path()});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_EQ(ran.results, file.path() + ": valid: 1 listener, 1 route, 1 upstream\n");
  EXPECT_EQ(ran.diagnostics, "");
  EXPECT_EQ(RunWith({"check", "-q", file.path()}).results, "");

  Json object = Json::parse(RunWith({"check", "--json", "--print", "-c", file.path()}).results);
  EXPECT_EQ(object["valid"], true);
  EXPECT_TRUE(object["effective"].is_object());
  EXPECT_TRUE(object["origins"].is_object());
  EXPECT_NE(RunWith({"check", "--print", file.path()}).results, "");
}

TEST(OfflineCommands, CheckWarnsOfAUserWhomThisSystemDoesNotHave) {
  ConfigFile file(
      "{ \"listen\": \":8080\", \"upstream\": \"127.0.0.1:3000\",\n  \"user\": \"no-such-user\" }");
  Ran ran = RunWith({"check", file.path()});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_TRUE(
      ran.diagnostics.starts_with(file.path() + ":2:11: warning: user: no such user here\n"))
      << ran.diagnostics;
  ConfigFile root(R"({ "listen": ":8080", "upstream": "127.0.0.1:3000", "user": "root" })");
  EXPECT_EQ(RunWith({"check", root.path()}).diagnostics, "");
}

TEST(OfflineCommands, CheckOfABrokenFileExitsWith78) {
  ConfigFile file(R"({ "listen": ":8080", "upsteam": "127.0.0.1:3000" })");
  Ran ran = RunWith({"check", "-q", file.path()});
  EXPECT_EQ(ran.exit_code, 78);
  EXPECT_EQ(ran.results, "");
  EXPECT_NE(ran.diagnostics.find("unknown key \"upsteam\""), std::string::npos) << ran.diagnostics;

  ran = RunWith({"check", "--json", file.path()});
  EXPECT_EQ(ran.exit_code, 78);
  Json object = Json::parse(ran.results);
  EXPECT_EQ(object["valid"], false);
  EXPECT_EQ(object["diagnostics"][0]["severity"], "error");
}

TEST(OfflineCommands, CertCheckSaysThatThereAreNone) {
  const std::string path = testing::TempDir() + "tidegate-cert-check.json";
  std::ofstream(path) << R"({"listen": ":8080", "upstream": "127.0.0.1:3000"})";
  Ran ran = RunWith({"cert", "check", "-c", path});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_EQ(ran.results, path + ": valid: 0 certificates\n");
  std::ofstream(path) << R"({"listen": ":8080", "upstream": "127.0.0.1:3000",
                             "certificates": [{"cert": "none.pem", "key": {"file": "none.key"}}]})";
  ran = RunWith({"cert", "check", "-c", path});
  EXPECT_EQ(ran.exit_code, 78);
  EXPECT_NE(ran.diagnostics.find("none.pem"), std::string::npos);
}

}  // namespace
}  // namespace tidegate
