// What nghttp2 tells, and what is made of it: requests, resets, and a client that does too much of
// something.

#include "proxy/http/h2_callbacks.h"

#include <gtest/gtest.h>

#include "tests/support/h2_rig.h"

namespace tidegate {
namespace {

using H2CallbacksTest = H2Rig;

TEST_F(H2CallbacksTest, AMalformedRequestIsResetAndTold) {
  Begin(h2::Headers(1, h2::Get("/", {{"Bad", "x"}})) + h2::Headers(3, h2::Get("/good")));
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].refused->kind(), ErrorKind::kBadRequest);
  EXPECT_TRUE(StreamAt(0).failure());
  EXPECT_EQ(client.Of(1, h2::kRstStream).at(0).code(), 1U);
  EXPECT_FALSE(requests[1].refused);
  EXPECT_FALSE(StreamAt(1).failure()) << "it disturbs no other";
  requests.clear();
  Turn();
  EXPECT_EQ(client.Of(1, h2::kRstStream).size(), 1U);
}

TEST_F(H2CallbacksTest, WhatHasAStatusIsNotReset) {
  Begin(h2::Headers(1, {{":method", "CONNECT"}, {":authority", "a:1"}}));
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].refused->kind(), ErrorKind::kMethodNotAllowed);
  EXPECT_FALSE(StreamAt(0).failure());
  EXPECT_TRUE(client.Of(1, h2::kRstStream).empty());
}

TEST_F(H2CallbacksTest, TheLengthOfTheBodyIsWhatContentLengthSays) {
  Begin(h2::Headers(1, h2::Get("/", {{"content-length", "3"}}), 0) + h2::Data(1, "abcd", false));
  EXPECT_EQ(client.Of(1, h2::kRstStream).at(0).code(), 1U);
  EXPECT_EQ(StreamAt(0).failure()->kind(), ErrorKind::kBadRequest);
  Come(h2::Headers(3, h2::Get("/", {{"content-length", "3"}}), 0) + h2::Data(3, "ab"));
  EXPECT_EQ(client.Of(3, h2::kRstStream).at(0).code(), 1U);
  Come(h2::Headers(5, h2::Get("/", {{"content-length", "3"}}), 0) + h2::Data(5, "ab", false) +
       h2::Data(5, "c"));
  EXPECT_TRUE(client.Of(5, h2::kRstStream).empty());
  EXPECT_FALSE(StreamAt(2).failure());
}

TEST_F(H2CallbacksTest, TrailersEndTheRequestAndAreKeptApart) {
  Begin(h2::Headers(1, h2::Get(), 0) + h2::Data(1, "a", false) + h2::Headers(1, {{"x-sum", "7"}}));
  scope.Start(Read(StreamAt(0)));
  Turn();
  EXPECT_EQ(TakeOutcomes(), std::vector<std::string>{"a|"});
  EXPECT_EQ(requests[0].head->trailers.Find("x-sum")->value, "7");
  Come(h2::Headers(3, h2::Get(), 0) + h2::Headers(3, {{"x-sum", "7"}}, 0));
  EXPECT_EQ(client.Of(3, h2::kRstStream).at(0).code(), 1U) << "trailers that do not end it";
  Come(h2::Headers(5, h2::Get(), 0) + h2::Headers(5, {{":path", "/"}}));
  EXPECT_EQ(client.Of(5, h2::kRstStream).at(0).code(), 1U);
}

TEST_F(H2CallbacksTest, MoreThanMayRunAreRefusedAndMayBeTriedAgain) {
  most = 2;
  Begin(h2::Headers(1, h2::Get()) + h2::Headers(3, h2::Get()) + h2::Headers(5, h2::Get()));
  EXPECT_EQ(requests.size(), 2U);
  EXPECT_EQ(client.Of(5, h2::kRstStream).at(0).code(), 7U);
}

// RFC 9113 section 5.1.2: an error of the stream.
TEST_F(H2CallbacksTest, OneStreamTooManyIsRefusedAndDisturbsNoOther) {
  Begin(h2::Frame(h2::kSettings, 1, 0));
  std::uint32_t id = 1;
  for (; requests.size() < H2Connection::kMaxStreams; id += 2) {
    Come(h2::Headers(id, h2::Get()));
  }
  Come(h2::Headers(id, h2::Get()) + h2::Headers(id + 2, h2::Get()));
  EXPECT_EQ(client.Of(id, h2::kRstStream).at(0).code(), 7U);
  EXPECT_EQ(client.Of(id + 2, h2::kRstStream).at(0).code(), 7U);
  EXPECT_FALSE(connection->end_error());
  EXPECT_FALSE(StreamAt(0).failure());
  // What was refused counts no more, and what is over does not either.
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "x", true));
  Turn();
  Come(h2::Headers(id + 4, h2::Get()) + h2::Headers(id + 6, h2::Get()));
  EXPECT_EQ(requests.size(), H2Connection::kMaxStreams + 1);
  EXPECT_EQ(client.Of(id + 6, h2::kRstStream).at(0).code(), 7U);
  Come(h2::Reset(3) + h2::Headers(id + 8, h2::Get()));
  EXPECT_EQ(requests.size(), H2Connection::kMaxStreams + 2);
}

TEST_F(H2CallbacksTest, StreamsThatAreRefusedAreCountedAtOnce) {
  Begin();
  most = 0;
  played->takes_nothing = true;
  std::string many;
  for (std::uint32_t id = 1; id < 4000; id += 2) {
    many += h2::Headers(id, h2::Get());
  }
  Come(many);
  EXPECT_EQ(connection->end_error()->kind(), ErrorKind::kH2StreamFlood);
}

TEST_F(H2CallbacksTest, TheClientsResetIsHeard) {
  Begin(h2::Headers(1, h2::Get()));
  unsigned gone = 0;
  StreamAt(0).WatchGone({[](void* count) { ++*static_cast<unsigned*>(count); }, &gone});
  Come(h2::Reset(1));
  EXPECT_EQ(gone, 1U);
  EXPECT_EQ(client_resets, 1U);
  EXPECT_TRUE(StreamAt(0).client_reset());
  requests.clear();
  Turn();
  EXPECT_TRUE(client.Of(1, h2::kRstStream).empty());
}

TEST_F(H2CallbacksTest, FramesOnStreamsThatAreOverAreFaultsUnlessWeHaveEndedThem) {
  Begin(h2::Headers(1, h2::Get(), 0));
  requests.clear();
  Turn();
  ASSERT_EQ(client.Of(1, h2::kRstStream).size(), 1U);
  Come(h2::Data(1, "x") + h2::Headers(1, {{"a", "b"}}) + h2::Window(1, 1) + h2::Reset(1));
  EXPECT_FALSE(connection->end_error()) << "it was on its way";
  Come(h2::Headers(5, h2::Get()));
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "x", true));
  Turn();
  Come(h2::Window(5, 1) + h2::Reset(5));
  EXPECT_FALSE(connection->end_error());
  Come(h2::Headers(3, h2::Get()));
  EXPECT_EQ(connection->end_error()->kind(), ErrorKind::kH2Protocol) << "it goes back";
  EXPECT_EQ(Goaway().code(), 5U);
}

TEST_F(H2CallbacksTest, DataBehindTheEndIsAFault) {
  Begin(h2::Headers(1, h2::Get()));
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "x", true));
  Turn();
  Come(h2::Data(1, "x"));
  EXPECT_EQ(Goaway().code(), 5U);
}

TEST_F(H2CallbacksTest, PriorityOnTheConnectionIsAFault) {
  Begin(h2::Frame(h2::kPriority, 0, 0, std::string(5, '\0')));
  EXPECT_EQ(Goaway().code(), 1U);
  EXPECT_EQ(connection->end_error()->kind(), ErrorKind::kH2Protocol);
}

TEST_F(H2CallbacksTest, WhatIsNoHttp2IsLeftWithAGoaway) {
  connection->Start();
  Come("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(Goaway().code(), 1U);
  EXPECT_EQ(connection->end_error()->kind(), ErrorKind::kH2Protocol);
  EXPECT_TRUE(connection->finished());
}

TEST_F(H2CallbacksTest, TheFaultsThatNghttp2FindsAreTold) {
  Begin(h2::Headers(1, h2::Get()) + h2::Frame(h2::kPing, 0, 0, "short"));
  EXPECT_EQ(Goaway().code(), 6U);
  EXPECT_EQ(connection->end_error()->kind(), ErrorKind::kH2Protocol);
  EXPECT_TRUE(connection->end_error()->detail().contains("FRAME_SIZE_ERROR"));
  EXPECT_TRUE(StreamAt(0).client_reset());
  requests.clear();
  Turn();
  EXPECT_TRUE(connection->finished());
}

struct Flood {
  const char* name;
  std::string first;
  std::string frame;
  ErrorKind kind;
};

std::vector<Flood> Floods() {
  const std::string open = h2::Headers(1, h2::Get(), 0);
  return {
      {"SETTINGS", "", h2::Frame(h2::kSettings, 0, 0), ErrorKind::kH2SettingsFlood},
      {"PING", "", h2::Frame(h2::kPing, 0, 0, "01234567"), ErrorKind::kH2PingFlood},
      {"PRIORITY", "", h2::Frame(h2::kPriority, 0, 1, std::string(5, '\0')),
       ErrorKind::kH2PriorityFlood},
      {"PRIORITY_UPDATE", "", h2::Frame(0x10, 0, 0, h2::Number(1) + "u=1"),
       ErrorKind::kH2PriorityFlood},
      {"empty DATA", open, h2::Data(1, "", false), ErrorKind::kH2EmptyDataFlood},
      {"padding", open, h2::Frame(h2::kData, 8, 1, std::string(1, '\0')),
       ErrorKind::kH2EmptyDataFlood},
      {"WINDOW_UPDATE", "", h2::Window(0, 1), ErrorKind::kH2WindowFlood},
      {"unknown frames", "", h2::Frame(0xee, 0, 0, "x"), ErrorKind::kH2UnknownFlood},
      {"RST_STREAM of nothing", open + h2::Reset(1), h2::Reset(1), ErrorKind::kH2RapidReset},
      {"CONTINUATION", h2::Frame(h2::kHeaders, 0, 1, h2::Block(h2::Get())),
       h2::Frame(h2::kContinuation, 0, 1), ErrorKind::kH2ContinuationFlood},
  };
}

TEST_F(H2CallbacksTest, TooMuchOfAnythingIsTheEnd) {
  for (const Flood& flood : Floods()) {
    SCOPED_TRACE(flood.name);
    auto stream = std::make_unique<PlayedStream>();
    requests.clear();
    ReadyQueue::Drain();
    played = stream.get();
    connection.emplace(loop, pool, std::move(stream), limits, *this);
    h2::Reader seen;
    connection->Start();
    played->Come(h2::Hello() + flood.first);
    for (int i = 0; i < 3000 && !connection->end_error(); ++i) {
      played->Come(flood.frame);
      ReadyQueue::Drain();
    }
    ReadyQueue::Drain();
    seen.Take(played->TakeWritten());
    ASSERT_TRUE(connection->end_error());
    EXPECT_EQ(RowOf(connection->end_error()->kind()).log_name, RowOf(flood.kind).log_name);
    ASSERT_FALSE(seen.Of(0, h2::kGoaway).empty());
    EXPECT_EQ(seen.Of(0, h2::kGoaway)[0].code(), 11U);
    EXPECT_TRUE(connection->finished());
  }
}

// Go's client: both windows for each 4 KiB, also of streams that are over.
TEST_F(H2CallbacksTest, WhoReadsInSmallPiecesIsNoFlood) {
  Begin(h2::Headers(1, h2::Get()) + h2::Window(0, 1 << 30) + h2::Window(1, 1 << 30));
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "", false));
  Turn();
  const std::string piece(64 * 1024, 'x');
  std::string updates;
  for (int i = 0; i < 16; ++i) {
    updates += h2::Window(0, 4096) + h2::Window(1, 4096);
  }
  constexpr int kPieces = 400;
  for (int i = 0; i < kPieces; ++i) {
    scope.Start(Write(StreamAt(0), piece, i + 1 == kPieces));
    Turn();
    client.frames.clear();
    if (i % 2 == 0) {
      Come(updates);
    }
  }
  for (int i = 0; i < kPieces / 2; ++i) {
    Come(updates);
  }
  EXPECT_FALSE(connection->end_error());
  EXPECT_EQ(TakeOutcomes(), std::vector<std::string>(kPieces + 1, "ok"));
}

TEST_F(H2CallbacksTest, AWindowOfSingleOctetsIsADribble) {
  // SETTINGS_INITIAL_WINDOW_SIZE is 0.
  Begin(h2::Headers(1, h2::Get()), h2::Number(4, 2) + h2::Number(0));
  const std::string body(10'000, 'x');
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), body, true));
  Turn();
  std::size_t taken = 0;
  for (; taken < body.size() && !connection->end_error(); ++taken) {
    Come(h2::Window(1, 1));
  }
  EXPECT_EQ(connection->end_error()->kind(), ErrorKind::kH2WindowFlood);
  EXPECT_LT(taken, 2100U);
}

TEST_F(H2CallbacksTest, WhoAnswersSmallMessagesByTheirWindowsIsNoFlood) {
  Begin(h2::Headers(1, h2::Get()));
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "", false));
  Turn();
  for (int i = 0; i < 5000; ++i) {
    scope.Start(Write(StreamAt(0), "message", false));
    Turn();
    Come(h2::Window(0, 7) + h2::Window(1, 7));
  }
  EXPECT_FALSE(connection->end_error());
}

TEST_F(H2CallbacksTest, RapidResetIsTheEnd) {
  Begin();
  for (std::uint32_t stream = 1; !connection->end_error() && stream < 10'000; stream += 2) {
    Come(h2::Headers(stream, h2::Get()) + h2::Reset(stream));
    requests.clear();
  }
  EXPECT_EQ(connection->end_error()->kind(), ErrorKind::kH2RapidReset);
  EXPECT_EQ(Goaway().code(), 11U);
}

TEST_F(H2CallbacksTest, ResetsThatItProvokesAreTheEnd) {
  Begin();
  for (std::uint32_t stream = 1; !connection->end_error() && stream < 10'000; stream += 2) {
    Come(h2::Headers(stream, h2::Get()) + h2::Window(stream, 0x7fffffff));
    requests.clear();
  }
  EXPECT_EQ(connection->end_error()->kind(), ErrorKind::kH2ProvokedResets);
  EXPECT_EQ(Goaway().code(), 11U);
}

TEST_F(H2CallbacksTest, AListThatUnfoldsIsTheEnd) {
  Begin();
  // A field of 4,000 octets goes to the table (RFC 7541 section 6.2.1) and is named again and again
  // by one octet: 62 is the newest.
  std::string block = h2::Block(h2::Get());
  block +=
      std::string("\x40") + h2::Length(5) + "x-big" + h2::Length(4000) + std::string(4000, 'b');
  block += std::string(100, '\xbe');
  Come(h2::Frame(h2::kHeaders, h2::kEndHeaders | h2::kEndStream, 1, block));
  EXPECT_EQ(connection->end_error()->kind(), ErrorKind::kH2HeaderFlood);
  EXPECT_EQ(Goaway().code(), 11U);
  EXPECT_TRUE(requests.empty());
}

TEST_F(H2CallbacksTest, AListThatIsTooLongIsAnswered) {
  Begin(h2::Headers(1, h2::Get("/", {{"a", std::string(12'000, 'a')},
                                     {"b", std::string(12'000, 'b')},
                                     {"c", std::string(12'000, 'c')}}))
            .substr(0, 0));
  const std::string block = h2::Block(h2::Get("/", {{"a", std::string(12'000, 'a')},
                                                    {"b", std::string(12'000, 'b')},
                                                    {"c", std::string(9000, 'c')}}));
  Come(h2::Frame(h2::kHeaders, h2::kEndStream, 1, block.substr(0, 16'000)) +
       h2::Frame(h2::kContinuation, 0, 1, block.substr(16'000, 16'000)) +
       h2::Frame(h2::kContinuation, h2::kEndHeaders, 1, block.substr(32'000)));
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].refused->kind(), ErrorKind::kHeadTooLarge);
  EXPECT_FALSE(StreamAt(0).failure());
}

}  // namespace
}  // namespace tidegate
