#pragma once

#include <sys/prctl.h>

namespace tidegate {

// What ps and pgrep call this process, and other processes of ours know it by; of more than 15
// octets the first 15. A program that was executed by a descriptor says it itself: before Linux
// 6.14 such a process is named by the number.
inline void NameProcess(const char* name) {
  ::prctl(PR_SET_NAME, name, 0, 0, 0);
}

}  // namespace tidegate
