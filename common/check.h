#pragma once

// TG_CHECK: for what we made impossible, in release too. Bytes from the network, files and users
// are errors, never checks. A failed check ends the process; the supervisor starts another worker.

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace tidegate {

[[noreturn]] inline void CheckFailed(const char* expression, const char* where) {
  for (const char* part : {"tidegate: check failed: ", expression, " at ", where, "\n"}) {
    [[maybe_unused]] ssize_t ignored = ::write(STDERR_FILENO, part, std::strlen(part));
  }
  std::abort();
}

}  // namespace tidegate

#define TG_STRINGIFY_(x) #x
#define TG_STRINGIFY(x) TG_STRINGIFY_(x)
#define TG_CHECK(expression)                                                     \
  do {                                                                           \
    if (!(expression)) [[unlikely]] {                                            \
      ::tidegate::CheckFailed(#expression, __FILE__ ":" TG_STRINGIFY(__LINE__)); \
    }                                                                            \
  } while (false)
