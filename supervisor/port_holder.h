#pragma once

// Who listens where we would like to: for the message that an address is in use.

#include <cstdint>
#include <string>

namespace tidegate {

// "nginx (pid 71)" of a process that listens on TCP port `port`, in either family; of several, one.
// Empty if there is none, or if the kernel does not tell us whose it is (proc(5): other users'
// descriptors need CAP_SYS_PTRACE). Reads /proc of every process: for error paths only.
std::string HolderOfPort(std::uint16_t port);

}  // namespace tidegate
