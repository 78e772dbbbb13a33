#include "proxy/http/h1_fault.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

// Which octets lead to which error is in h1_decoder_*_test.cpp; here: that none is left without
// words.
TEST(Faults, EveryErrorOfLlhttpHasWords) {
#define TG_ROW(number, name, text) HPE_##name,
  for (const llhttp_errno_t error : {HTTP_ERRNO_MAP(TG_ROW)}) {
#undef TG_ROW
    const Fault fault = FaultOf(error, "", 'x');
    EXPECT_FALSE(fault.detail.empty());
    EXPECT_EQ(RowOf(fault.kind).side, Side::kClient);
  }
}

TEST(Faults, TheOctetSaysWhatIsWrongWithAName) {
  const auto detail = [](char octet) {
    return FaultOf(HPE_INVALID_HEADER_TOKEN, "Invalid header token", octet).detail;
  };
  EXPECT_EQ(detail(' '), "field name has a space before the colon");
  EXPECT_EQ(detail('\t'), "field name has a space before the colon");
  EXPECT_EQ(detail(':'), "field name is empty");
  EXPECT_EQ(detail('\r'), "field line without a colon");
  EXPECT_EQ(detail('\n'), "field line without a colon");
  EXPECT_EQ(detail('\0'), "field name has an octet that is not allowed");
}

}  // namespace
}  // namespace tidegate
