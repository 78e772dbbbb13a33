#pragma once

// Why a message of HTTP/1 is refused.

#include <string_view>

#include <llhttp.h>

#include "common/error.h"

namespace tidegate {

// `kind` is that of a request; whoever reads responses turns it into one of theirs. `detail` is
// static text.
struct Fault {
  ErrorKind kind;
  std::string_view detail;
};

// What llhttp refused, in our words. `reason` is llhttp's. `octet` is where it stopped, 0 if
// unknown; it may be one further than what is wrong, which depends on how the input was cut: it
// chooses words, never the kind.
Fault FaultOf(llhttp_errno_t error, std::string_view reason, char octet);

}  // namespace tidegate
