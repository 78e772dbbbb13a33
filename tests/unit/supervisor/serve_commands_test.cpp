#include <cstdlib>

#include "tests/unit/supervisor/run_cli.h"

namespace tidegate {
namespace {

TEST(ServeCommands, ProxyRefusesABadAddressBeforeItStarts) {
  Ran ran = RunWith({"proxy", "--from", "8080", "--to", ":1"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.diagnostics.find("--from 8080"), std::string::npos);
}

TEST(ServeCommands, RunWithoutAConfigurationSaysHowToBegin) {
  ::setenv("TIDEGATE_CONFIG", "/nowhere/tidegate.json", 1);
  Ran ran = RunWith({"run", "--socket", "/nowhere/control.sock"});
  ::unsetenv("TIDEGATE_CONFIG");
  EXPECT_EQ(ran.exit_code, 78);
  EXPECT_EQ(ran.diagnostics,
            "tidegate: no configuration at /nowhere/tidegate.json: name one with -c, or try "
            "\"tidegate proxy --from :8080 --to 127.0.0.1:9000\"\n");
}

}  // namespace
}  // namespace tidegate
