#include "supervisor/completion.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <gtest/gtest.h>

#include "supervisor/commands.h"

namespace tidegate {
namespace {

// Runs `script` in bash by way of a pipe; its output.
std::string InBash(const std::string& script, const char* arguments, int* status) {
  std::string path = testing::TempDir() + "tidegate_completion_" + std::to_string(::getpid());
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "w"), std::fclose);
  std::fputs(script.c_str(), file.get());
  file.reset();
  FILE* bash = ::popen((std::string("bash ") + arguments + " " + path + " 2>&1").c_str(), "r");
  std::string output;
  std::array<char, 512> part;
  while (std::fgets(part.data(), part.size(), bash) != nullptr) {
    output += part.data();
  }
  *status = ::pclose(bash);
  std::remove(path.c_str());
  return output;
}

// What bash offers after `words`, the last of which is being typed.
std::string Offered(const std::vector<std::string>& words) {
  std::string script = CompletionScript("bash") + "compopt() { :; }\nCOMP_WORDS=(tidegate";
  for (const std::string& word : words) {
    script += " '" + word + "'";
  }
  script +=
      ")\nCOMP_CWORD=" + std::to_string(words.size()) + "\n_tidegate\necho \"${COMPREPLY[@]}\"\n";
  int status = 0;
  std::string output = InBash(script, "", &status);
  EXPECT_EQ(status, 0) << output;
  return output;
}

TEST(Completion, EveryScriptNamesEveryCommandAndOption) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    std::string script = CompletionScript(shell);
    // fish gives long options without their dashes.
    std::string dashes = std::string(shell) == "fish" ? "-l " : "--";
    for (const CommandRow& command : Commands()) {
      EXPECT_NE(script.find(command.name), std::string::npos) << shell << " " << command.name;
      for (const OptionRow& option : command.options) {
        EXPECT_NE(script.find(dashes + std::string(option.name)), std::string::npos)
            << shell << " " << option.name;
      }
    }
    for (const OptionRow& option : GlobalOptions()) {
      EXPECT_NE(script.find(dashes + std::string(option.name)), std::string::npos)
          << shell << " " << option.name;
    }
  }
  EXPECT_EQ(CompletionScript("tcsh"), "");
}

TEST(Completion, BashTakesTheScript) {
  int status = 0;
  std::string complaint = InBash(CompletionScript("bash"), "-n", &status);
  EXPECT_EQ(status, 0) << complaint;
}

TEST(Completion, BashOffersWhatFits) {
  EXPECT_EQ(Offered({"up"}), "upgrade\n");
  EXPECT_EQ(Offered({"--socket", "run", "upgrade", "--bi"}), "--binary\n");
  EXPECT_EQ(Offered({"loglevel", "w"}), "warn\n");
  EXPECT_EQ(Offered({"status", "--color", "al"}), "always\n");
  EXPECT_EQ(Offered({"status", "--binary"}), "\n");
  EXPECT_EQ(Offered({"check", "--conf"}), "--config\n");
  EXPECT_EQ(Offered({"reload", "--conf"}), "\n");
  EXPECT_EQ(Offered({"completion", ""}), "bash zsh fish\n");
}

}  // namespace
}  // namespace tidegate
