#include "supervisor/cli.h"

#include "tests/unit/supervisor/run_cli.h"

namespace tidegate {
namespace {

TEST(Cli, UsageErrorsExitWithTwoAndWriteOnlyToStderr) {
  Ran ran = RunWith({"upgrad"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_EQ(ran.results, "");
  EXPECT_EQ(ran.diagnostics,
            "tidegate: unknown command \"upgrad\"; did you mean \"upgrade\"?\n"
            "Try \"tidegate --help\".\n");
}

}  // namespace
}  // namespace tidegate
