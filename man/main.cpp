// man_text: the parts of the manual pages that our tables say. Part of the build, not installed.
//
//   man_text --check PAGE...   fails if a part of a page is not what the tables say
//   man_text --write PAGE...   puts them right (./dev man)

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "man/commands_text.h"
#include "man/page.h"
#include "man/settings_text.h"

namespace tidegate {
namespace {

std::optional<std::string> WritePart(std::string_view name, std::string_view argument) {
  if (name == "settings") {
    return SettingsText(argument);
  }
  if (name == "command") {
    return CommandText(argument);
  }
  return name == "counters" ? std::optional(CountersText()) : std::nullopt;
}

int Complain(const std::string& path, std::string_view fault) {
  std::fputs(fmt::format("{}:{}\n", path, fault).c_str(), stderr);
  return 1;
}

int Look(const std::string& path, bool write) {
  std::ifstream file(path);
  std::stringstream there;
  there << file.rdbuf();
  if (!file) {
    return Complain(path, " cannot be read");
  }
  Result<std::string> meant = FillParts(there.str(), &WritePart);
  if (!meant) {
    return Complain(path, meant.error().detail());
  }
  if (*meant == there.str()) {
    return 0;
  }
  if (!write) {
    return Complain(path, FirstDifference(there.str(), *meant) + "./dev man writes it anew");
  }
  std::ofstream out(path, std::ios::trunc);
  out << *meant << std::flush;
  return out ? 0 : Complain(path, " cannot be written");
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  const std::string_view mode = argc > 2 ? argv[1] : "";
  if (mode != "--check" && mode != "--write") {
    std::fputs("usage: man_text --check|--write PAGE...\n", stderr);
    return 2;
  }
  int faults = 0;
  for (int i = 2; i < argc; ++i) {
    faults += tidegate::Look(argv[i], mode == "--write");
  }
  return faults == 0 ? 0 : 1;
}
