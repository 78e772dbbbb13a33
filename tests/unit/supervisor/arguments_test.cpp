#include "supervisor/arguments.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

std::expected<Invocation, Refusal> Parse(std::vector<const char*> words) {
  return ParseArguments(words);
}

std::string RefusalOf(std::vector<const char*> words) {
  auto invocation = Parse(std::move(words));
  if (invocation) {
    return "accepted";
  }
  EXPECT_EQ(invocation.error().exit_code, ExitCode::kUsage);
  return invocation.error().text;
}

TEST(Arguments, GlobalOptionsStandBeforeOrAfterTheCommand) {
  for (const auto& words : {std::vector<const char*>{"--json", "-q", "--socket", "/s", "status"},
                            std::vector<const char*>{"status", "--json", "-q", "--socket=/s"}}) {
    auto invocation = Parse(words);
    ASSERT_TRUE(invocation);
    EXPECT_EQ(invocation->command->name, "status");
    EXPECT_TRUE(invocation->json);
    EXPECT_TRUE(invocation->quiet);
    EXPECT_FALSE(invocation->verbose);
    EXPECT_EQ(invocation->Get("socket"), "/s");
  }
}

TEST(Arguments, OptionsAndArgumentsReachTheInvocation) {
  auto invocation = Parse({"upgrade", "--binary", "/new", "--drain", "1m30s", "--force"});
  ASSERT_TRUE(invocation);
  EXPECT_EQ(invocation->Get("binary"), "/new");
  EXPECT_EQ(invocation->Get("drain"), "1m30s");
  EXPECT_TRUE(invocation->Has("force"));
  EXPECT_FALSE(invocation->Has("detach"));

  invocation = Parse({"check", "-v", "some.json", "--print"});
  ASSERT_TRUE(invocation);
  EXPECT_EQ(invocation->arguments, std::vector<std::string>{"some.json"});

  invocation = Parse({"check", "--color", "never", "some.json"});
  ASSERT_TRUE(invocation);
  EXPECT_EQ(invocation->arguments, std::vector<std::string>{"some.json"});
}

TEST(Arguments, OnlyARepeatableOptionTakesMoreThanOneValue) {
  auto invocation = Parse({"proxy", "--from", ":1", "--to", ":3", "--to", "unix:/x"});
  ASSERT_TRUE(invocation);
  EXPECT_EQ(invocation->All("to"), (std::vector<std::string>{":3", "unix:/x"}));
  EXPECT_NE(RefusalOf({"proxy", "--from", ":1", "--from", ":2", "--to", ":3"})
                .find("--from is given 2 times and takes one value"),
            std::string::npos);
  EXPECT_NE(RefusalOf({"--socket", "/a", "status", "--socket", "/b"}).find("--socket is given 2"),
            std::string::npos);
  EXPECT_TRUE(Parse({"-v", "status", "-v"}));
}

TEST(Arguments, AConfigurationIsOnlyForCommandsThatReadOne) {
  for (const CommandRow& row : Commands()) {
    std::vector<const char*> words = {"-c", "/x.json", row.name.data()};
    for (const ArgumentRow& argument : row.arguments) {
      if (argument.required) {
        words.push_back(argument.choices.front().data());
      }
    }
    if (row.name == "proxy") {
      words.insert(words.end(), {"--from", ":1", "--to", ":2"});
    }
    // Of `cert` only the action "check" does; it says so itself.
    bool reads = row.name == "run" || row.name == "check" || row.name == "cert";
    EXPECT_EQ(Parse(words).has_value(), reads) << row.name;
    if (!reads) {
      EXPECT_NE(RefusalOf(words).find(std::string("--config: ") + std::string(row.name)),
                std::string::npos);
    }
  }
  EXPECT_NE(RefusalOf({"reload", "-c", "x"}).find("\"tidegate status\" names it"),
            std::string::npos);
  EXPECT_NE(RefusalOf({"check", "-c", "/a", "/b"}).find("two configurations are named"),
            std::string::npos);
}

TEST(Arguments, OptionsThatContradictEachOtherAreAUsageError) {
  EXPECT_TRUE(Parse({"upgrade", "--auto", "--detach", "--drain", "1m"}));
  EXPECT_TRUE(Parse({"upgrade", "--auto", "--force"}));
  EXPECT_NE(RefusalOf({"upgrade", "--binary", "/new", "--auto"})
                .find("--auto and --binary contradict each other"),
            std::string::npos);
}

TEST(Arguments, AnArgumentAfterTwoDashesMayLookLikeAnOption) {
  auto invocation = Parse({"check", "--", "--odd.json"});
  ASSERT_TRUE(invocation);
  EXPECT_EQ(invocation->arguments, std::vector<std::string>{"--odd.json"});
}

TEST(Arguments, UsageErrorsSayWhatIsWrongAndWhatWasMeant) {
  struct Case {
    std::vector<const char*> words;
    const char* expected;
  };
  const std::vector<Case> cases = {
      {{}, "a command is missing"},
      {{"statsu", "--json"}, "unknown command \"statsu\"; did you mean \"status\"?"},
      {{"comp"}, "did you mean \"completion\"?"},
      {{"upgrade", "--binry=3"}, "unknown option --binry; did you mean \"--binary\"?"},
      {{"--jsn", "status"}, "unknown option --jsn; did you mean \"--json\"?"},
      {{"reload", "x"}, "\"x\" is one argument too many"},
      {{"upgrade", "--drain", "30"}, "--drain: a duration needs a unit; write \"30s\""},
      {{"status", "--timeout"}, "--timeout needs a value"},
      {{"loglevel"}, "LEVEL is missing"},
      {{"loglevel", "wran"}, "did you mean \"warn\"?"},
      {{"run", "--workers", "0"}, "--workers: must be 1 to 1024"},
      {{"run", "--workers", "99999999999999999999"}, "--workers: must be 1 to 1024"},
      {{"run", "--workers", "two"}, "\"two\" is not a whole number"},
      {{"proxy", "--from", ":8080"}, "--to ADDR is missing"},
      {{"status", "--color", "red"}, "--color: \"red\" is not \"auto\", \"always\" or \"never\""},
      {{"status", "--socket", ""}, "--socket: must not be empty"},
      {{"conns", "--state", "bogus"},
       "--state: \"bogus\" is not \"idle\", \"request\", \"response\", \"tunnel\" or \"closing\""},
  };
  for (const Case& one : cases) {
    std::string text = RefusalOf(one.words);
    EXPECT_NE(text.find(one.expected), std::string::npos) << text;
    EXPECT_TRUE(text.ends_with("\n"));
  }
}

TEST(Arguments, HelpIsAResultWhateverElseIsWrong) {
  for (const auto& words :
       {std::vector<const char*>{"-h"}, std::vector<const char*>{"proxy", "--help"},
        std::vector<const char*>{"help"}, std::vector<const char*>{"help", "upgrade"}}) {
    auto invocation = Parse(words);
    ASSERT_FALSE(invocation);
    EXPECT_EQ(invocation.error().exit_code, ExitCode::kDone);
    EXPECT_NE(invocation.error().text.find("Usage: tidegate"), std::string::npos);
  }
}

TEST(Arguments, VersionIsAlsoAnOption) {
  auto invocation = Parse({"--version"});
  ASSERT_TRUE(invocation);
  EXPECT_EQ(invocation->command->name, "version");
}

TEST(Arguments, TheNameOfACommandMayBeTheArgumentOfAnother) {
  auto cert = Parse({"cert", "check", "-c", "status"});
  ASSERT_TRUE(cert);
  EXPECT_EQ(cert->command->name, "cert");
  EXPECT_EQ(cert->arguments, std::vector<std::string>{"check"});
  EXPECT_EQ(cert->Get("config"), "status");
  auto check = Parse({"check", "status"});
  ASSERT_TRUE(check);
  EXPECT_EQ(check->command->name, "check");
  EXPECT_EQ(check->arguments, std::vector<std::string>{"status"});
}

}  // namespace
}  // namespace tidegate
