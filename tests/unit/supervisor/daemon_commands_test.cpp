#include <sstream>

#include "tests/unit/supervisor/fake_daemon.h"
#include "tests/unit/supervisor/run_cli.h"

namespace tidegate {
namespace {

using Json = nlohmann::json;

const std::vector<std::string> kUpgrade = {
    R"({"type":"progress","phase":"prepare","state":"running","text":"1 of 4","seconds":0.1})",
    R"({"type":"progress","phase":"prepare","state":"ok","text":"generation 8","seconds":0.2})",
    R"({"type":"result","exit_code":0,"message":"Serving 1.1.0 (generation 8).","data":{"generation":8}})"};

TEST(DaemonCommands, NoDaemonExitsWithFourInBothForms) {
  Ran ran = RunWith({"reload", "--socket", "/nowhere.sock"});
  EXPECT_EQ(ran.exit_code, 4);
  EXPECT_EQ(ran.results, "");
  EXPECT_EQ(ran.diagnostics,
            "tidegate: no daemon at /nowhere.sock: start one with \"tidegate run\"\n");
  ran = RunWith({"status", "--json", "--socket", "/nowhere.sock"});
  EXPECT_EQ(ran.exit_code, 4);
  EXPECT_EQ(Json::parse(ran.results)["exit_code"], 4);
}

TEST(DaemonCommands, AnUpgradeIsALineAPhaseAndTheMessage) {
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

TEST(DaemonCommands, JsonIsALineForEachProgressAndOneObjectAtTheEnd) {
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

TEST(DaemonCommands, AFailedUpgradeIsOnStderrAlsoWhenQuiet) {
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

TEST(DaemonCommands, StatusFiltersByNameAndExitsWithThreeWhenUnhealthy) {
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

TEST(DaemonCommands, ConnsSaysThatItHasEndedAConnection) {
  FakeDaemon daemon(
      FakeDaemon::Saying({R"({"type":"result","exit_code":0,"data":{"killed":true}})"}));
  Ran ran = RunWith({"conns", "--kill", "8.0.17", "--socket", daemon.path()});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_EQ(ran.results, "Connection 8.0.17 is ended.\n");
}

TEST(DaemonCommands, ConnsAsksForWhatIsWantedAndLoglevelForItsLevel) {
  FakeDaemon daemon(FakeDaemon::Saying(
      {R"({"type":"result","exit_code":0,"data":{"connections":[{"id":"8.0.1","state":"idle"}]}})"}));
  Ran ran = RunWith({"conns", "--generation", "8", "--state", "idle", "--socket", daemon.path()});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_NE(ran.results.find("8.0.1"), std::string::npos);
  EXPECT_NE(ran.results.find("1 connection\n"), std::string::npos);
  EXPECT_EQ(daemon.commands()[0]["args"], (Json{{"generation", 8}, {"state", "idle"}}));
  ran = RunWith({"loglevel", "debug", "--for", "10m", "--socket", daemon.path()});
  EXPECT_EQ(ran.results, "The error log is at level debug for 10m.\n");
  EXPECT_EQ(daemon.commands()[1]["args"], (Json{{"level", "debug"}, {"for", "10m"}}));
  for (const char* for_good : {"0s", "off"}) {
    ran = RunWith({"loglevel", "debug", "--for", for_good, "--socket", daemon.path()});
    EXPECT_EQ(ran.results, "The error log is at level debug for good.\n");
    EXPECT_EQ(daemon.commands().back()["args"], (Json{{"level", "debug"}}));
  }
}

TEST(DaemonCommands, CertListAsksTheDaemonAndReadsNoConfiguration) {
  FakeDaemon daemon(FakeDaemon::Saying(
      {R"({"type":"result","exit_code":0,"data":{"certificates":[{"hosts":["a.example"]}]}})"}));
  Ran ran = RunWith({"cert", "list", "--socket", daemon.path()});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_NE(ran.results.find("a.example"), std::string::npos);
  EXPECT_NE(ran.results.find("1 certificate\n"), std::string::npos);
  EXPECT_EQ(daemon.commands()[0]["args"], (Json{{"action", "list"}}));
  ran = RunWith({"cert", "list", "-c", "x.json", "--socket", daemon.path()});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.diagnostics.find("reads no configuration"), std::string::npos);
}

}  // namespace
}  // namespace tidegate
