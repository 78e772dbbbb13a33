#pragma once

#include <expected>
#include <utility>

#include "common/error.h"

namespace tidegate {

// A value or the reason why there is none. Never ignored, never logged and returned both.
template <class T = void>
using Result = std::expected<T, Error>;

// `return Fail(ErrorKind::kClosed);` in a function that returns a Result.
inline std::unexpected<Error> Fail(Error error) {
  return std::unexpected<Error>(std::move(error));
}
inline std::unexpected<Error> Fail(ErrorKind kind, std::string detail = {}) {
  return std::unexpected<Error>(Error(kind, std::move(detail)));
}

}  // namespace tidegate
