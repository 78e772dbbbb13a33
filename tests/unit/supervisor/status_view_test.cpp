#include "supervisor/status_view.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace tidegate {
namespace {

using Json = nlohmann::json;

Json Status() {
  return Json::parse(R"({
    "schema_version": 1, "pid": 4711, "version": "1.1.0", "state": "serving", "healthy": false,
    "problems": ["worker 1 of generation 8 has been started again 3 times"],
    "started": "2026-01-02T03:04:05Z", "uptime_seconds": 90061,
    "config_file": "/etc/tidegate/tidegate.json", "config_loaded": "2026-01-02T03:04:05Z",
    "socket": "/run/tidegate/control.sock", "generation": 8, "previous_version": "1.0.0",
    "generations": [
      {"number": 7, "state": "draining", "version": "1.0.0", "workers": [
        {"slot": 0, "pid": 100, "state": "draining", "restarts": 0, "uptime_seconds": 90000,
         "draining": {"left": 13, "tunnels": 1, "oldest_seconds": 4.1}}]},
      {"number": 8, "state": "serving", "version": "1.1.0", "workers": [
        {"slot": 0, "pid": 200, "state": "serving", "restarts": 0, "uptime_seconds": 12.3,
         "confinement": {"seccomp": {"in_force": true}, "landlock": {"in_force": true}}},
        {"slot": 1, "pid": 201, "state": "serving", "restarts": 3, "uptime_seconds": 1,
         "confinement": {"seccomp": {"in_force": true}, "landlock": {"in_force": true}}}]}],
    "listeners": [
      {"name": "web", "bind": ":80", "accept": "reuseport", "addresses": ["[::]:80"], "sockets": 2},
      {"name": "priv", "bind": "unix:/run/app", "accept": "shared", "addresses": ["unix:/run/app"],
       "sockets": 1}],
    "counters": {"requests_total": 1234, "responses_2xx": 1200, "bytes_out": 1048576,
                 "errors_no_route": 3, "errors_reset": 0,
                 "reloads_ok": 1}
  })");
}

TEST(StatusView, ShowsGenerationsWorkersListenersAndCounters) {
  EXPECT_EQ(
      StatusText(Status(), Output(-1, ColorMode::kNever), false),
      "tidegate 1.1.0  serving  generation 8, pid 4711, up 1d1h\n"
      "  configuration  /etc/tidegate/tidegate.json, read 2026-01-02T03:04:05Z\n"
      "  problem        worker 1 of generation 8 has been started again 3 times\n"
      "\n"
      "GENERATION  STATE     VERSION  SLOT  PID  WORKER    RESTARTS  UP     DRAIN\n"
      "7           draining  1.0.0    0     100  draining  0         1d1h   13 left, 1 tunnel, "
      "oldest 4.10s\n"
      "8           serving   1.1.0    0     200  serving   0         12.3s\n"
      "                               1     201  serving   3         1.00s\n"
      "generation 7 confined: unknown, its version does not say\n"
      "generation 8 confined: seccomp, landlock\n"
      "\n"
      "LISTENER  BIND           ADDRESSES      ACCEPT\n"
      "web       :80            [::]:80        reuseport\n"
      "priv      unix:/run/app  unix:/run/app  shared\n"
      "\n"
      "1234 requests (2xx 1200, 3xx 0, 4xx 0, 5xx 0), 0 connections open, 0 in, 1.0 MiB out\n"
      "errors: no_route 3\n"
      "1 reload (0 failed), 0 upgrades (0 failed, 0 rolled back), 0 worker restarts\n");
}

TEST(StatusView, SaysOfADrainWhatHasMoved) {
  Json status = Status();
  Json& draining = status["generations"][0]["workers"][0]["draining"];
  draining["moved"] = {{"idle", 363U}, {"tunnels", 18U}, {"upstream", 5U}};
  draining["declined"] = {{"route", 2U}, {"limits", 1U}, {"of no known kind", 9U}};
  std::string text = StatusText(status, Output(-1, ColorMode::kNever), false);
  EXPECT_NE(
      text.find("13 left, 1 tunnel, oldest 4.10s; 381 moved, 3 declined (route 2, limits 1)\n"),
      std::string::npos)
      << text;
  draining["moved"] = Json::object();
  draining["declined"] = Json::object();
  EXPECT_EQ(StatusText(status, Output(-1, ColorMode::kNever), false),
            StatusText(Status(), Output(-1, ColorMode::kNever), false));
}

TEST(StatusView, TellsOfTheLastOperationOnlyIfItFailed) {
  Json status = Status();
  status["last_operation"] = nullptr;
  const Output output(-1, ColorMode::kNever);
  const std::string without = StatusText(status, output, false);
  EXPECT_EQ(without, StatusText(Status(), output, false));
  status["last_operation"] = {{"operation", "upgrade"},
                              {"ended", "2026-01-02T12:03:04Z"},
                              {"exit_code", 0U},
                              {"result", "done"}};
  EXPECT_EQ(StatusText(status, output, false), without);
  status["last_operation"].update(
      {{"exit_code", 8U}, {"result", "rolled_back"}, {"reason", "the new worker exited with 1"}});
  const std::string text = StatusText(status, output, false);
  EXPECT_NE(text.find("\n  last upgrade   rolled back 2026-01-02T12:03:04Z: the new worker exited "
                      "with 1; 1.1.0 serves on\n"),
            std::string::npos)
      << text;
}

TEST(StatusView, SaysWhichWorkersAreNotWhollyConfined) {
  Json status = Status();
  Json& landlock = status["generations"][1]["workers"][1]["confinement"]["landlock"];
  landlock = {{"in_force", false}, {"note", "this kernel has none"}};
  std::string text = StatusText(status, Output(-1, ColorMode::kNever), false);
  EXPECT_NE(text.find("generation 8 confined: seccomp, landlock / "
                      "seccomp; no landlock: this kernel has none\n"),
            std::string::npos)
      << text;
}

TEST(StatusView, WithDetailShowsEveryCounterAndWhereThingsAre) {
  std::string text = StatusText(Status(), Output(-1, ColorMode::kNever), true);
  EXPECT_NE(text.find("requests_total   1234\n"), std::string::npos);
  EXPECT_NE(text.find("/run/tidegate/control.sock\n"), std::string::npos);
  EXPECT_NE(text.find("errors_no_route  3\n"), std::string::npos);
  EXPECT_EQ(text.find("errors_reset"), std::string::npos);
  EXPECT_NE(text.find("SOCKETS"), std::string::npos);
}

TEST(StatusView, TakesADaemonThatSaysLess) {
  Output output(-1, ColorMode::kNever);
  EXPECT_NE(StatusText(Json::object(), output, true), "");
  Json status = Json::parse(
      R"({"generations": [{"number": 1, "workers": "odd"}, 7], "listeners": {}, "problems": [3]})");
  EXPECT_NE(StatusText(status, output, false).find("GENERATION"), std::string::npos);
}

TEST(StatusView, ANameLeavesOnlyWhatIsCalledThat) {
  Json status = Status();
  ASSERT_TRUE(KeepOnly(status, "web"));
  EXPECT_EQ(status["listeners"].size(), 1U);
  EXPECT_TRUE(status["generations"].empty());

  status = Status();
  ASSERT_TRUE(KeepOnly(status, "7"));
  EXPECT_EQ(status["generations"].size(), 1U);

  status = Status();
  EXPECT_FALSE(KeepOnly(status, "nothing"));
  EXPECT_EQ(status, Status());
}

TEST(StatusView, ListsConnectionsAndCountsThem) {
  Json data = Json::parse(R"({"connections": [
    {"id": "8.0.17", "generation": 8, "slot": 0, "pid": 200, "state": "tunnel", "client": "127.0.0.1:5",
     "listener": "web", "age_seconds": 65.2, "bytes_in": 10, "bytes_out": 2048}]})");
  EXPECT_EQ(ConnectionsText(data, Output(-1, ColorMode::kNever)),
            "ID      STATE   AGE    GENERATION  SLOT  PID  LISTENER  CLIENT       IN  OUT\n"
            "8.0.17  tunnel  1m05s  8           0     200  web       127.0.0.1:5  10  2.0 KiB\n"
            "\n1 connection\n");
  data["connections"][0]["hand_overs"] = 0U;
  EXPECT_EQ(ConnectionsText(data, Output(-1, ColorMode::kNever)).find("MOVED"), std::string::npos);
  data["connections"][0]["hand_overs"] = 3U;
  EXPECT_EQ(
      ConnectionsText(data, Output(-1, ColorMode::kNever)),
      "ID      STATE   AGE    GENERATION  SLOT  PID  LISTENER  CLIENT       IN  OUT      MOVED\n"
      "8.0.17  tunnel  1m05s  8           0     200  web       127.0.0.1:5  10  2.0 KiB  3\n"
      "\n1 connection\n");
  EXPECT_EQ(ConnectionsText(Json::object(), Output(-1, ColorMode::kNever)), "0 connections\n");
}

}  // namespace
}  // namespace tidegate
