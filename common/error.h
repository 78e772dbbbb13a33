#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace tidegate {

enum class ErrorKind : std::uint8_t {
#define TG_ERROR(kind, ...) kind,
#include "common/error_table.h"
#undef TG_ERROR
};

// Who is to blame: the access log's `who`.
enum class Side : std::uint8_t { kClient, kTidegate, kUpstream };

// One row of error_table.h. The views live for ever.
struct ErrorRow {
  ErrorKind kind;
  std::string_view log_name;
  int status;
  Side side;
  std::string_view proxy_status;
};

const ErrorRow& RowOf(ErrorKind kind);
// The number of rows; kinds are 0 to this, exclusive.
std::size_t ErrorCount();
std::string_view NameOf(Side side);

// What went wrong: a row of the table, the errno where the kernel said it, and what was being done.
class Error {
 public:
  explicit Error(ErrorKind kind, std::string detail = {})
      : kind_(kind), detail_(std::move(detail)) {}

  // kSystem with the errno of a failed call; `doing` completes "cannot ...", e.g. "bind
  // 127.0.0.1:80".
  static Error System(int system_errno, std::string doing);

  ErrorKind kind() const { return kind_; }
  // 0 unless the kernel refused something.
  int system_errno() const { return system_errno_; }
  const std::string& detail() const { return detail_; }

  // The same fault seen from above: another kind, the same errno and detail.
  [[nodiscard]] Error As(ErrorKind kind) const;

  // For people: "bind 127.0.0.1:80: address already in use"; the log name where there is no detail.
  std::string ToString() const;

 private:
  ErrorKind kind_;
  int system_errno_ = 0;
  std::string detail_;
};

}  // namespace tidegate
