#include "common/confinement_report.h"

#include <cstddef>
#include <string_view>

#include "common/control_messages.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr std::size_t kMostNoteBytes = 200;

json PartJson(const ConfinementReport::Part& part) {
  json written = {{"in_force", part.in_force}};
  if (!part.note.empty()) {
    written["note"] = part.note;
  }
  return written;
}

std::optional<ConfinementReport::Part> PartOf(const json& written, const char* name) {
  auto part = written.find(name);
  if (part == written.end() || !part->is_object()) {
    return std::nullopt;
  }
  std::string note = TextOf(*part, "note").substr(0, kMostNoteBytes);
  for (char& c : note) {
    c = c >= ' ' && c < 0x7f ? c : '?';
  }
  return ConfinementReport::Part{.in_force = FlagOf(*part, "in_force"), .note = std::move(note)};
}

}  // namespace

json ConfinementJson(const ConfinementReport& report) {
  return {{"seccomp", PartJson(report.seccomp)}, {"landlock", PartJson(report.landlock)}};
}

std::optional<ConfinementReport> ConfinementReportOf(const json& written) {
  if (!written.is_object()) {
    return std::nullopt;
  }
  auto seccomp = PartOf(written, "seccomp");
  auto landlock = PartOf(written, "landlock");
  if (!seccomp || !landlock) {
    return std::nullopt;
  }
  return ConfinementReport{.seccomp = std::move(*seccomp), .landlock = std::move(*landlock)};
}

std::string ConfinementText(const ConfinementReport& report) {
  std::string there;
  std::string missing;
  auto add = [&](std::string_view name, const ConfinementReport::Part& part) {
    if (part.in_force) {
      there += (there.empty() ? "" : ", ") + std::string(name) +
               (part.note.empty() ? "" : " (" + part.note + ")");
    } else {
      missing += (missing.empty() ? "no " : "; no ") + std::string(name) +
                 (part.note.empty() ? "" : ": " + part.note);
    }
  };
  add("seccomp", report.seccomp);
  add("landlock", report.landlock);
  return there.empty() || missing.empty() ? there + missing : there + "; " + missing;
}

}  // namespace tidegate
