#include "supervisor/cli.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "tests/unit/supervisor/fake_daemon.h"

namespace tidegate {
namespace {

using Json = nlohmann::json;

struct Ran {
  int exit_code;
  std::string results;
  std::string diagnostics;
};

Ran RunWith(std::vector<std::string> words) {
  std::vector<char*> argv = {const_cast<char*>("tidegate")};
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  int exit_code = RunCli(static_cast<int>(argv.size()), argv.data());
  std::string results = testing::internal::GetCapturedStdout();
  return {exit_code, results, testing::internal::GetCapturedStderr()};
}

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text)
      : path_(testing::TempDir() + "tidegate_cli_" + std::to_string(::getpid()) + ".json") {
    std::ofstream(path_) << text;
  }
  ~ConfigFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(Cli, UsageErrorsExitWithTwoAndWriteOnlyToStderr) {
  Ran ran = RunWith({"upgrad"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_EQ(ran.results, "");
  EXPECT_EQ(ran.diagnostics,
            "tidegate: unknown command \"upgrad\"; did you mean \"upgrade\"?\n"
            "Try \"tidegate --help\".\n");
}

TEST(Cli, VersionIsOneLineAndWithDetailNamesTheLibraries) {
  EXPECT_EQ(RunWith({"version"}).results, "tidegate " TIDEGATE_VERSION "\n");
  EXPECT_NE(RunWith({"version", "-v"}).results.find("libuv"), std::string::npos);
  EXPECT_EQ(Json::parse(RunWith({"--version", "--json"}).results)["version"], TIDEGATE_VERSION);
}

TEST(Cli, SchemaIsJson) {
  Ran ran = RunWith({"schema"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_TRUE(Json::parse(ran.results).contains("properties"));
}

TEST(Cli, CheckSaysThatAFileIsValid) {
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

TEST(Cli, CheckOfABrokenFileExitsWith78) {
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

TEST(Cli, ProxyRefusesABadAddressBeforeItStarts) {
  Ran ran = RunWith({"proxy", "--from", "8080", "--to", ":1"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.diagnostics.find("--from 8080"), std::string::npos);
}

TEST(Cli, NoDaemonExitsWithFourInBothForms) {
  Ran ran = RunWith({"reload", "--socket", "/nowhere.sock"});
  EXPECT_EQ(ran.exit_code, 4);
  EXPECT_EQ(ran.results, "");
  EXPECT_EQ(ran.diagnostics,
            "tidegate: no daemon at /nowhere.sock: start one with \"tidegate run\"\n");
  ran = RunWith({"status", "--json", "--socket", "/nowhere.sock"});
  EXPECT_EQ(ran.exit_code, 4);
  EXPECT_EQ(Json::parse(ran.results)["exit_code"], 4);
}

const std::vector<std::string> kUpgrade = {
    R"({"type":"progress","phase":"prepare","state":"running","text":"1 of 4","seconds":0.1})",
    R"({"type":"progress","phase":"prepare","state":"ok","text":"generation 8","seconds":0.2})",
    R"({"type":"result","exit_code":0,"message":"Serving 1.1.0 (generation 8).","data":{"generation":8}})"};

TEST(Cli, AnUpgradeIsALineAPhaseAndTheMessage) {
  FakeDaemon daemon(FakeDaemon::Saying(kUpgrade));
  Ran ran = RunWith(
      {"upgrade", "--socket", daemon.path(), "--binary", "/new", "--drain", "30s", "--detach"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_EQ(
      ran.results,
      "  ok    prepare     generation 8                                                0.20s\n"
      "Serving 1.1.0 (generation 8).\n");
  EXPECT_EQ(ran.diagnostics, "");
  EXPECT_EQ(daemon.commands()[0]["args"],
            (Json{{"binary", "/new"}, {"drain", "30s"}, {"detach", true}}));
  EXPECT_EQ(RunWith({"upgrade", "--socket", daemon.path(), "-q"}).results, "");
}

TEST(Cli, JsonIsALineForEachProgressAndOneObjectAtTheEnd) {
  FakeDaemon daemon(FakeDaemon::Saying(kUpgrade));
  Ran ran = RunWith({"--json", "upgrade", "--socket", daemon.path()});
  std::istringstream lines(ran.results);
  std::vector<Json> objects;
  for (std::string line; std::getline(lines, line);) {
    objects.push_back(Json::parse(line));
    EXPECT_EQ(objects.back()["schema_version"], 1);
  }
  ASSERT_EQ(objects.size(), 3U);
  EXPECT_EQ(objects[1]["state"], "ok");
  EXPECT_EQ(objects[2]["generation"], 8);
  EXPECT_EQ(objects[2]["exit_code"], 0);
}

TEST(Cli, AFailedUpgradeIsOnStderrAlsoWhenQuiet) {
  FakeDaemon daemon(FakeDaemon::Saying(
      {R"({"type":"progress","phase":"prepare","state":"failed","text":"worker 2 ended","seconds":0.2})",
       R"({"type":"result","exit_code":1,"phase":"prepare","reason":"worker 2 ended","output":"oh no",
           "message":"Still serving 1.0.0 (generation 7)."})"}));
  Ran ran = RunWith({"upgrade", "-q", "--socket", daemon.path()});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_EQ(ran.results, "");
  EXPECT_EQ(ran.diagnostics,
            "tidegate: upgrade failed in prepare: worker 2 ended\n"
            "  | oh no\n"
            "Still serving 1.0.0 (generation 7).\n");
}

TEST(Cli, StatusFiltersByNameAndExitsWithThreeWhenUnhealthy) {
  FakeDaemon daemon(FakeDaemon::Saying({R"({"type":"result","exit_code":3,"data":{
      "schema_version":1,"version":"1.0.0","state":"serving","generation":1,
      "listeners":[{"name":"web","bind":":80"},{"name":"tls","bind":":443"}]}})"}));
  Ran ran = RunWith({"status", "web", "--socket", daemon.path()});
  EXPECT_EQ(ran.exit_code, 3);
  EXPECT_NE(ran.results.find("web"), std::string::npos);
  EXPECT_EQ(ran.results.find("tls"), std::string::npos);
  Json object = Json::parse(RunWith({"status", "--json", "--socket", daemon.path()}).results);
  EXPECT_EQ(object["generation"], 1);
  EXPECT_EQ(object["listeners"].size(), 2U);
  ran = RunWith({"status", "wbe", "--socket", daemon.path()});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_NE(ran.diagnostics.find("called \"wbe\""), std::string::npos);
}

TEST(Cli, ConnsAsksForWhatIsWantedAndLoglevelForItsLevel) {
  FakeDaemon daemon(FakeDaemon::Saying(
      {R"({"type":"result","exit_code":0,"data":{"connections":[{"id":"8.0.1","state":"idle"}]}})"}));
  Ran ran = RunWith({"conns", "--generation", "8", "--state", "idle", "--socket", daemon.path()});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_NE(ran.results.find("8.0.1"), std::string::npos);
  EXPECT_NE(ran.results.find("1 connection\n"), std::string::npos);
  EXPECT_EQ(daemon.commands()[0]["args"], (Json{{"generation", 8}, {"state", "idle"}}));
  RunWith({"loglevel", "debug", "--for", "10m", "--socket", daemon.path()});
  EXPECT_EQ(daemon.commands()[1]["args"], (Json{{"level", "debug"}, {"for", "10m"}}));
}

}  // namespace
}  // namespace tidegate
