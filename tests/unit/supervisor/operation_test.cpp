#include "supervisor/operation.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using nlohmann::json;

Outcome Changed(bool changed) {
  return Outcome{.data = {{"changed", changed}}};
}

TEST(Operation, OnlyAnAutomaticOneSaysWhatItBecame) {
  Outcome outcome = Changed(true);
  TellWhatItBecame(Operation{.kind = OperationKind::kUpgrade}, outcome);
  EXPECT_FALSE(outcome.more.contains("became"));

  auto became = [](OperationKind kind, Outcome of) {
    TellWhatItBecame(Operation{.kind = kind, .automatic = true}, of);
    return of.more.at("became").get<std::string>();
  };
  EXPECT_EQ(became(OperationKind::kReload, Changed(true)), "reload");
  EXPECT_EQ(became(OperationKind::kUpgrade, Changed(true)), "upgrade");
  EXPECT_EQ(became(OperationKind::kReload, Changed(false)), "nothing");
  EXPECT_EQ(became(OperationKind::kUpgrade, Outcome{.exit_code = 8}), "upgrade");
}

TEST(Operation, AClientIsAnsweredAtTheEndUnlessItWishesOtherwise) {
  EXPECT_EQ(AnswerAtOf(json::object()), AnswerAt::kDrained);
  EXPECT_EQ(AnswerAtOf({{"detach", true}}), AnswerAt::kCommit);
  EXPECT_EQ(AnswerAtOf({{"auto", true}}), AnswerAt::kStable);
  EXPECT_EQ(AnswerAtOf({{"auto", true}, {"detach", true}}), AnswerAt::kCommit);
  EXPECT_EQ(AnswerAtOf({{"stable", true}}), AnswerAt::kStable);
}

TEST(Operation, WhatReadsTheFileAndDoesNotFailHasFoundItUsable) {
  auto read = [](Operation operation, Outcome outcome) {
    return HasReadTheFile(operation, outcome);
  };
  EXPECT_TRUE(read({}, Changed(false)));
  EXPECT_TRUE(read({.kind = OperationKind::kUpgrade}, {}));
  EXPECT_FALSE(read({}, {.exit_code = 78}));
  EXPECT_FALSE(read({.files_only = true}, Changed(true)));
  EXPECT_FALSE(read({.kind = OperationKind::kRollback}, {}));
}

TEST(Operation, AReloadCountsIfItWasAskedForAndDidSomething) {
  EXPECT_TRUE(HasReloaded({}, Changed(true)));
  EXPECT_TRUE(HasReloaded({.force = true}, Changed(false)));
  EXPECT_FALSE(HasReloaded({}, Changed(false)));
  EXPECT_FALSE(HasReloaded({}, {.exit_code = 1}));
  EXPECT_FALSE(HasReloaded({.files_only = true}, Changed(true)));
  EXPECT_FALSE(HasReloaded({.kind = OperationKind::kUpgrade}, {}));
}

TEST(Operation, ARecordOfSuccessSaysWhatAndWhen) {
  EXPECT_EQ(RecordOf(Operation{.kind = OperationKind::kRollback}, Outcome{}, 0),
            (json{{"operation", "rollback"},
                  {"ended", "1970-01-01T00:00:00.000Z"},
                  {"exit_code", 0},
                  {"result", "done"}}));
  EXPECT_EQ(RecordOf(Operation{}, Changed(false), 0).at("result"), "nothing_to_do");
  EXPECT_EQ(RecordOf(Operation{.force = true}, Changed(false), 0).at("result"), "done");
}

TEST(Operation, ARecordOfAFailureIsOneLine) {
  Outcome outcome{.exit_code = 8, .message = "Still serving 1.0.0 (generation 7)."};
  outcome.more = {{"phase", "probation"}, {"reason", "worker 0 exited with 1"}};
  json record = RecordOf(Operation{.kind = OperationKind::kUpgrade}, outcome, 0);
  EXPECT_EQ(record.at("result"), "rolled_back");
  EXPECT_EQ(record.at("phase"), "probation");
  EXPECT_EQ(record.at("reason"), "worker 0 exited with 1");

  outcome.exit_code = 78;
  outcome.more = {{"reason", "the configuration is invalid"},
                  {"diagnostics_text", "a.json:1:1: error: x\n  1 | {\n1 error\n"}};
  record = RecordOf(Operation{}, outcome, 0);
  EXPECT_EQ(record.at("result"), "failed");
  EXPECT_EQ(record.at("reason"), "the configuration is invalid: a.json:1:1: error: x");

  EXPECT_EQ(RecordOf(Operation{}, Outcome{.exit_code = 6, .message = "no"}, 0).at("reason"), "no");
}

}  // namespace
}  // namespace tidegate
