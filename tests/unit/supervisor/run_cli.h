#pragma once

// Runs the program's command line within a test and catches what it writes.

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "supervisor/cli.h"

namespace tidegate {

struct Ran {
  int exit_code;
  std::string results;
  std::string diagnostics;
};

inline Ran RunWith(std::vector<std::string> words) {
  std::vector<char*> argv = {const_cast<char*>("tidegate")};
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  int exit_code = RunCli(static_cast<int>(argv.size()), argv.data());
  std::string results = testing::internal::GetCapturedStdout();
  return {exit_code, results, testing::internal::GetCapturedStderr()};
}

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text)
      : path_(testing::TempDir() + "tidegate_cli_" + std::to_string(::getpid()) + ".json") {
    std::ofstream(path_) << text;
  }
  ~ConfigFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace tidegate
