#include "common/error.h"

#include <array>
#include <cstring>

#include <fmt/format.h>

namespace tidegate {
namespace {

constexpr std::array kRows = {
#define TG_ERROR(kind, log_name, status, side, proxy_status) \
  ErrorRow{ErrorKind::kind, log_name, status, Side::side, proxy_status},
#include "common/error_table.h"
#undef TG_ERROR
};

}  // namespace

const ErrorRow& RowOf(ErrorKind kind) {
  return kRows[static_cast<std::size_t>(kind)];
}

std::size_t ErrorCount() {
  return kRows.size();
}

std::string_view NameOf(Side side) {
  switch (side) {
    case Side::kClient:
      return "client";
    case Side::kTidegate:
      return "tidegate";
    case Side::kUpstream:
      return "upstream";
  }
  return "tidegate";
}

Error Error::System(int system_errno, std::string doing) {
  Error error(ErrorKind::kSystem, std::move(doing));
  error.system_errno_ = system_errno;
  return error;
}

Error Error::As(ErrorKind kind) const {
  Error error = *this;
  error.kind_ = kind;
  return error;
}

std::string Error::ToString() const {
  if (system_errno_ != 0) {
    return fmt::format("{}: {}", detail_, std::strerror(system_errno_));
  }
  return detail_.empty() ? std::string(RowOf(kind_).log_name) : detail_;
}

}  // namespace tidegate
