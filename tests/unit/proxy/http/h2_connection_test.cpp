#include "proxy/http/h2_connection.h"

#include <gtest/gtest.h>

#include "tests/support/h2_rig.h"

namespace tidegate {
namespace {

using H2ConnectionTest = H2Rig;
using Outcomes = std::vector<std::string>;

TEST_F(H2ConnectionTest, SaysItsSettingsAtOnce) {
  connection->Start();
  Turn();
  ASSERT_EQ(client.frames.size(), 2U);
  const h2::Reader::Seen& settings = client.frames[0];
  EXPECT_EQ(settings.type, h2::kSettings);
  EXPECT_EQ(settings.payload, h2::Number(3, 2) + h2::Number(128) + h2::Number(6, 2) +
                                  h2::Number(32 * 1024) + h2::Number(8, 2) + h2::Number(1) +
                                  h2::Number(9, 2) + h2::Number(1));
  EXPECT_EQ(client.frames[1].type, h2::kWindowUpdate);
  EXPECT_EQ(client.frames[1].NumberAt(0), 256U * 1024 - 65'535);
  EXPECT_EQ(played->writes, 1);
  EXPECT_TRUE(played->watched);
  EXPECT_FALSE(connection->greeted());
}

TEST_F(H2ConnectionTest, ARequestIsAnsweredInOneWrite) {
  Begin(h2::Headers(1, h2::Get("/a")));
  EXPECT_TRUE(connection->greeted());
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_FALSE(requests[0].refused);
  EXPECT_EQ(requests[0].head->target, "/a");
  EXPECT_TRUE(StreamAt(0).request_complete());
  const int writes = played->writes;
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head, BodyKind::kLength, 5), "hello", true));
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"ok"});
  EXPECT_EQ(played->writes, writes + 1);
  EXPECT_EQ(client.Of(1, h2::kHeaders).at(0).Value(":status"), "200");
  EXPECT_EQ(client.Of(1, h2::kHeaders).at(0).Value("content-length"), "5");
  EXPECT_EQ(client.Body(1), "hello");
  EXPECT_TRUE(client.Ended(1));
  EXPECT_TRUE(client.Of(1, h2::kRstStream).empty());
}

TEST_F(H2ConnectionTest, AnswersOfATurnShareAWrite) {
  std::string octets;
  for (std::uint32_t stream = 1; stream < 20; stream += 2) {
    octets += h2::Headers(stream, h2::Get());
  }
  Begin(octets);
  ASSERT_EQ(requests.size(), 10U);
  const int writes = played->writes;
  std::vector<std::unique_ptr<ResponseHead>> heads;
  for (Request& request : requests) {
    heads.push_back(std::make_unique<ResponseHead>());
    scope.Start(Answer(*request.stream, Ok(*heads.back()), "x", true));
  }
  Turn();
  EXPECT_EQ(played->writes, writes + 1);
  for (std::uint32_t stream = 1; stream < 20; stream += 2) {
    EXPECT_TRUE(client.Ended(stream));
  }
}

TEST_F(H2ConnectionTest, ABodyThatIsWholeBeforeItsRequestEndsTheStreamWithoutAnError) {
  Begin(h2::Headers(1, h2::Get(), 0));
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "x", true));
  Turn();
  requests.clear();
  Turn();
  ASSERT_EQ(client.Of(1, h2::kRstStream).size(), 1U);
  EXPECT_EQ(client.Of(1, h2::kRstStream)[0].code(), 0U);
}

TEST_F(H2ConnectionTest, WhoseWindowIsNotReadHoldsUpNoOther) {
  Begin();
  const std::string block(16'384, 'b');
  for (std::uint32_t stream = 1; stream <= 41; stream += 2) {
    Come(h2::Headers(stream, h2::Get(), 0));
    for (int i = 0; i < 3; ++i) {
      Come(h2::Data(stream, block, false));
    }
  }
  // A megabyte is unread, and the last one's is as welcome as the first one's.
  EXPECT_EQ(Goaway().payload, std::string(8, '\xff'));
  EXPECT_GT(client.Of(0, h2::kWindowUpdate).size(), 1U);
  scope.Start(Read(StreamAt(20)));
  Turn();
  EXPECT_EQ(TakeOutcomes().at(0).size(), block.size());
  EXPECT_TRUE(client.Of(41, h2::kWindowUpdate).empty()) << "the exchange still has it";
  scope.Start(Read(StreamAt(20)));
  Turn();
  scope.Start(Read(StreamAt(20)));
  Turn();
  EXPECT_EQ(client.Of(41, h2::kWindowUpdate).size(), 1U);
  EXPECT_EQ(client.Of(41, h2::kWindowUpdate).at(0).NumberAt(0), 2 * block.size());
  for (std::uint32_t stream = 1; stream < 41; stream += 2) {
    EXPECT_TRUE(client.Of(stream, h2::kWindowUpdate).empty());
  }
}

// A connection beside that of the rig, whose client sends what nobody reads.
struct Uploader {
  Uploader(Loop& loop, BufferPool& pool, const DecoderLimits& limits, H2Handler& handler)
      : played(new PlayedStream),
        connection(loop, pool, std::unique_ptr<PlayedStream>(played), limits, handler) {
    connection.Start();
    played->Come(h2::Hello());
  }
  // What the connection's window allows now.
  std::size_t Room() {
    ReadyQueue::Drain();
    seen.Take(played->TakeWritten());
    const auto updates = seen.Of(0, h2::kWindowUpdate);
    for (; heard < updates.size(); ++heard) {
      window += updates[heard].NumberAt(0);
    }
    return window - sent;
  }
  // 48 KiB on each of so many streams, as far as the window of the connection allows it. Returns
  // the octets sent.
  std::size_t Fill(std::uint32_t streams) {
    const std::string block(16'384, 'b');
    std::size_t now = 0;
    for (; streams > 0; --streams, id += 2) {
      played->Come(h2::Headers(id, h2::Get(), 0));
      for (int piece = 0; piece < 3; ++piece) {
        if (Room() < block.size()) {
          return now;
        }
        played->Come(h2::Data(id, block, false));
        sent += block.size();
        now += block.size();
      }
    }
    return now;
  }

  PlayedStream* played;
  H2Connection connection;
  h2::Reader seen;
  std::uint32_t id = 1;
  std::size_t window = 65'535;
  std::size_t sent = 0;
  std::size_t heard = 0;
};

TEST_F(H2ConnectionTest, WhatAllConnectionsHoldIsBoundedAndWhoHoldsLittleIsNotHeldUp) {
  // Each would hold 6 MiB.
  most = 10'000;
  std::vector<std::unique_ptr<Uploader>> many;
  std::size_t taken = 0;
  for (int i = 0; i < 30; ++i) {
    many.push_back(std::make_unique<Uploader>(loop, pool, limits, *this));
    taken += many.back()->Fill(H2Connection::kMaxStreams);
  }
  EXPECT_GT(taken, H2Connection::kMostHeldByAll);
  EXPECT_LT(taken, H2Connection::kMostHeldByAll + H2Connection::kShared + 30 * 2 * 256 * 1024);
  Uploader small(loop, pool, limits, *this);
  EXPECT_EQ(small.Fill(10), 10U * 3 * 16'384) << "two windows of a connection";
  EXPECT_EQ(many.back()->Fill(20), 0U) << "who has more than its share";
  // Who is read may send again.
  requests.clear();
  ReadyQueue::Drain();
  EXPECT_EQ(many.back()->Fill(20), 20U * 3 * 16'384);
  requests.clear();
}

TEST_F(H2ConnectionTest, AnUploadWhoseOriginKeepsUpGetsAWiderWindow) {
  Begin(h2::Headers(1, h2::Get(), 0) + h2::Headers(3, h2::Get(), 0));
  const std::string block(16'384, 'b');
  const auto credit = [&] {
    std::uint64_t sum = 0;
    for (const auto& update : client.Of(1, h2::kWindowUpdate)) {
      sum += update.NumberAt(0);
    }
    return sum;
  };
  std::uint64_t sent = 0;
  for (; sent < 300'000; sent += block.size()) {
    Come(h2::Data(1, block, false));
    scope.Start(Read(StreamAt(0)));
    Turn();
  }
  EXPECT_GT(credit() + 65'535, sent + 250'000);
  // And it may be used.
  for (int i = 0; i < 15; ++i) {
    Come(h2::Data(1, block, false));
  }
  EXPECT_TRUE(client.Of(1, h2::kRstStream).empty());
  EXPECT_TRUE(client.Of(3, h2::kWindowUpdate).empty());
  std::size_t read = 0;
  TakeOutcomes();
  for (int i = 0; i < 30 && StreamAt(0).HasBodyNow(); ++i) {
    scope.Start(Read(StreamAt(0)));
    Turn();
    read += TakeOutcomes().at(0).size();
  }
  EXPECT_EQ(read, 15 * block.size()) << "nothing is lost between blocks of two sizes";
}

TEST_F(H2ConnectionTest, WideWindowsAreTakenBackAndAreBoundedForAll) {
  most = 10'000;
  // `pieces` of 16 KiB in a stream of its own, which is read and ends.
  const auto upload = [this](Uploader& client_of, int pieces, bool stays = false) {
    const std::string block(16'384, 'b');
    client_of.played->Come(h2::Headers(client_of.id, h2::Get(), 0));
    ReadyQueue::Drain();
    H2ServerStream& stream = *requests.back().stream;
    for (int i = 0; i < pieces; ++i) {
      ASSERT_GE(client_of.Room(), block.size());
      client_of.played->Come(h2::Data(client_of.id, block, i + 1 == pieces && !stays));
      client_of.sent += block.size();
      scope.Start(Read(stream));
      ReadyQueue::Drain();
    }
    client_of.id += 2;
    if (!stays) {
      requests.pop_back();
    }
  };
  {
    Uploader one(loop, pool, limits, *this);
    for (int round = 0; round < 5; ++round) {
      upload(one, 40, true);
      EXPECT_GT(one.Room(), H2Connection::kWideConnectionWindow / 2) << round;
      EXPECT_LE(one.Room(), H2Connection::kWideConnectionWindow) << round;
      requests.pop_back();
      for (int small = 0; small < 30; ++small) {
        upload(one, 3);
      }
      EXPECT_GT(one.Room(), H2Connection::kConnectionWindow / 3) << round;
      EXPECT_LE(one.Room(), H2Connection::kConnectionWindow) << round;
    }
    // At once, before anything of it was used.
    for (int round = 0; round < 5; ++round) {
      upload(one, 40);
      EXPECT_LE(one.Room(), H2Connection::kWideConnectionWindow) << round;
    }
  }
  std::vector<std::unique_ptr<Uploader>> many;
  std::size_t wide = 0;
  for (int i = 0; i < 60; ++i) {
    many.push_back(std::make_unique<Uploader>(loop, pool, limits, *this));
    upload(*many.back(), 20, true);
    wide += many.back()->Room() > H2Connection::kConnectionWindow ? 1 : 0;
  }
  EXPECT_EQ(wide, H2Connection::kMostWidened / H2Connection::kWider);
  requests.clear();
  many.clear();
  Uploader last(loop, pool, limits, *this);
  upload(last, 20, true);
  EXPECT_GT(last.Room(), H2Connection::kConnectionWindow) << "they have given theirs back";
  requests.clear();
}

TEST_F(H2ConnectionTest, WhatNobodyReadsAnyMoreOpensTheWindowOfTheConnection) {
  Begin();
  const std::string block(16'384, 'b');
  for (std::uint32_t stream = 1; stream < 2 * 200; stream += 2) {
    Come(h2::Headers(stream, h2::Get(), 0));
    for (int i = 0; i < 3; ++i) {
      Come(h2::Data(stream, block, false));
    }
    requests.clear();
    Turn();
    Come(h2::Data(stream, block, true));
  }
  EXPECT_GE(client.Of(0, h2::kWindowUpdate).size(), 2U);
}

TEST_F(H2ConnectionTest, MoreThanTheWindowIsAFault) {
  Begin(h2::Headers(1, h2::Get(), 0));
  for (int i = 0; i < 5; ++i) {
    Come(h2::Data(1, std::string(16'384, 'x'), false));
  }
  ASSERT_EQ(client.Of(1, h2::kRstStream).size(), 1U);
  EXPECT_EQ(client.Of(1, h2::kRstStream)[0].code(), 3U);
  EXPECT_TRUE(StreamAt(0).client_reset());
}

TEST_F(H2ConnectionTest, WhileTheTransportIsBehindNothingIsTaken) {
  Begin(h2::Headers(1, h2::Get()) + h2::Window(0, 1 << 20) + h2::Window(1, 1 << 20));
  played->takes_nothing = true;
  const std::string body(200'000, 'x');
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), body, false));
  Turn();
  EXPECT_TRUE(TakeOutcomes().empty());
  EXPECT_TRUE(connection->writing());
  const std::size_t first = connection->unwritten();
  EXPECT_GT(first, 16'000U);
  EXPECT_LT(first, 66'000U);
  played->TakePending();
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"ok"}) << "the rest is in what is being written";
  EXPECT_GT(connection->unwritten(), first) << "it has grown with the need";
  TakeAll();
  EXPECT_EQ(client.Body(1).size(), body.size());
}

TEST_F(H2ConnectionTest, TrailersOfAStreamThatIsGoneGoNowhere) {
  Begin(h2::Headers(1, h2::Get(), 0) + h2::Headers(3, h2::Get()) + h2::Window(0, 1 << 20) +
        h2::Window(3, 1 << 20));
  ASSERT_EQ(requests.size(), 2U);
  // Nothing can be said any more, so the end of the stream is not said either.
  played->takes_nothing = true;
  const std::string body(200'000, 'x');
  ResponseHead head;
  scope.Start(Answer(StreamAt(1), Ok(head), body, false));
  Turn();
  Come(h2::Frame(h2::kHeaders, h2::kEndStream, 1, h2::Block({{"x-first", "1"}})));
  std::unique_ptr<RequestHead> reused = std::move(requests[0].head);
  requests[0].stream.reset();
  reused->Clear();
  Come(h2::Frame(h2::kContinuation, h2::kEndHeaders, 1, h2::Block({{"x-evil", "1"}})));
  EXPECT_EQ(reused->trailers.size(), 0U) << "it is another request's by now";
  EXPECT_EQ(reused->fields.size(), 0U);
  TakeAll();
}

TEST_F(H2ConnectionTest, AClientThatDoesNotReadIsNotReadEither) {
  Begin();
  played->takes_nothing = true;
  // What a client that is in no hurry may send.
  for (int i = 0; i < 600; ++i) {
    loop.timers().Hold(loop.now() + 1000);
    Come(h2::Frame(h2::kPing, 0, 0, "01234567"));
  }
  EXPECT_FALSE(connection->end_error());
  EXPECT_GT(played->readable().size(), 100U * 17) << "it waits where it is";
  EXPECT_LT(played->readable().size(), 200U * 17);
  played->takes_nothing = false;
  played->TakePending();
  Turn();
  EXPECT_EQ(played->readable().size(), 0U);
  EXPECT_EQ(client.Of(0, h2::kPing).size(), 600U);
}

TEST_F(H2ConnectionTest, ADrainHasTwoStepsWithAPingBetween) {
  Begin(h2::Headers(1, h2::Get()));
  connection->AnnounceEnd();
  Turn();
  EXPECT_EQ(Goaway().NumberAt(0), 0x7fffffffU);
  EXPECT_EQ(Goaway().code(), 0U);
  ASSERT_EQ(client.Of(0, h2::kPing).size(), 1U);
  EXPECT_FALSE(connection->pinged());
  Come(h2::Headers(3, h2::Get()));
  EXPECT_EQ(requests.size(), 2U);
  Come(h2::Frame(h2::kPing, h2::kAck, 0, client.Of(0, h2::kPing)[0].payload));
  EXPECT_TRUE(connection->pinged());
  connection->RefuseNew();
  Turn();
  EXPECT_EQ(client.Of(0, h2::kGoaway).at(1).NumberAt(0), 3U);
  Come(h2::Headers(5, h2::Get()));
  EXPECT_EQ(requests.size(), 2U);
  EXPECT_FALSE(connection->finished());
  std::vector<ResponseHead> heads(2);
  scope.Start(Answer(StreamAt(0), Ok(heads[0]), "a", true));
  scope.Start(Answer(StreamAt(1), Ok(heads[1]), "b", true));
  Turn();
  EXPECT_TRUE(client.Ended(1) && client.Ended(3));
  requests.clear();
  Turn();
  EXPECT_TRUE(connection->finished());
  connection->BeginLinger();
  EXPECT_EQ(played->shutdowns, 1);
  Come("whatever");
  EXPECT_TRUE(played->readable().empty());
}

TEST_F(H2ConnectionTest, WhatTheLastGoawayDoesNotCountIsNotServedAlthoughItWaits) {
  Begin(h2::Headers(1, h2::Get()));
  played->takes_nothing = true;
  Come(h2::Frame(h2::kPing, 0, 0, "12345678"));
  connection->RefuseNew();
  // Its GOAWAY is behind what the client has not taken.
  Come(h2::Headers(3, h2::Get()));
  EXPECT_EQ(requests.size(), 1U) << "the client will send it again elsewhere";
  played->takes_nothing = false;
  played->TakePending();
  Turn();
  EXPECT_EQ(Goaway().NumberAt(0), 1U);
  EXPECT_TRUE(client.Of(3, h2::kRstStream).empty() ||
              client.Of(3, h2::kRstStream).at(0).code() == NGHTTP2_REFUSED_STREAM);
  // What was on its way for it is no fault.
  Come(h2::Headers(3, {{"a", "b"}}));
  EXPECT_FALSE(connection->end_error());
}

TEST_F(H2ConnectionTest, TheEndOfTheClientIsTheEndOfItsStreams) {
  Begin(h2::Headers(1, h2::Get(), 0));
  scope.Start(Read(StreamAt(0)));
  Turn();
  played->End(Stream::ReadState::kEnded);
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"client_closed"});
  EXPECT_TRUE(connection->finished());
  EXPECT_TRUE(connection->client_left());
  EXPECT_TRUE(played->closed);
}

TEST_F(H2ConnectionTest, EndSaysGoawayAndNothingElse) {
  Begin(h2::Headers(1, h2::Get()));
  connection->End(NGHTTP2_ENHANCE_YOUR_CALM, Error(ErrorKind::kClientClosed, "why"));
  Turn();
  EXPECT_EQ(Goaway().code(), 11U);
  EXPECT_EQ(Goaway().NumberAt(0), 1U);
  EXPECT_EQ(StreamAt(0).failure()->detail(), "why");
  EXPECT_TRUE(connection->finished());
  Come(h2::Headers(3, h2::Get()));
  EXPECT_EQ(requests.size(), 1U);
}

TEST_F(H2ConnectionTest, AGoawayOfTheClientEndsItWhenItsStreamsHave) {
  Begin(h2::Headers(1, h2::Get()) + h2::Frame(h2::kGoaway, 0, 0, h2::Number(0) + h2::Number(0)));
  EXPECT_FALSE(connection->finished());
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "a", true));
  Turn();
  EXPECT_TRUE(client.Ended(1));
  requests.clear();
  Turn();
  EXPECT_TRUE(connection->finished());
}

TEST_F(H2ConnectionTest, AHeadThatIsNotWholeIsOpen) {
  Begin();
  EXPECT_EQ(connection->open_head(), 0U);
  const std::string block = h2::Block(h2::Get());
  Come(h2::Frame(h2::kHeaders, h2::kEndStream, 1, block.substr(0, 10)));
  const std::uint64_t first = connection->open_head();
  EXPECT_NE(first, 0U);
  Come(h2::Frame(h2::kContinuation, 0, 1, block.substr(10, 10)));
  EXPECT_EQ(connection->open_head(), first);
  Come(h2::Frame(h2::kContinuation, h2::kEndHeaders, 1, block.substr(20)));
  EXPECT_EQ(connection->open_head(), 0U);
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].head->target, "/");
  Come(h2::Frame(h2::kHeaders, h2::kEndStream, 3, block.substr(0, 10)));
  EXPECT_NE(connection->open_head(), 0U);
  EXPECT_NE(connection->open_head(), first);
}

TEST_F(H2ConnectionTest, AHeadInPiecesMayComeOctetByOctet) {
  Begin();
  const std::string block = h2::Block(h2::Get("/pieces"));
  std::string octets = h2::Frame(h2::kHeaders, h2::kEndStream, 1);
  for (int i = 0; i < 8; ++i) {
    octets += h2::Frame(h2::kContinuation, 0, 1);
  }
  octets += h2::Frame(h2::kContinuation, h2::kEndHeaders, 1, block);
  for (const char octet : octets) {
    Come(std::string_view(&octet, 1));
  }
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_FALSE(requests[0].refused);
  EXPECT_EQ(requests[0].head->target, "/pieces");
}

}  // namespace
}  // namespace tidegate
