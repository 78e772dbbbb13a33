#pragma once

// What a WorkerProcess needs around it, and the worker's end of its channel, spoken by hand. The
// process is a child that does nothing.

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include <gtest/gtest.h>

#include "common/control.h"
#include "supervisor/generation_worker.h"

namespace tidegate {

class WorkerRig : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(counters_.Create());
    auto row = counters_.Allocate();
    auto pair = MakeControlPair();
    ASSERT_TRUE(row && pair);
    row_ = *row;
    channel_ = std::move(pair->first);
    worker_end_ = std::move(pair->second);
    pid_ = ::fork();
    if (pid_ == 0) {
      while (true) {
        ::pause();
      }
    }
    ASSERT_GT(pid_, 0);
  }
  // Whatever uses the surroundings is gone by then.
  void TearDown() override {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    children_.reset();
    loop_.RunUntilClosed();
  }

  void Say(const nlohmann::json& message) {
    ASSERT_TRUE(SendControl(worker_end_.get(), message, {}, std::chrono::seconds(1)));
    for (int i = 0; i < 5; ++i) {
      loop_.RunNoWait();
    }
  }

  Loop loop_;
  std::optional<Children> children_{std::in_place, loop_};
  CountersOwner counters_;
  Listeners listeners_;
  LogFiles logs_;
  AddressBook addresses_;
  KeyRing keys_{0};
  NameFilesOwner name_files_;
  WorkerSurroundings surroundings_{.loop = loop_,
                                   .children = *children_,
                                   .counters = counters_,
                                   .listeners = listeners_,
                                   .logs = logs_,
                                   .addresses = addresses_,
                                   .keys = keys_,
                                   .name_files = name_files_};
  CountersRow row_;
  pid_t pid_ = -1;
  // For Adopt.
  UniqueFd channel_;
  UniqueFd worker_end_;
};

}  // namespace tidegate
