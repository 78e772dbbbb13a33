#include "proxy/handover_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using nlohmann::json;

UniqueFd SomeFd() {
  return UniqueFd(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
}

MovingConnection Connection() {
  return {.idle = {.fd = SomeFd(),
                   .client = {.peer = "192.0.2.1:5000",
                              .ip = "192.0.2.1",
                              .speaks = 5,
                              .listener = "web",
                              .port = "8080"},
                   .id = 3,
                   .hand_overs = 4,
                   .opened = 1000,
                   .octets_in = 11,
                   .octets_out = 13,
                   .quiet_until = 9000},
          .unread = std::string("GET \0\xff", 6),
          .tunnel = nullptr};
}

std::vector<UniqueFd> Copies(const std::vector<int>& fds) {
  std::vector<UniqueFd> copies;
  for (int fd : fds) {
    copies.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  }
  return copies;
}

TEST(HandOverRecord, IsReadAsItWasWritten) {
  const Moving connection = Connection();
  const Moving pooled = MovingUpstream{.upstream = "app",
                                       .endpoint = "127.0.0.1:9000",
                                       .fd = SomeFd(),
                                       .patience = std::chrono::seconds(3)};
  HandOverWriter writer;
  writer.Add(connection, 2500);
  writer.Add(pooled, 2500);
  EXPECT_EQ(writer.fds().size(), 2U);
  // It travels as text.
  const json text = json::parse(writer.connections().dump());
  auto read = ReadHandOver(text, writer.octets(), Copies(writer.fds()));
  ASSERT_TRUE(read);
  ASSERT_EQ(read->size(), 2U);
  const OfferedConnection& first = (*read)[0];
  EXPECT_EQ(first.kind, MoveKind::kIdle);
  EXPECT_TRUE(first.fd);
  EXPECT_EQ(first.listener, "web");
  EXPECT_EQ(first.port, "8080");
  EXPECT_EQ(first.speaks, 5);
  EXPECT_EQ(first.age, Duration(1500));
  EXPECT_EQ(first.patience, Duration(6500));
  EXPECT_EQ(first.octets_in, 11U);
  EXPECT_EQ(first.octets_out, 13U);
  EXPECT_EQ(first.hand_overs, 4);
  EXPECT_EQ(first.unread, std::string("GET \0\xff", 6));
  const OfferedConnection& second = (*read)[1];
  EXPECT_EQ(second.kind, MoveKind::kUpstream);
  EXPECT_EQ(second.account.upstream, "app");
  EXPECT_EQ(second.account.endpoint, "127.0.0.1:9000");
  EXPECT_EQ(second.patience, std::chrono::seconds(3));
}

TEST(HandOverRecord, ATimeoutThatIsOffStaysOff) {
  MovingConnection connection = Connection();
  connection.idle.quiet_until = IdleConnection::kForEver;
  HandOverWriter writer;
  writer.Add(std::move(connection), 2500);
  auto read = ReadHandOver(writer.connections(), writer.octets(), Copies({STDERR_FILENO}));
  ASSERT_TRUE(read);
  EXPECT_EQ((*read)[0].patience, kNever);
}

TEST(HandOverRecord, RefusesWhatMakesNoSense) {
  const json idle = {{"kind", "idle"}, {"unread", 0}};
  auto refuses = [](const json& connections, std::string_view octets, std::size_t fds) {
    return !ReadHandOver(connections, octets, Copies(std::vector<int>(fds, STDERR_FILENO)));
  };
  EXPECT_FALSE(refuses(json::array({idle}), "", 1));
  EXPECT_FALSE(refuses(json::array(), "", 0));
  EXPECT_TRUE(refuses(json::array({idle}), "", 0)) << "no descriptor";
  EXPECT_TRUE(refuses(json::array({idle}), "", 2)) << "one too many";
  EXPECT_TRUE(refuses(json::array({{{"kind", "tunnel"}}}), "", 1)) << "half of them";
  EXPECT_TRUE(refuses(json::array({{{"kind", "idle"}, {"unread", 2U}}}), "x", 1)) << "no octets";
  EXPECT_TRUE(refuses(json::array({{{"kind", "idle"}, {"unread", 300'000U}}}),
                      std::string(300'000, 'x'), 1))
      << "more than a buffer holds";
  EXPECT_TRUE(refuses(json::array({{{"kind", 1}}}), "", 1));
  EXPECT_TRUE(refuses(json::object(), "", 0));
  EXPECT_TRUE(refuses(json(std::vector<json>(65, idle)), "", 65)) << "more than a batch";
}

TEST(HandOverRecord, AReasonFromLaterIsOneThatWeKnow) {
  EXPECT_EQ(DeclineOf("limits"), Decline::kLimits);
  EXPECT_EQ(DeclineOf("closed"), Decline::kClosed);
  EXPECT_EQ(DeclineOf("weather"), Decline::kRecord);
}

}  // namespace
}  // namespace tidegate
