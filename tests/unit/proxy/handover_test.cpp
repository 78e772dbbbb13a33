#include "proxy/handover.h"

#include <sys/socket.h>

#include <string>

#include <gtest/gtest.h>

#include "tests/support/handover_rig.h"

namespace tidegate {
namespace {

constexpr std::string_view kAsk = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
constexpr std::string_view kAskTunnel =
    "GET /t HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
constexpr std::string_view kTunnelAnswer =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

class HandOverTest : public HandOverRig {
 protected:
  void SetUp() override {
    HandOverRig::SetUp();
    Configure(R"({"listeners": [{"name": "default", "bind": "127.0.0.1:1"}],
                  "upstreams": {"app": {"endpoints": ["ORIGIN"]}},
                  "routes": [{"name": "site", "path": "/", "upstream": "app"}]})");
  }
  void TearDown() override {
    clients.clear();
    origins.clear();
    sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
    newer.sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
    Turn();
    loop.timers().Advance(loop.now() + 5000);
    Turn();
  }

  // An exchange from end to end. The origin's side is kept.
  void Exchange(const UniqueFd& client, UniqueFd& at_origin) {
    Send(client, kAsk);
    if (!at_origin) {
      at_origin = AcceptAtOrigin();
    }
    ReceiveUntil(at_origin, "\r\n\r\n");
    Send(at_origin, kAnswer);
    EXPECT_TRUE(ReceiveUntil(client, "ok").starts_with("HTTP/1.1 200"));
  }
  UniqueFd OpenTunnel(const UniqueFd& client) {
    Send(client, kAskTunnel);
    UniqueFd at_origin = AcceptAtOrigin();
    ReceiveUntil(at_origin, "\r\n\r\n");
    Send(at_origin, kTunnelAnswer);
    EXPECT_TRUE(ReceiveUntil(client, "\r\n\r\n").starts_with("HTTP/1.1 101"));
    return at_origin;
  }

  // A successor that the test plays: it is ready, and has been offered something.
  void OfferToUs() {
    auto channel = MakeControlPair();
    auto [reading, writing] = Lifeline();
    successor = std::move(channel->first);
    lifeline = std::move(reading);
    handover.SetSuccessor(std::move(channel->second), std::move(writing));
    handover.Begin();
    Say({{"type", "ready"}, {"record", 1}, {"room", 100}});
    auto message = ReceiveControl(successor.get(), std::chrono::seconds(1));
    ASSERT_TRUE(message);
    ASSERT_EQ(message->type(), "offer");
    offer = std::move(*message);
  }
  void Say(nlohmann::json message) {
    message["v"] = 1;
    ASSERT_TRUE(SendControl(successor.get(), message, {}, std::chrono::seconds(1)));
    Turn();
  }

  UniqueFd successor;
  UniqueFd lifeline;
  ControlMessage offer;
  std::vector<UniqueFd> clients;
  std::vector<UniqueFd> origins;
};

TEST_F(HandOverTest, AnIdleConnectionMovesAndItsNextRequestIsServedThere) {
  UniqueFd client = Connect();
  UniqueFd at_origin;
  Exchange(client, at_origin);
  HandItOver();
  TurnUntil([&] { return swept; });
  EXPECT_EQ(Moved(MoveKind::kIdle), 1U);
  EXPECT_EQ(moved, 1);
  EXPECT_EQ(sessions.size(), 0U);
  EXPECT_EQ(newer.sessions.size(), 1U);
  newer.sessions.parking().ForEach([](const IdleConnection& idle) {
    EXPECT_EQ(idle.hand_overs, 1);
    EXPECT_GT(idle.octets_in, 20U);
    EXPECT_GT(idle.octets_out, 20U);
    EXPECT_EQ(idle.client.listener, "default");
    EXPECT_EQ(idle.client.port.view(), "80");
  });
  // Its endpoint's connection went along.
  EXPECT_EQ(Moved(MoveKind::kUpstream), 1U);
  Exchange(client, at_origin);
}

TEST_F(HandOverTest, AParkedConnectionMoves) {
  UniqueFd client = Connect();
  UniqueFd at_origin;
  Exchange(client, at_origin);
  loop.timers().Advance(loop.now() + 5100);
  Turn();
  EXPECT_EQ(sessions.parking().size(), 1U);
  HandItOver();
  // The wheel is ahead of the clock.
  TurnUntil([&] {
    loop.timers().Advance(loop.now() + 3);
    return swept;
  });
  EXPECT_EQ(Moved(MoveKind::kIdle), 1U);
  Exchange(client, at_origin);
}

TEST_F(HandOverTest, AConnectionInsideAnExchangeMovesAtItsEndWithWhatWasRead) {
  UniqueFd client = Connect();
  Send(client, kAsk);
  UniqueFd at_origin = AcceptAtOrigin();
  ReceiveUntil(at_origin, "\r\n\r\n");
  HandItOver();
  TurnUntil([&] { return swept; });
  EXPECT_EQ(Moved(MoveKind::kIdle), 0U);
  // The next request is there before the answer.
  Send(client, kAsk);
  Send(at_origin, kAnswer);
  std::string answer = ReceiveUntil(client, "ok");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
  EXPECT_EQ(answer.find("onnection: close"), std::string::npos);
  TurnUntil([&] { return moved == 1; });
  UniqueFd at_origin_again = AcceptAtOrigin();
  ReceiveUntil(at_origin_again, "\r\n\r\n");
  EXPECT_EQ(newer.sessions.session_count(), 1U);
  Send(at_origin_again, kAnswer);
  EXPECT_TRUE(ReceiveUntil(client, "ok").starts_with("HTTP/1.1 200"));
}

TEST_F(HandOverTest, ATunnelMovesWithBothDirections) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  Send(client, "one");
  EXPECT_EQ(ReceiveUntil(at_origin, "one"), "one");
  HandItOver();
  TurnUntil([&] { return moved == 1; });
  EXPECT_EQ(Moved(MoveKind::kTunnel), 1U);
  EXPECT_EQ(sessions.size(), 0U);
  Send(client, "two");
  EXPECT_EQ(ReceiveUntil(at_origin, "two"), "two");
  Send(at_origin, "three");
  EXPECT_EQ(ReceiveUntil(client, "three"), "three");
  // A half-close before the hand-over and after it.
  ::shutdown(client.get(), SHUT_WR);
  EXPECT_TRUE(Closed(at_origin));
  Send(at_origin, "four");
  EXPECT_EQ(ReceiveUntil(client, "four"), "four");
  at_origin.Reset();
  EXPECT_TRUE(Closed(client));
  TurnUntil([&] { return newer.sessions.size() == 0; });
}

TEST_F(HandOverTest, AHalfClosedTunnelMoves) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  ::shutdown(client.get(), SHUT_WR);
  EXPECT_TRUE(Closed(at_origin));
  HandItOver();
  TurnUntil([&] { return moved == 1; });
  Send(at_origin, "more");
  EXPECT_EQ(ReceiveUntil(client, "more"), "more");
  at_origin.Reset();
  EXPECT_TRUE(Closed(client));
}

TEST_F(HandOverTest, ATunnelWhosePeersReadNothingMovesWithWhatIsOnItsWay) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  // More than the kernel takes, both ways.
  std::string there;
  std::string back;
  auto fill = [&](const UniqueFd& fd, std::string& sent, char first) {
    for (int idle = 0; idle < 20;) {
      std::string piece(10'000,
                        static_cast<char>(first + static_cast<char>(sent.size() / 10'000 % 26)));
      ssize_t size = ::write(fd.get(), piece.data(), piece.size());
      idle = size > 0 ? 0 : idle + 1;
      sent.append(piece, 0, size > 0 ? static_cast<std::size_t>(size) : 0);
      Turn();
    }
  };
  fill(client, there, 'a');
  fill(at_origin, back, 'A');
  HandItOver();
  TurnUntil([&] { return moved == 1; });
  auto drain = [&](const UniqueFd& fd, std::size_t size) {
    std::string got;
    TurnUntil([&] {
      char buffer[65536];
      ssize_t count = ::read(fd.get(), buffer, sizeof(buffer));
      got.append(buffer, count > 0 ? static_cast<std::size_t>(count) : 0);
      return got.size() >= size;
    });
    Turn();
    return got;
  };
  EXPECT_TRUE(drain(at_origin, there.size()) == there) << there.size();
  EXPECT_TRUE(drain(client, back.size()) == back) << back.size();
  newer.sessions.ForEach([&](Session& session) {
    EXPECT_EQ(session.octets_in(), kAskTunnel.size() + there.size());
    EXPECT_GE(session.octets_out(), back.size());
    EXPECT_LE(session.octets_out(), back.size() + 300);
  });
}

TEST_F(HandOverTest, WhatIsDeclinedStaysAndEndsAfterItsNextAnswer) {
  UniqueFd client = Connect();
  UniqueFd at_origin;
  Exchange(client, at_origin);
  newer.why = Decline::kLimits;
  HandItOver();
  TurnUntil([&] { return swept; });
  EXPECT_EQ(Declined(Decline::kLimits), 1U);
  EXPECT_EQ(sessions.size(), 1U);
  Send(client, kAsk);
  UniqueFd fresh = AcceptAtOrigin();
  ReceiveUntil(fresh, "\r\n\r\n");
  Send(fresh, kAnswer);
  EXPECT_NE(ReceiveUntil(client, "ok").find("Connection: close"), std::string::npos);
}

TEST_F(HandOverTest, ADeclinedTunnelGoesOn) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  newer.why = Decline::kLimits;
  HandItOver();
  TurnUntil([&] { return swept; });
  EXPECT_EQ(Declined(Decline::kLimits), 1U);
  Send(client, "still");
  EXPECT_EQ(ReceiveUntil(at_origin, "still"), "still");
}

TEST_F(HandOverTest, TheSuccessorGoesBeforeItAnswersAndAllIsTakenBack) {
  UniqueFd tunnel_client = Connect();
  UniqueFd tunnel_origin = OpenTunnel(tunnel_client);
  UniqueFd client = Connect();
  UniqueFd at_origin;
  Exchange(client, at_origin);
  OfferToUs();
  EXPECT_EQ(offer.type(), "offer");
  EXPECT_GE(offer.fds.size(), 3U);
  successor.Reset();
  lifeline.Reset();
  offer.fds.clear();
  TurnUntil([&] { return taken_back >= 2; });
  EXPECT_FALSE(handover.has_successor());
  Send(tunnel_client, "still");
  EXPECT_EQ(ReceiveUntil(tunnel_origin, "still"), "still");
  // Another one may come; until then nothing is told to end.
  HandItOver();
  TurnUntil([&] { return moved == 2; });
  Send(tunnel_client, "there");
  EXPECT_EQ(ReceiveUntil(tunnel_origin, "there"), "there");
}

TEST_F(HandOverTest, TheSuccessorGoesBetweenItsAnswerAndTheCommitAndAllIsTakenBack) {
  UniqueFd client = Connect();
  UniqueFd at_origin;
  Exchange(client, at_origin);
  OfferToUs();
  ASSERT_TRUE(SendControl(successor.get(),
                          {{"v", 1}, {"type", "answer"}, {"batch", 1}, {"room", 100}}, {},
                          std::chrono::seconds(1)));
  successor.Reset();
  lifeline.Reset();
  offer.fds.clear();
  TurnUntil([&] { return taken_back == 1; });
  EXPECT_EQ(moved, 0);
  EXPECT_EQ(Moved(MoveKind::kIdle), 0U);
  HandItOver();
  TurnUntil([&] { return moved == 1; });
}

TEST_F(HandOverTest, ASuccessorThatDoesNotAnswerIsGivenUp) {
  UniqueFd client = Connect();
  UniqueFd at_origin;
  Exchange(client, at_origin);
  OfferToUs();
  loop.timers().Advance(loop.now() + 2100);
  Turn();
  EXPECT_EQ(taken_back, 1);
  // Said before anything was read again.
  char octet = 0;
  EXPECT_EQ(::read(lifeline.get(), &octet, 1), 1);
  offer.fds.clear();
  loop.timers().Advance(loop.now() + 2100);
  Turn();
  EXPECT_FALSE(handover.handing_over());
  Send(client, kAsk);
  ReceiveUntil(at_origin, "\r\n\r\n");
  Send(at_origin, kAnswer);
  EXPECT_NE(ReceiveUntil(client, "ok").find("Connection: close"), std::string::npos);
}

TEST_F(HandOverTest, WithoutASuccessorTheDrainIsTheOrdinaryOne) {
  UniqueFd client = Connect();
  UniqueFd at_origin;
  Exchange(client, at_origin);
  handover.Begin();
  EXPECT_FALSE(handover.handing_over());
  Send(client, kAsk);
  ReceiveUntil(at_origin, "\r\n\r\n");
  Send(at_origin, kAnswer);
  EXPECT_NE(ReceiveUntil(client, "ok").find("Connection: close"), std::string::npos);
}

TEST_F(HandOverTest, ATunnelThatWaitsForAnotherUpgradeMovesThen) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  handover.Begin();
  EXPECT_FALSE(handover.handing_over());
  HandItOver();
  TurnUntil([&] { return moved == 1; });
  Send(client, "there");
  EXPECT_EQ(ReceiveUntil(at_origin, "there"), "there");
}

TEST_F(HandOverTest, AtAStopNobodyMoves) {
  UniqueFd client = Connect();
  UniqueFd at_origin;
  Exchange(client, at_origin);
  handover.Stop();
  HandItOver();
  Turn();
  EXPECT_FALSE(handover.has_successor());
  EXPECT_EQ(moved, 0);
  EXPECT_EQ(sessions.size(), 1U);
}

TEST_F(HandOverTest, ASuccessorThatIsReadyOwesNothing) {
  // Everybody is inside an exchange: there is nothing to offer for a while.
  UniqueFd client = Connect();
  Send(client, kAsk);
  UniqueFd at_origin = AcceptAtOrigin();
  ReceiveUntil(at_origin, "\r\n\r\n");
  auto channel = MakeControlPair();
  auto [reading, writing] = Lifeline();
  adoption.emplace(newer.services, newer.sessions, newer, std::move(channel->first),
                   std::move(reading));
  handover.SetSuccessor(std::move(channel->second), std::move(writing));
  // It is ready before the drain begins.
  Turn();
  handover.Begin();
  Turn();
  loop.timers().Advance(loop.now() + 5000);
  Turn();
  EXPECT_TRUE(handover.has_successor());
  Send(at_origin, kAnswer);
  EXPECT_EQ(ReceiveUntil(client, "ok").find("onnection: close"), std::string::npos);
}

TEST_F(HandOverTest, AStopInTheMiddleOfABatchLeavesATunnelItsTime) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  OfferToUs();
  handover.Stop();
  sessions.CloseIdle();
  Turn();
  Send(client, "still");
  EXPECT_EQ(ReceiveUntil(at_origin, "still"), "still");
}

TEST_F(HandOverTest, ATunnelThatCameBackIsNoExchange) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  OfferToUs();
  handover.Stop();
  // Before its task has begun.
  std::uint64_t cut = 0;
  sessions.ForEach([&](Session& session) {
    EXPECT_EQ(session.state(), Session::State::kTunnel);
    cut += session.ForceEnd(Error(ErrorKind::kDrainDeadline), Ending::kExchanges);
  });
  EXPECT_EQ(cut, 0U);
  Turn();
  Send(client, "still");
  EXPECT_EQ(ReceiveUntil(at_origin, "still"), "still");
}

TEST_F(HandOverTest, ATunnelThatCameBackEndsWhenItIsToldBeforeItGoesOn) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  OfferToUs();
  handover.Stop();
  std::uint64_t cut = 0;
  sessions.ForEach([&](Session& session) {
    cut += session.ForceEnd(Error(ErrorKind::kDrainDeadline), Ending::kTunnels);
  });
  EXPECT_EQ(cut, 1U);
  Turn();
  offer.fds.clear();
  EXPECT_TRUE(Closed(client));
  EXPECT_TRUE(Closed(at_origin));
  EXPECT_EQ(sessions.size(), 0U);
}

TEST_F(HandOverTest, ATunnelThatCameBackCanLeaveAgain) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  OfferToUs();
  auto channel = MakeControlPair();
  auto [reading, writing] = Lifeline();
  handover.SetSuccessor(std::move(channel->second), std::move(writing));
  auto leave = [&] {
    bool leaves = false;
    sessions.ForEach([&](Session& session) { leaves = session.Leave() || leaves; });
    return leaves;
  };
  EXPECT_FALSE(leave()) << "its task has not begun";
  Turn();
  EXPECT_TRUE(leave());
  Turn();
  Send(client, "still");
  EXPECT_EQ(ReceiveUntil(at_origin, "still"), "still");
}

TEST_F(HandOverTest, TheEndIsHeardAlsoWhileAHungSuccessorHoldsTheConnection) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  OfferToUs();
  loop.timers().Advance(loop.now() + 2100);
  Turn();
  EXPECT_EQ(taken_back, 1);
  Send(client, "still");
  EXPECT_EQ(ReceiveUntil(at_origin, "still"), "still");
  sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kDrainDeadline)); });
  EXPECT_TRUE(Closed(client));
  EXPECT_TRUE(Closed(at_origin));
}

TEST_F(HandOverTest, WhatCameBackFromAHungSuccessorCanStillMove) {
  UniqueFd client = Connect();
  UniqueFd at_origin = OpenTunnel(client);
  UniqueFd kept = Connect();
  UniqueFd at_other = Connect();
  OfferToUs();
  loop.timers().Advance(loop.now() + 2100);
  Turn();
  offer.fds.clear();
  HandItOver();
  TurnUntil([&] {
    loop.timers().Advance(loop.now() + 3);
    return moved == 3;
  });
  Send(client, "there");
  EXPECT_EQ(ReceiveUntil(at_origin, "there"), "there");
  UniqueFd at_kept;
  Exchange(kept, at_kept);
}

TEST_F(HandOverTest, ASuccessorWithoutDescriptorsGetsNothing) {
  UniqueFd client = Connect();
  UniqueFd at_origin;
  Exchange(client, at_origin);
  newer.room = 0;
  HandItOver();
  TurnUntil([&] { return swept; });
  EXPECT_EQ(moved, 0);
  EXPECT_GE(Declined(Decline::kDescriptors), 1U);
  EXPECT_EQ(sessions.size(), 1U);
}

}  // namespace
}  // namespace tidegate
