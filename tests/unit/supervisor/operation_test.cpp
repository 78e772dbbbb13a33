#include "supervisor/operation.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using nlohmann::json;

Outcome Changed(bool changed) {
  return Outcome{.data = {{"changed", changed}}};
}

const Operation kReload;
const Operation kUpgrade{.kind = OperationKind::kUpgrade};
const Operation kAuto{.kind = OperationKind::kUpgrade, .automatic = true};
const Operation kForced{.kind = OperationKind::kUpgrade, .force = true};
const Operation kRollback{.kind = OperationKind::kRollback, .force = true};
const Operation kOther{.kind = OperationKind::kUpgrade, .binary = "/x/tidegate"};

TEST(Operation, WhoWaitsAndWhoJoinsGetAtLeastWhatTheyWant) {
  struct Case {
    const Operation& one;
    const Operation& other;
    OperationKind kind;
    bool automatic;
    bool force;
    std::string binary;
  };
  const std::vector<Case> cases = {
      {kReload, kReload, OperationKind::kReload, false, false, ""},
      {kReload, kUpgrade, OperationKind::kUpgrade, false, false, ""},
      {kReload, kAuto, OperationKind::kUpgrade, true, false, ""},
      {kReload, kOther, OperationKind::kUpgrade, false, false, "/x/tidegate"},
      {kUpgrade, kAuto, OperationKind::kUpgrade, false, false, ""},
      {kAuto, kAuto, OperationKind::kUpgrade, true, false, ""},
      {kAuto, kForced, OperationKind::kUpgrade, false, true, ""},
      {kOther, kOther, OperationKind::kUpgrade, false, false, "/x/tidegate"},
      {kRollback, kRollback, OperationKind::kRollback, false, true, ""},
  };
  for (const Case& each : cases) {
    for (bool turned : {false, true}) {
      Operation waiting = turned ? each.other : each.one;
      const Operation& added = turned ? each.one : each.other;
      const auto number = &each - cases.data();
      ASSERT_TRUE(Join(waiting, added)) << number << turned;
      EXPECT_EQ(waiting.kind, each.kind) << number << turned;
      EXPECT_EQ(waiting.automatic, each.automatic) << number << turned;
      EXPECT_EQ(waiting.force, each.force) << number << turned;
      EXPECT_EQ(waiting.binary, each.binary) << number << turned;
    }
  }
}

TEST(Operation, WhatNoOperationGivesToBothDoesNotJoin) {
  const Operation third{.kind = OperationKind::kUpgrade, .binary = "/y/tidegate"};
  const std::vector<std::pair<const Operation*, const Operation*>> pairs = {
      {&kRollback, &kReload}, {&kRollback, &kUpgrade}, {&kRollback, &kAuto}, {&kRollback, &kOther},
      {&kOther, &kUpgrade},   {&kOther, &kAuto},       {&kOther, &kForced},  {&kOther, &third}};
  for (const auto& [one, other] : pairs) {
    for (bool turned : {false, true}) {
      Operation waiting = turned ? *other : *one;
      Operation added = turned ? *one : *other;
      waiting.clients = {{.id = 1}};
      added.clients = {{.id = 2}};
      const OperationKind kind = waiting.kind;
      const std::string binary = waiting.binary;
      EXPECT_FALSE(Join(waiting, added));
      EXPECT_EQ(waiting.kind, kind);
      EXPECT_EQ(waiting.binary, binary);
      EXPECT_EQ(waiting.clients.size(), 1U);
    }
  }
}

TEST(Operation, WhoJoinsIsAnsweredAndTheFirstSaysHowLongToDrain) {
  Operation waiting{.files_only = true, .clients = {{.id = 1}}};
  ASSERT_TRUE(Join(waiting, Operation{.kind = OperationKind::kUpgrade,
                                      .drain = std::chrono::seconds(3),
                                      .clients = {{.id = 2, .answer_at = AnswerAt::kStable}}}));
  ASSERT_TRUE(Join(waiting, Operation{.kind = OperationKind::kUpgrade,
                                      .drain = std::chrono::seconds(9),
                                      .clients = {{.id = 3}}}));
  EXPECT_FALSE(waiting.files_only) << "somebody wants the configuration read";
  EXPECT_EQ(waiting.drain, std::chrono::seconds(3));
  ASSERT_EQ(waiting.clients.size(), 3U);
  EXPECT_EQ(waiting.clients[1].id, 2U);
  EXPECT_EQ(waiting.clients[1].answer_at, AnswerAt::kStable);
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
