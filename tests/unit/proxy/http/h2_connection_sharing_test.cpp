// What streams share: the window of their connection, what waits to be written, and the turns.

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/h2_rig.h"

namespace tidegate {
namespace {

using H2SharingTest = H2Rig;

// What comes for streams that are over, on their way or refused is paid for like what is read: many
// uploads that came to nothing must leave the connection its window.
class H2DiscardTest : public H2Rig {
 protected:
  // An upload of three windows of DATA frames; `spoil` makes nothing of it in the middle of the
  // first. `behind`: our RST_STREAM waits for the transport, and nghttp2 knows the stream
  // meanwhile.
  void Upload(const std::function<void(std::uint32_t)>& spoil, std::string_view length,
              bool behind) {
    // What a client that is in no hurry may do.
    loop.timers().Hold(loop.now() + 1000);
    const std::string block(16'000, 'b');
    const std::uint32_t stream = next_;
    next_ += 2;
    if (behind) {
      played->takes_nothing = true;
      Come(h2::Frame(h2::kPing, 0, 0, "01234567"));
      ASSERT_TRUE(connection->writing());
    }
    Come(h2::Headers(
        stream,
        length.empty() ? h2::Get() : h2::Get("/", {{"content-length", std::string(length)}}), 0));
    const std::string frame = h2::Data(stream, block, false);
    // The middle of a frame is what nghttp2 does not drop by itself.
    Come(std::string_view(frame).substr(0, frame.size() / 2));
    spoil(stream);
    Turn();
    Come(std::string_view(frame).substr(frame.size() / 2));
    Come(frame + frame);
    sent_ += 3 * block.size();
    requests.clear();
    Turn();
    played->takes_nothing = false;
    played->TakePending();
    Turn();
    ASSERT_TRUE(Goaway().code() == 0xffff'ffffU) << "GOAWAY " << Goaway().code();
  }
  // By what the client was told.
  std::int64_t Room() const {
    std::int64_t room = 65'535;
    for (const auto& update : client.Of(0, h2::kWindowUpdate)) {
      room += update.NumberAt(0);
    }
    return room - static_cast<std::int64_t>(sent_);
  }

  std::size_t sent_ = 0;
  std::uint32_t next_ = 1;
};

TEST_F(H2DiscardTest, UploadsThatCameToNothingLeaveTheConnectionItsWindow) {
  struct Case {
    const char* what;
    std::function<void(std::uint32_t)> spoil;
    const char* length = "";
    std::size_t most = 1000;
  };
  const std::vector<Case> cases = {
      {"nobody serves it any more", [&](std::uint32_t) { requests.clear(); }},
      {"it failed, and its exchange has not gone",
       [&](std::uint32_t) { requests.back().stream->Abort(Error(ErrorKind::kUpstreamReset)); }},
      {"it is read no more", [&](std::uint32_t) {}},
      {"it was malformed", [&](std::uint32_t) {}, "20000"},
      {"it was refused", [&](std::uint32_t) {}, "", 0},
  };
  Begin();
  for (const Case& each : cases) {
    most = each.most;
    for (int i = 0; i < 60; ++i) {
      Upload(each.spoil, each.length, i % 2 == 1);
      EXPECT_GT(Room(), H2Connection::kConnectionWindow / 3) << each.what << ", " << i;
    }
  }
}

TEST_F(H2DiscardTest, UploadsThatTheirClientTakesBackDoToo) {
  Begin();
  const std::string block(16'000, 'b');
  for (int i = 0; i < 100; ++i) {
    loop.timers().Hold(loop.now() + 1000);
    Come(h2::Headers(next_, h2::Get(), 0));
    for (int frame = 0; frame < 3; ++frame) {
      Come(h2::Data(next_, block, false));
      sent_ += block.size();
    }
    Come(h2::Reset(next_));
    next_ += 2;
    EXPECT_GT(Room(), H2Connection::kConnectionWindow / 3) << "unread, " << i;
    requests.clear();
    Turn();
    EXPECT_GT(Room(), H2Connection::kConnectionWindow / 3) << i;
  }
}

// Whatever a client provokes that is said at once, it is not read on before it has read that.
TEST_F(H2SharingTest, WhatAClientProvokesWhileItDoesNotReadIsBounded) {
  const std::pair<const char*, std::function<std::string(std::uint32_t)>> kinds[] = {
      {"SETTINGS", [](std::uint32_t) { return h2::Frame(h2::kSettings, 0, 0); }},
      {"PING", [](std::uint32_t) { return h2::Frame(h2::kPing, 0, 0, "01234567"); }},
      {"streams that are refused",
       [](std::uint32_t at) { return h2::Headers(2 * at + 1, h2::Get()); }},
      {"streams that are malformed",
       [](std::uint32_t at) { return h2::Headers(2 * at + 1, {{":path", "/"}}); }}};
  constexpr std::uint32_t kMany = 3000;
  for (const auto& [what, provoke] : kinds) {
    SCOPED_TRACE(what);
    connection.reset();
    auto stream = std::make_unique<PlayedStream>();
    played = stream.get();
    connection.emplace(loop, pool, std::move(stream), limits, *this);
    most = std::string_view(what) == "streams that are refused" ? 0 : 1000;
    Begin();
    played->takes_nothing = true;
    // The first write that is behind.
    Come(h2::Frame(h2::kPing, 0, 0, "first..."));
    ASSERT_TRUE(connection->writing());
    const std::size_t unwritten = connection->unwritten();
    std::uint32_t at = 0;
    for (; at < kMany && played->readable().empty(); ++at) {
      loop.timers().Hold(loop.now() + 1000);
      Come(provoke(at));
      requests.clear();
      Turn();
    }
    EXPECT_FALSE(connection->end_error());
    EXPECT_GT(at, 100U) << "a burst is no fault";
    EXPECT_LT(at, 1000U) << "it is not read any more";
    EXPECT_EQ(connection->unwritten(), unwritten) << "nothing is gathered either";
    played->takes_nothing = false;
    played->TakePending();
    Turn();
    EXPECT_TRUE(played->readable().empty()) << "it reads, and is read";
    requests.clear();
    Turn();
  }
}

TEST_F(H2SharingTest, StreamsTakeTurns) {
  constexpr std::uint32_t kStreams = 4;
  std::string hello = h2::Window(0, 1 << 30);
  for (std::uint32_t id = 1; id < 2 * kStreams; id += 2) {
    hello += h2::Headers(id, h2::Get()) + h2::Window(id, 1 << 30);
  }
  Begin(hello);
  played->takes_nothing = true;
  const std::string large(2'000'000, 'x');
  std::vector<ResponseHead> heads(kStreams);
  for (std::uint32_t each = 0; each + 1 < kStreams; ++each) {
    scope.Start(Answer(StreamAt(each), Ok(heads[each]), large, true));
  }
  Turn();
  const auto octets = [this](std::uint32_t id) { return client.Body(id).size(); };
  for (int i = 0; i < 10; ++i) {
    played->TakePending();
    Turn();
  }
  EXPECT_GT(octets(5), 100'000U);
  EXPECT_LT(octets(1), octets(5) + 100'000) << "no download is before the others";
  EXPECT_LT(octets(5), octets(1) + 100'000);
  // A small one that comes late does not wait for their ends.
  scope.Start(Answer(StreamAt(3), Ok(heads[3]), "small", true));
  for (int i = 0; i < 6 && !client.Ended(7); ++i) {
    played->TakePending();
    Turn();
  }
  EXPECT_EQ(client.Body(7), "small");
  EXPECT_TRUE(client.Ended(7));
  EXPECT_FALSE(client.Ended(1) || client.Ended(3) || client.Ended(5));
  TakeAll();
}

}  // namespace
}  // namespace tidegate
