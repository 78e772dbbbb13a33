#pragma once

// What a command prints when the daemon has answered: results for stdout, and on failure the phase,
// the reason and the last lines of the process that failed for stderr.

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "supervisor/output.h"
#include "supervisor/transcript.h"

namespace tidegate {

// A `progress` of the protocol; fields that are missing are empty.
Progress ProgressOf(const nlohmann::json& message);

// The two objects of --json, each a line: what runs, and the one at the end. Fields of the protocol
// alone (`v`, `fds`) are left out; `data` is merged into the object.
std::string ProgressJson(const nlohmann::json& message);
std::string ResultJson(const std::string& command, const nlohmann::json& result);
// The one at the end when there is no answer.
std::string FaultJson(const std::string& command, ExitCode exit_code, const std::string& message);

// Of a `result`, without `data`: empty texts where there is nothing to say.
struct AnswerText {
  std::string results;
  std::string diagnostics;
};
AnswerText AnswerTextOf(const std::string& command, const nlohmann::json& result,
                        const Outputs& outputs);

// INTERFACE's code for this answer; kFailed for a number that is none of them.
ExitCode ExitCodeOf(const nlohmann::json& result);

}  // namespace tidegate
