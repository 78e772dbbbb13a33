#include "common/test_fault.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

namespace tidegate {
namespace {

std::string ReadFault() {
  if (const char* fault = std::getenv("TIDEGATE_TEST_FAULT")) {
    return fault;
  }
  const char* enabled = std::getenv("TIDEGATE_TEST_FAULTS");
  if (enabled == nullptr || std::string_view(enabled) != "1") {
    return {};
  }
  std::error_code error;
  std::filesystem::path binary = std::filesystem::read_symlink("/proc/self/exe", error);
  std::ifstream file(binary.parent_path() / "tidegate.fault");
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

std::optional<std::uint64_t> TestClockAhead() {
  const char* path = std::getenv("TIDEGATE_TEST_CLOCK");
  if (path == nullptr) {
    return std::nullopt;
  }
  std::uint64_t ahead = 0;
  std::ifstream(path) >> ahead;
  return ahead;
}

Fault FaultAt(std::string_view process, std::string_view point) {
  static const std::string fault = ReadFault();
  std::size_t colon = fault.find(':');
  if (colon == std::string::npos) {
    return Fault::kNone;
  }
  std::string_view place = std::string_view(fault).substr(0, colon);
  std::string_view action = std::string_view(fault).substr(colon + 1);
  bool of_worker = point == "prepare" || point == "commit" || point == "drain";
  bool meant = place == std::string(process) + "." + std::string(point) ||
               (place == point && (process == "worker" || !of_worker));
  if (!meant) {
    return Fault::kNone;
  }
  if (action == "die") {
    ::kill(::getpid(), SIGKILL);
  }
  if (action == "abort") {
    std::abort();
  }
  while (action == "hang") {
    ::pause();
  }
  if (action == "stop") {
    static bool has_stopped = false;
    if (!std::exchange(has_stopped, true)) {
      ::kill(::getpid(), SIGSTOP);
    }
    return Fault::kNone;
  }
  return action == "garbage" ? Fault::kGarbage : Fault::kFail;
}

}  // namespace tidegate
