#include "proxy/adoption.h"

#include <sys/socket.h>

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/handover_rig.h"

namespace tidegate {
namespace {

using nlohmann::json;

// The old worker is the test.
class AdoptionTest : public HandOverRig {
 protected:
  void SetUp() override {
    HandOverRig::SetUp();
    auto pair = MakeControlPair();
    auto [reading, writing] = Lifeline();
    channel = std::move(pair->second);
    lifeline = std::move(writing);
    adoption.emplace(newer.services, newer.sessions, newer, std::move(pair->first),
                     std::move(reading));
    ControlMessage ready = Hear();
    EXPECT_EQ(ready.type(), "ready");
    EXPECT_EQ(NumberOf(ready.body, "record"), kHandOverRecord);
    EXPECT_EQ(NumberOf(ready.body, "room"), 1000U);
  }
  void TearDown() override {
    newer.sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
    newer.sessions.parking().ResumeAll();
    newer.sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
    Turn();
    loop.timers().Advance(loop.now() + 5000);
    Turn();
  }
  ControlMessage Hear() {
    Turn();
    auto message = ReceiveControl(channel.get(), std::chrono::seconds(1));
    EXPECT_TRUE(message.has_value());
    return message ? std::move(*message) : ControlMessage();
  }
  // A connection: ours, which is the client's end, and the one that is offered.
  std::pair<UniqueFd, UniqueFd> Connection() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
  }
  static json Idle() {
    return {{"kind", "idle"}, {"listener", "default"}, {"port", "80"},      {"speaks", 1},
            {"age_ms", 50},   {"patience_ms", 60'000}, {"bytes_in", 7},     {"bytes_out", 9},
            {"unread", 0},    {"hand_overs", 2},       {"from_later", true}};
  }
  void Say(json message, const std::vector<int>& fds) {
    message["v"] = 1;
    EXPECT_TRUE(SendControl(channel.get(), message, fds, std::chrono::seconds(1)));
    Turn();
  }
  void Offer(const json& connections, const std::vector<int>& fds, std::uint64_t record = 1) {
    Say({{"type", "offer"}, {"batch", ++batch}, {"record", record}, {"connections", connections}},
        fds);
  }
  std::string ReasonOf(const ControlMessage& answer) {
    const json declined = answer.body.value("declined", json::array());
    return declined.empty() ? "" : TextOf(declined[0], "reason");
  }

  UniqueFd channel;
  UniqueFd lifeline;
  std::uint64_t batch = 0;
};

TEST_F(AdoptionTest, WhatIsTakenIsNotReadBeforeTheCommit) {
  auto [client, offered] = Connection();
  Offer(json::array({Idle()}), {offered.get()});
  EXPECT_EQ(ReasonOf(Hear()), "");
  EXPECT_EQ(newer.sessions.size(), 1U) << "it counts";
  Send(client, "GET / HT");
  char octets[16];
  EXPECT_EQ(::recv(offered.get(), octets, sizeof(octets), MSG_PEEK), 8) << "nobody has read it";
  offered.Reset();
  Say({{"type", "commit"}, {"batch", 1}}, {});
  EXPECT_EQ(newer.adopted, 1);
  Turn();
  EXPECT_EQ(newer.sessions.session_count(), 1U);
  newer.sessions.ForEach([&](Session& session) {
    EXPECT_EQ(session.hand_overs(), 3);
    EXPECT_GE(session.octets_in(), 7U);
    EXPECT_EQ(session.octets_out(), 9U);
    EXPECT_LE(session.opened(), loop.now() - 50);
  });
}

TEST_F(AdoptionTest, TheOldWorkerDiesAndWhatItOfferedIsServed) {
  auto [client, offered] = Connection();
  Offer(json::array({Idle()}), {offered.get()});
  Hear();
  offered.Reset();
  // In either order.
  channel.Reset();
  Turn();
  EXPECT_EQ(newer.adopted, 0) << "it may only have given the channel up";
  lifeline.Reset();
  Turn();
  EXPECT_EQ(newer.adopted, 1);
  EXPECT_TRUE(newer.over);
}

TEST_F(AdoptionTest, TheOldWorkerGivesUpAndWhatItOfferedIsClosedHere) {
  auto [client, offered] = Connection();
  Offer(json::array({Idle()}), {offered.get()});
  Hear();
  ASSERT_EQ(::write(lifeline.get(), "x", 1), 1);
  lifeline.Reset();
  Turn();
  EXPECT_FALSE(newer.over) << "a commit may still be in the channel";
  channel.Reset();
  Turn();
  EXPECT_EQ(newer.dropped, 1);
  EXPECT_EQ(newer.adopted, 0);
  EXPECT_TRUE(newer.over);
  EXPECT_EQ(newer.sessions.size(), 0U);
  // Ours is the last one now.
  offered.Reset();
  EXPECT_TRUE(Closed(client));
}

TEST_F(AdoptionTest, ACommitThatCameBeforeTheEndHolds) {
  auto [client, offered] = Connection();
  Offer(json::array({Idle()}), {offered.get()});
  Hear();
  json commit = {{"v", 1}, {"type", "commit"}, {"batch", 1}};
  ASSERT_TRUE(SendControl(channel.get(), commit, {}, std::chrono::seconds(1)));
  ASSERT_EQ(::write(lifeline.get(), "x", 1), 1);
  lifeline.Reset();
  channel.Reset();
  Turn();
  EXPECT_EQ(newer.adopted, 1);
  EXPECT_EQ(newer.dropped, 0);
  EXPECT_TRUE(newer.over);
}

TEST_F(AdoptionTest, DeclinesWhatItCannotServe) {
  auto [client, offered] = Connection();
  auto decline = [&](json record) {
    Offer(json::array({std::move(record)}), {offered.get()});
    std::string reason = ReasonOf(Hear());
    Say({{"type", "commit"}, {"batch", batch}}, {});
    return reason;
  };
  json record = Idle();
  record["listener"] = "other";
  EXPECT_EQ(decline(record), "listener");
  record = Idle();
  record["speaks"] = 0;
  EXPECT_EQ(decline(record), "listener");
  record = {{"kind", "upstream"}, {"upstream", "gone"}, {"endpoint", "127.0.0.1:1"}};
  EXPECT_EQ(decline(record), "upstream");
  record["upstream"] = "app";
  EXPECT_EQ(decline(record), "upstream");
  newer.why = Decline::kLimits;
  EXPECT_EQ(decline(Idle()), "limits");
  EXPECT_EQ(newer.adopted, 0);
  EXPECT_EQ(newer.sessions.size(), 0U);
}

TEST_F(AdoptionTest, APooledConnectionMustBeAtItsEndpoint) {
  auto [spy, given] = Connection();
  json record = {{"kind", "upstream"}, {"upstream", "app"}, {"endpoint", origin_address}};
  Offer(json::array({record}), {given.get()});
  EXPECT_EQ(ReasonOf(Hear()), "upstream");
  Say({{"type", "commit"}, {"batch", batch}}, {});
  // One that is.
  UniqueFd true_one(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  socklen_t length = sizeof(address);
  ASSERT_EQ(::getsockname(origin.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  ASSERT_EQ(::connect(true_one.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  Offer(json::array({record}), {true_one.get()});
  EXPECT_EQ(ReasonOf(Hear()), "");
  Say({{"type", "commit"}, {"batch", batch}}, {});
  EXPECT_EQ(newer.services.snapshot->upstreams().at("app")->Status()[0].idle, 1U);
}

TEST_F(AdoptionTest, DeclinesWhatItDoesNotUnderstand) {
  auto [client, offered] = Connection();
  auto answer = [&](const json& connections, const std::vector<int>& fds, std::uint64_t record) {
    Offer(connections, fds, record);
    std::string reason = ReasonOf(Hear());
    Say({{"type", "commit"}, {"batch", batch}}, {});
    return reason;
  };
  EXPECT_EQ(answer(json::array({Idle()}), {offered.get()}, 2), "record");
  EXPECT_EQ(answer(json::array({Idle()}), {}, 1), "record");
  EXPECT_EQ(answer(json::array({Idle()}), {offered.get(), offered.get()}, 1), "record");
  EXPECT_EQ(answer(json::array({7}), {offered.get()}, 1), "record");
  json record = Idle();
  record["unread"] = 10;
  EXPECT_EQ(answer(json::array({record}), {offered.get()}, 1), "record");
  record = Idle();
  record["port"] = "80\r\nX:";
  EXPECT_EQ(answer(json::array({record}), {offered.get()}, 1), "record");
  record = Idle();
  record["kind"] = "tunnel";
  EXPECT_EQ(answer(json::array({record}), {offered.get(), offered.get()}, 1), "record");
  record["kind"] = "train";
  EXPECT_EQ(answer(json::array({record}), {offered.get()}, 1), "record");
  auto pipe = Lifeline();
  EXPECT_EQ(answer(json::array({Idle()}), {pipe.first.get()}, 1), "record") << "no socket";
  EXPECT_EQ(answer(json::array({Idle()}), {origin.get()}, 1), "record") << "it listens";
  Offer("nonsense", {offered.get()}, 1);
  EXPECT_EQ(Hear().type(), "answer");
  EXPECT_EQ(newer.adopted, 0);
  EXPECT_EQ(newer.sessions.size(), 0U);
}

TEST_F(AdoptionTest, ASecondOfferBeforeTheCommitGivesEverythingBack) {
  auto [client, offered] = Connection();
  Offer(json::array({Idle()}), {offered.get()});
  Hear();
  Offer(json::array({Idle()}), {offered.get()});
  EXPECT_EQ(newer.dropped, 1);
  EXPECT_EQ(newer.sessions.size(), 0U);
  EXPECT_FALSE(ReceiveControl(channel.get(), std::chrono::seconds(1)));
  lifeline.Reset();
  Turn();
  EXPECT_EQ(newer.adopted, 0);
  EXPECT_TRUE(newer.over);
}

TEST_F(AdoptionTest, ACommitOfNothingChangesNothing) {
  Say({{"type", "commit"}, {"batch", 7}}, {});
  Say({{"type", "commit"}}, {});
  Say({{"type", "from_later"}}, {});
  EXPECT_EQ(newer.adopted, 0);
}

}  // namespace
}  // namespace tidegate
