#include "tests/unit/supervisor/run_cli.h"

namespace tidegate {
namespace {

TEST(ServeCommands, ProxyRefusesABadAddressBeforeItStarts) {
  Ran ran = RunWith({"proxy", "--from", "8080", "--to", ":1"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.diagnostics.find("--from 8080"), std::string::npos);
}

}  // namespace
}  // namespace tidegate
