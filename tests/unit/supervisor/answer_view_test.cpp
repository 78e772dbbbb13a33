#include "supervisor/answer_view.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace tidegate {
namespace {

using Json = nlohmann::json;

AnswerText Answer(const char* command, const char* result) {
  Invocation invocation;
  invocation.color = ColorMode::kNever;
  return AnswerTextOf(command, Json::parse(result), Outputs(invocation));
}

TEST(AnswerView, SuccessIsWhatChangedAndTheMessage) {
  AnswerText text = Answer(
      "reload",
      R"({"exit_code": 0, "changes": ["routes: added \"api\""], "message": "generation 7 serves it"})");
  EXPECT_EQ(text.results, "  routes: added \"api\"\ngeneration 7 serves it\n");
  EXPECT_EQ(text.diagnostics, "");
}

TEST(AnswerView, AnUpgradeWithoutAMessageSaysWhatServesNow) {
  EXPECT_EQ(Answer("upgrade", R"({"exit_code": 0, "message": "",
      "data": {"version": "1.1.0", "generation": 8, "changed": true}})")
                .results,
            "Serving 1.1.0 (generation 8).\n");
  EXPECT_EQ(
      Answer("reload", R"({"exit_code": 0, "data": {"generation": 8, "changed": true}})").results,
      "");
}

TEST(AnswerView, WarningsOfASuccessAreDiagnostics) {
  AnswerText text = Answer(
      "reload",
      R"({"exit_code": 0, "diagnostics_text": "a: warning: b\n1 warning.\n", "message": ""})");
  EXPECT_EQ(text.results, "");
  EXPECT_EQ(text.diagnostics, "a: warning: b\n1 warning.\n");
}

TEST(AnswerView, FailureNamesThePhaseTheReasonTheOutputAndWhoServes) {
  AnswerText text = Answer("upgrade", R"({"exit_code": 8, "phase": "probation",
      "reason": "2 workers crashed", "output": "check failed: x\nbye",
      "message": "Still serving 1.0.0 (generation 7)."})");
  EXPECT_EQ(text.results, "");
  EXPECT_EQ(text.diagnostics,
            "tidegate: upgrade failed in probation: 2 workers crashed\n"
            "  | check failed: x\n"
            "  | bye\n"
            "Still serving 1.0.0 (generation 7).\n");
}

TEST(AnswerView, AnInvalidConfigurationIsItsDiagnosticsAndThatNothingChanged) {
  const char* expected = "f:1:1: error: x\n1 error. The running configuration is unchanged.\n";
  EXPECT_EQ(Answer("reload", R"({"exit_code": 78, "phase": "snapshot", "reason": "invalid",
      "message": "Still serving 1.0.0 (generation 7).",
      "diagnostics_text": "f:1:1: error: x\n1 error.\n"})")
                .diagnostics,
            expected);
  EXPECT_EQ(Answer("reload", R"({"exit_code": 78,
      "diagnostics_text": "f:1:1: error: x\n1 error.\nThe running configuration is unchanged.\n"})")
                .diagnostics,
            expected);
  EXPECT_EQ(Answer("upgrade", R"({"exit_code": 78, "phase": "preflight", "reason": "no certificate",
      "message": "Still serving 1.0.0 (generation 7)."})")
                .diagnostics,
            "tidegate: upgrade failed in preflight: no certificate\n"
            "Still serving 1.0.0 (generation 7).\n");
}

TEST(AnswerView, AReloadThatBecameAnUpgradeSaysSo) {
  std::string text = Answer("reload", R"({"exit_code": 0, "changes": ["workers: 2 -> 1"],
      "data": {"became_upgrade": true, "changed": true, "version": "1.0.0", "generation": 2}})")
                         .results;
  EXPECT_EQ(text,
            "  workers: 2 -> 1\n"
            "Running workers cannot take this change: the reload became an upgrade.\n"
            "Serving 1.0.0 (generation 2).\n");
}

TEST(AnswerView, AnAutomaticUpgradeThatWasAReloadSaysSo) {
  EXPECT_EQ(Answer("upgrade", R"({"exit_code": 0, "became": "reload", "changes": ["routes: x"],
      "data": {"changed": true, "generation": 2}})")
                .results,
            "  routes: x\nThe binaries have not changed: the configuration was reloaded.\n");
  EXPECT_EQ(Answer("upgrade", R"({"exit_code": 0, "became": "nothing", "message": "nothing to do",
      "data": {"changed": false}})")
                .results,
            "nothing to do\n");
  EXPECT_EQ(Answer("upgrade", R"({"exit_code": 1, "became": "reload", "phase": "bind",
      "reason": "in use", "message": "Still serving 1.0.0 (generation 7)."})")
                .diagnostics,
            "tidegate: reload failed in bind: in use\nStill serving 1.0.0 (generation 7).\n");
}

TEST(AnswerView, AProgressIsItsFirstLine) {
  EXPECT_EQ(ProgressOf(Json::parse(R"({"text": "invalid\nf:1:1: error"})")).text, "invalid");
}

TEST(AnswerView, AMessageAloneIsTheComplaint) {
  AnswerText text =
      Answer("loglevel", R"({"exit_code": 5, "message": "not allowed for uid 1000"})");
  EXPECT_EQ(text.diagnostics, "tidegate: not allowed for uid 1000\n");
  EXPECT_EQ(Answer("stop", R"({"exit_code": 1})").diagnostics, "tidegate: stop failed\n");
}

TEST(AnswerView, WhatAnotherProcessWroteCannotMoveTheCursor) {
  AnswerText text =
      Answer("upgrade", R"({"exit_code": 1, "reason": "a\u001b[2Jb", "output": "\u001b[31m"})");
  EXPECT_EQ(text.diagnostics.find('\x1b'), std::string::npos);
}

TEST(AnswerView, ExitCodesAreOursOrFailed) {
  for (int code : {0, 1, 2, 3, 4, 5, 6, 7, 8, 78}) {
    EXPECT_EQ(
        static_cast<int>(ExitCodeOf(Json::parse("{\"exit_code\":" + std::to_string(code) + "}"))),
        code);
  }
  EXPECT_EQ(ExitCodeOf(Json::parse(R"({"exit_code": 99})")), ExitCode::kFailed);
  EXPECT_EQ(ExitCodeOf(Json::parse(R"({})")), ExitCode::kFailed);
}

TEST(AnswerView, JsonLinesLeaveOutTheProtocolAndMergeTheData) {
  EXPECT_EQ(ProgressJson(
                Json::parse(R"({"v":1,"fds":0,"type":"progress","phase":"drain","seconds":1.5})")),
            R"({"schema_version":1,"type":"progress","phase":"drain","seconds":1.5})"
            "\n");
  Json object = Json::parse(ResultJson(
      "upgrade",
      Json::parse(
          R"({"v":1,"fds":0,"type":"result","exit_code":0,"message":"m","data":{"generation":8}})")));
  EXPECT_EQ(object, Json::parse(R"({"schema_version":1,"type":"result","command":"upgrade",
      "exit_code":0,"message":"m","generation":8})"));
  EXPECT_EQ(Json::parse(FaultJson("stop", ExitCode::kNoDaemon, "none"))["exit_code"], 4);
}

TEST(AnswerView, ProgressTakesWhatIsThere) {
  Progress progress = ProgressOf(Json::parse(
      R"({"phase":"drain","state":"running","text":"t","seconds":2,"limit_seconds":30})"));
  EXPECT_EQ(progress.phase, "drain");
  EXPECT_EQ(progress.limit_seconds, 30);
  EXPECT_EQ(ProgressOf(Json::parse(R"({"state":"warning"})")).state, PhaseState::kWarning);
  EXPECT_EQ(ProgressOf(Json::parse(R"({"state":7,"limit_seconds":null})")).state,
            PhaseState::kRunning);
}

}  // namespace
}  // namespace tidegate
