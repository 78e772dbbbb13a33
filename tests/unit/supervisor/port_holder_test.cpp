#include "supervisor/port_holder.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace tidegate {
namespace {

TEST(PortHolder, IsNamedWhileItListens) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  const std::uint16_t port = ntohs(address.sin_port);
  EXPECT_EQ(HolderOfPort(port), "") << "bound is not listening";
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  std::string holder = HolderOfPort(port);
  EXPECT_TRUE(holder.ends_with("(pid " + std::to_string(::getpid()) + ")")) << holder;
  listener.Reset();
  EXPECT_EQ(HolderOfPort(port), "");
}

}  // namespace
}  // namespace tidegate
