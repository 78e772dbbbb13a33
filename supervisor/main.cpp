#include "supervisor/cli.h"
#include "supervisor/supervisor.h"

int main(int argc, char** argv) {
  if (auto exit_code = tidegate::RunInternalMode(argc, argv)) {
    return *exit_code;
  }
  return tidegate::RunCli(argc, argv);
}
