#pragma once

// How a worker is confined, in its own words: it says so in its hello, its supervisor in `status`.

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace tidegate {

struct ConfinementReport {
  struct Part {
    bool in_force = false;
    // Why it is not, or what this kernel leaves out, for people; may be empty.
    std::string note{};
    bool operator==(const Part&) const = default;
  };
  Part seccomp;
  Part landlock;

  bool is_complete() const { return seccomp.in_force && landlock.in_force; }
  bool operator==(const ConfinementReport&) const = default;
};

// {"seccomp":{"in_force":true},"landlock":{"in_force":false,"note":"..."}}
nlohmann::json ConfinementJson(const ConfinementReport& report);
// What a peer wrote; notes are printable and short. Nothing: it is no such object, as from a worker
// of before the confinement.
std::optional<ConfinementReport> ConfinementReportOf(const nlohmann::json& written);
// "seccomp, landlock"; "seccomp; no landlock: this kernel has none".
std::string ConfinementText(const ConfinementReport& report);

}  // namespace tidegate
