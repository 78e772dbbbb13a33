// What is written, until it has come.

#include <string>
#include <vector>

#include "proxy/net/tls_stream.h"
#include "tests/support/tls_rig.h"

namespace tidegate {
namespace {

class TlsStreamWriteTest : public TlsRig {};

TEST_F(TlsStreamWriteTest, WritesAHeadAndItsBodyInOneRecordAndOneWrite) {
  PlayAndShake();
  std::vector<std::string> parts = {"head", Text(1000), "\r\n"};
  EXPECT_EQ(Write(parts), Stream::WriteStatus::kDone);
  EXPECT_EQ(played->writes, 1);
  std::string octets = played->TakeWritten();
  EXPECT_EQ(octets.size(), 1006U + 22) << "5 of the record's head, 1 of its type, 16 of its tag";
  client->GiveOctets(octets);
  client->Read();
  EXPECT_EQ(client->received, parts[0] + parts[1] + parts[2]);
}

TEST_F(TlsStreamWriteTest, WritesAChunkOf64KiBAndItsHeadInOneWrite) {
  PlayAndShake();
  std::vector<std::string> parts = {Text(300), Text(65536)};
  EXPECT_EQ(Write(parts), Stream::WriteStatus::kDone);
  EXPECT_EQ(played->writes, 1);
  client->GiveOctets(played->TakeWritten());
  client->Read();
  EXPECT_EQ(client->received, parts[0] + parts[1]);
}

TEST_F(TlsStreamWriteTest, SealsNoMoreThanAPortionForAReaderThatStops) {
  PlayAndShake();
  played->takes_nothing = true;
  std::vector<std::string> parts = {Text(1 << 20)};
  EXPECT_EQ(Write(parts), Stream::WriteStatus::kPending);
  std::size_t unwritten = stream->unwritten();
  EXPECT_LE(played->unwritten(), 82U * 1024);
  EXPECT_GE(unwritten, parts[0].size());
  int portions = 1;
  while (written == 0) {
    played->TakePending();
    EXPECT_LT(stream->unwritten(), unwritten) << "a deadline tells progress by it";
    unwritten = stream->unwritten();
    ++portions;
  }
  EXPECT_EQ(unwritten, 0U);
  EXPECT_EQ(portions, 14);
  client->GiveOctets(played->TakeWritten());
  client->Read();
  EXPECT_EQ(client->received, parts[0]);
}

TEST_F(TlsStreamWriteTest, AClientThatStopsReadingHoldsTheWriteAndThenGoesOn) {
  ConnectAndShake();
  std::vector<std::string> parts = {Text(4 << 20)};
  ASSERT_EQ(Write(parts), Stream::WriteStatus::kPending);
  for (int i = 0; i < 50; ++i) {
    loop.RunNoWait();
  }
  EXPECT_EQ(written, 0);
  EXPECT_GT(stream->unwritten(), std::size_t{2} << 20);
  TurnUntil([&] {
    client->Read();
    return written == 1 && client->received.size() == parts[0].size();
  });
  EXPECT_EQ(client->received, parts[0]);
}

TEST_F(TlsStreamWriteTest, Invariant1AWriteBeforeTheHandshakeWaitsForIt) {
  Connect();
  std::vector<std::string> parts = {"early"};
  EXPECT_EQ(Write(parts), Stream::WriteStatus::kPending);
  EXPECT_EQ(stream->unwritten(), 5U);
  ASSERT_TRUE(Shake());
  EXPECT_EQ(written, 1);
  client->Read();
  EXPECT_EQ(client->received, "early");
}

TEST_F(TlsStreamWriteTest, ShutdownSaysCloseNotifyOnceAndEndsOneSideOnly) {
  ConnectAndShake();
  Call([&] {
    stream->ShutdownWrite();
    stream->ShutdownWrite();
  });
  TurnUntil([&] {
    client->Read();
    return client->ended && client->closed;
  });
  client->Write("still");
  TurnUntil([&] { return Readable() == "still"; });
}

TEST_F(TlsStreamWriteTest, ShutdownDuringAWriteWaitsForItsEnd) {
  ConnectAndShake();
  std::vector<std::string> parts = {Text(4 << 20)};
  ASSERT_EQ(Write(parts), Stream::WriteStatus::kPending);
  Call([&] { stream->ShutdownWrite(); });
  TurnUntil([&] {
    client->Read();
    return client->ended && client->closed;
  });
  EXPECT_EQ(client->received.size(), parts[0].size());
  EXPECT_EQ(written, 1);
}

TEST_F(TlsStreamWriteTest, AFailureEndsAPendingWriteToo) {
  PlayAndShake();
  played->takes_nothing = true;
  std::vector<std::string> parts = {Text(200000)};
  ASSERT_EQ(Write(parts), Stream::WriteStatus::kPending);
  client->Write("bad");
  std::string octets = client->TakeOctets();
  octets.back() = static_cast<char>(octets.back() ^ 1);
  played->Come(octets);
  Turn();
  EXPECT_EQ(written, 1);
  EXPECT_EQ(readable, 1);
  EXPECT_TRUE(stream->write_error().has_value());
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed);
}

TEST_F(TlsStreamWriteTest, AMessageThatIsCutIntoTwoRecordsHoldsAWriteOnly) {
  PlayAndShake({.oldest = TLS1_3_VERSION, .ciphers_of_13 = "TLS_AES_128_GCM_SHA256"});
  // KeyUpdate, which asks for none in return (RFC 8446 section 4.6.3).
  const std::string key_update = {24, 0, 0, 1, 0};
  played->Come(client->SealByHand(key_update.substr(0, 4), 22, 0));
  std::vector<std::string> parts = {"head", Text(100000)};
  EXPECT_EQ(Write(parts), Stream::WriteStatus::kPending);
  EXPECT_EQ(stream->unwritten(), 100004U);
  EXPECT_FALSE(stream->write_error().has_value());
  EXPECT_EQ(written, 0);
  played->Come(client->SealByHand(key_update.substr(4), 22, 1));
  EXPECT_EQ(written, 1);
  EXPECT_EQ(stream->unwritten(), 0U);
  client->GiveOctets(played->TakeWritten());
  client->Read();
  EXPECT_TRUE(client->received == parts[0] + parts[1]) << client->received.size();
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kOpen);
}

TEST_F(TlsStreamWriteTest, WritingToAPeerThatIsGoneFails) {
  ConnectAndShake();
  client->fd.Reset();
  std::vector<std::string> parts = {"hello"};
  EXPECT_EQ(Write(parts), Stream::WriteStatus::kFailed);
  ASSERT_TRUE(stream->write_error().has_value());
  EXPECT_EQ(stream->write_error()->kind(), ErrorKind::kClosed);
}

TEST_F(TlsStreamWriteTest, APeerThatGoesDuringAWriteEndsIt) {
  ConnectAndShake();
  std::vector<std::string> parts = {Text(4 << 20)};
  ASSERT_EQ(Write(parts), Stream::WriteStatus::kPending);
  client->fd.Reset();
  for (int i = 0; i < 50 && written == 0; ++i) {
    loop.RunNoWait();
  }
  EXPECT_EQ(written, 1);
  EXPECT_TRUE(stream->write_error().has_value());
}

}  // namespace
}  // namespace tidegate
