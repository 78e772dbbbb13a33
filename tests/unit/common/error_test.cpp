#include "common/error.h"

#include <cerrno>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(Error, RowsAreInTheOrderOfTheirKindsAndTheirNamesAreUnique) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < ErrorCount(); ++i) {
    const ErrorRow& row = RowOf(static_cast<ErrorKind>(i));
    EXPECT_EQ(row.kind, static_cast<ErrorKind>(i));
    EXPECT_TRUE(names.insert(row.log_name).second) << row.log_name;
    bool is_error_status = row.status == 0 || (row.status >= 400 && row.status <= 599);
    EXPECT_TRUE(is_error_status) << row.log_name;
    EXPECT_FALSE(row.proxy_status.empty()) << row.log_name;
  }
}

TEST(Error, TellsWhatTheKernelSaid) {
  Error error = Error::System(EADDRINUSE, "bind 127.0.0.1:80");
  EXPECT_EQ(error.ToString(), "bind 127.0.0.1:80: Address already in use");
  EXPECT_EQ(error.kind(), ErrorKind::kSystem);
  EXPECT_EQ(error.system_errno(), EADDRINUSE);
}

TEST(Error, SeenFromAboveKeepsItsErrnoAndDetail) {
  Error error = Error::System(ECONNREFUSED, "connect").As(ErrorKind::kUpstreamRefused);
  EXPECT_EQ(error.kind(), ErrorKind::kUpstreamRefused);
  EXPECT_EQ(error.system_errno(), ECONNREFUSED);
}

TEST(Error, WithoutDetailIsItsName) {
  EXPECT_EQ(Error(ErrorKind::kQueueFull).ToString(), "queue_full");
  EXPECT_EQ(NameOf(RowOf(ErrorKind::kQueueFull).side), "tidegate");
}

}  // namespace
}  // namespace tidegate
