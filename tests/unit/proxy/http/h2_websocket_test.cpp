#include "proxy/http/h2_websocket.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(H2WebSocket, TheExampleOfRfc6455) {
  EXPECT_EQ(WebSocketAcceptOf("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST(H2WebSocket, AKeyIsSixteenRandomOctets) {
  const std::string key = MakeWebSocketKey();
  EXPECT_EQ(key.size(), 24U);
  EXPECT_TRUE(key.ends_with("=="));
  EXPECT_NE(key, MakeWebSocketKey());
}

}  // namespace
}  // namespace tidegate
