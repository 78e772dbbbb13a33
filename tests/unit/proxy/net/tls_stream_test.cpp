#include "proxy/net/tls_stream.h"

#include <fcntl.h>
#include <netinet/in.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/support/tls_rig.h"

namespace tidegate {
namespace {

class TlsStreamTest : public TlsRig {
 protected:
  // From the client until it has come, consuming as it comes.
  void Upload(const std::string& text) {
    client->Write(text);
    std::string got;
    TurnUntil([&] {
      got += TakeReadable();
      return got.size() >= text.size();
    });
    EXPECT_EQ(got, text);
  }
  void Download(const std::string& text) {
    client->received.clear();
    std::vector<std::string> parts = {text};
    int before = written;
    bool pending = Write(parts) == Stream::WriteStatus::kPending;
    TurnUntil([&] {
      client->Read();
      return client->received.size() >= text.size() && (!pending || written == before + 1);
    });
    EXPECT_EQ(client->received, text);
    EXPECT_EQ(stream->unwritten(), 0U);
  }
};

TEST_F(TlsStreamTest, CarriesOctetsBothWays) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    ConnectAndShake({.newest = version});
    for (std::size_t size : {1U, 16384U, 16385U, 1U << 20}) {
      Upload(Text(size));
      Download(Text(size));
    }
    EXPECT_TRUE(stream->IsQuiet());
  }
  EXPECT_EQ(ERR_peek_error(), 0UL);
}

TEST_F(TlsStreamTest, ReadsAppendUntilConsumed) {
  ConnectAndShake();
  client->Write("one");
  TurnUntil([&] { return Readable() == "one"; });
  const char* place = stream->readable().data();
  client->Write("two");
  TurnUntil([&] { return Readable() == "onetwo"; });
  EXPECT_EQ(stream->readable().data(), place);
  Call([&] { stream->Consume(4); });
  EXPECT_EQ(Readable(), "wo");
  EXPECT_FALSE(stream->IsQuiet());
  Call([&] { stream->Consume(2); });
  EXPECT_TRUE(stream->readable().empty());
  EXPECT_EQ(readable, 2);
}

TEST_F(TlsStreamTest, AFullBufferStopsDecryptingAndConsumingResumesIt) {
  ConnectAndShake();
  const std::string text = Text(4 << 20);
  client->Write(text);
  Turn();
  EXPECT_LE(stream->readable().size(), BytesOf(BufferSize::kLarge));
  std::size_t stopped_at = stream->readable().size();
  Turn();
  EXPECT_EQ(stream->readable().size(), stopped_at);
  EXPECT_FALSE(client->all_sent()) << "the back-pressure reaches the socket";
  std::string got;
  TurnUntil([&] {
    got += TakeReadable();
    return got.size() == text.size();
  });
  EXPECT_EQ(got, text);
}

TEST_F(TlsStreamTest, TellsWhatConsumingMadeRoomForFromTheLoop) {
  PlayAndShake();
  std::string octets;
  for (int i = 0; i < 4; ++i) {
    client->Write(Text(16384));
    octets += client->TakeOctets();
  }
  played->Come(octets.substr(0, 16 * 1024));
  EXPECT_TRUE(stream->readable().empty()) << "no whole record yet";
  played->Come(octets.substr(16 * 1024));
  EXPECT_EQ(readable, 1);
  std::size_t first = stream->readable().size();
  EXPECT_GE(first, 16384U);
  std::size_t got = 0;
  while (got < 4 * 16384U) {
    got += TakeReadable().size();
    EXPECT_TRUE(stream->readable().empty()) << "nothing grows within Consume";
    loop.RunNoWait();
  }
  EXPECT_EQ(got, 4 * 16384U);
}

TEST_F(TlsStreamTest, ACloseNotifyEndsTheReadSideOnly) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    ConnectAndShake({.newest = version});
    client->Write("last words");
    client->CloseNotify();
    TurnUntil([&] { return stream->read_state() == Stream::ReadState::kEnded; });
    EXPECT_EQ(Readable(), "last words");
    stream->RequireCloseNotify();
    EXPECT_EQ(stream->read_state(), Stream::ReadState::kEnded);
    std::vector<std::string> parts = {"an answer"};
    EXPECT_EQ(Write(parts), Stream::WriteStatus::kDone);
    Call([&] { stream->ShutdownWrite(); });
    TurnUntil([&] {
      client->Read();
      return client->ended && client->closed;
    });
    EXPECT_TRUE(version == TLS1_2_VERSION || client->received == "an answer");
  }
}

TEST_F(TlsStreamTest, Invariant4TheDestructorSaysCloseNotifyAndCloseDoesNot) {
  ConnectAndShake();
  stream.reset();
  client->Carry();
  client->Read();
  EXPECT_TRUE(client->ended);
  for (bool reset : {false, true}) {
    ConnectAndShake();
    Call([&] {
      stream->Close(reset);
      stream->Close(reset);
    });
    stream.reset();
    loop.RunNoWait();
    client->Carry();
    client->Read();
    EXPECT_FALSE(client->ended);
    EXPECT_TRUE(client->closed);
  }
}

TEST_F(TlsStreamTest, Invariant3AnEndWithoutCloseNotifyIsAnEndForRequestsAndAFailureForTunnels) {
  for (bool tunnel : {false, true}) {
    ConnectAndShake();
    client->Write("octets");
    TurnUntil([&] { return Readable() == "octets"; });
    if (tunnel) {
      stream->RequireCloseNotify();
    }
    EXPECT_EQ(::shutdown(client->fd.get(), SHUT_WR), 0);
    TurnUntil([&] { return stream->read_state() != Stream::ReadState::kOpen; });
    EXPECT_EQ(stream->read_state(),
              tunnel ? Stream::ReadState::kFailed : Stream::ReadState::kEnded);
    EXPECT_EQ(Readable(), "octets");
    stream->RequireCloseNotify();
    EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed) << "also when it came before";
  }
}

TEST_F(TlsStreamTest, Invariant3AnEndInsideARecordIsAFailure) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    for (std::size_t size : {1U, 4U, 5U, 6U, 20U}) {
      PlayAndShake({.newest = version});
      client->Write("octets");
      played->Come(client->TakeOctets().substr(0, size));
      EXPECT_FALSE(stream->IsQuiet()) << size;
      played->End(Stream::ReadState::kEnded);
      EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed) << size;
      EXPECT_EQ(readable, 1);
    }
  }
}

TEST_F(TlsStreamTest, AnEndBehindAFullBufferComesAfterTheOctets) {
  PlayAndShake();
  client->Write(Text(300 * 1024));
  std::string octets = client->TakeOctets();
  played->Come(octets.substr(0, 1000));
  played->Come(octets.substr(1000));
  played->End(Stream::ReadState::kEnded);
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kOpen);
  std::string got = TakeReadable();
  EXPECT_LT(got.size(), 300 * 1024U);
  TurnUntil([&] { return stream->read_state() == Stream::ReadState::kEnded; });
  EXPECT_EQ(got + TakeReadable(), Text(300 * 1024));
}

TEST_F(TlsStreamTest, AResetIsAFailureAtOnceAlsoBehindAFullBuffer) {
  PlayAndShake();
  Call([&] { stream->WatchResets(); });
  EXPECT_TRUE(played->watched);
  client->Write(Text(300 * 1024));
  played->Come(client->TakeOctets());
  std::size_t before = stream->readable().size();
  played->End(Stream::ReadState::kFailed);
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed);
  EXPECT_EQ(stream->readable().size(), before);
  EXPECT_EQ(TakeReadable().size(), before);
}

TEST_F(TlsStreamTest, AResetOfASocketIsAFailure) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof(address);
  ASSERT_EQ(::bind(listener.get(), any, length), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), any, &length), 0);
  UniqueFd end(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(end.get(), any, length), 0);
  ASSERT_EQ(::fcntl(end.get(), F_SETFL, O_NONBLOCK), 0);
  client = std::make_unique<TlsClient>(TlsClientWish(), std::move(end));
  UniqueFd ours(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  Start(SocketStream::Adopt(loop, pool, std::move(ours)));
  ASSERT_TRUE(Shake());
  Upload("octets");
  linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(client->fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  client->fd.Reset();
  for (int i = 0; i < 1000 && stream->read_state() == Stream::ReadState::kOpen; ++i) {
    loop.RunNoWait();
  }
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed);
  EXPECT_FALSE(stream->handshake_error().has_value());
}

// Octets both ways in pieces of any size, a stream below that stalls at any time, an owner that
// consumes as it likes: what arrives is what was sent, each write ends once, and then all is quiet.
TEST_F(TlsStreamTest, AnyInterleavingCarriesTheSameOctets) {
  for (unsigned seed = 1; seed <= 40; ++seed) {
    std::minstd_rand random(seed);
    auto any = [&](std::size_t most) { return random() % (most + 1); };
    PlayAndShake({.newest = seed % 2 == 0 ? TLS1_2_VERSION : TLS1_3_VERSION});
    std::string up;
    std::string down;
    std::string got_up;
    std::string on_its_way;
    std::vector<std::string> parts;
    written = 0;
    int pending_count = 0;
    for (int step = 0; step < 200; ++step) {
      played->takes_nothing = any(3) == 0;
      if (any(3) == 0 && seed % 2 == 1) {
        SSL_key_update(client->ssl(), SSL_KEY_UPDATE_REQUESTED);
      }
      if (std::string text = Text(any(4) == 0 ? any(60000) : any(300)); !text.empty()) {
        client->Write(text);
        up += text;
      }
      on_its_way += client->TakeOctets();
      std::size_t piece = std::min(on_its_way.size(), any(1) == 0 ? any(40) : any(50000));
      if (piece > 0) {
        played->Come(on_its_way.substr(0, piece));
        on_its_way.erase(0, piece);
      }
      if (stream->unwritten() == 0 && written == pending_count) {
        parts = {Text(any(500)), Text(any(2) == 0 ? any(200000) : any(2000)), Text(any(10))};
        down += parts[0] + parts[1] + parts[2];
        auto status = Write(parts);
        ASSERT_NE(status, Stream::WriteStatus::kFailed) << seed;
        pending_count += status == Stream::WriteStatus::kPending ? 1 : 0;
      }
      std::size_t taken = any(stream->readable().size());
      got_up += Readable().substr(0, taken);
      Call([&] { stream->Consume(taken); });
      if (any(1) == 0) {
        played->TakePending();
      }
      loop.RunNoWait();
      client->GiveOctets(played->TakeWritten());
      client->Read();
    }
    played->takes_nothing = false;
    played->Come(on_its_way);
    for (int i = 0;
         i < 2000 && (got_up.size() < up.size() || client->received.size() < down.size()); ++i) {
      got_up += TakeReadable();
      played->TakePending();
      loop.RunNoWait();
      loop.timers().Advance(loop.now() + 1);
      client->GiveOctets(played->TakeWritten());
      client->Read();
    }
    ASSERT_EQ(got_up, up) << seed;
    ASSERT_EQ(client->received, down) << seed;
    EXPECT_EQ(written, pending_count) << seed;
    EXPECT_EQ(client->failure, "") << seed;
    EXPECT_TRUE(stream->IsQuiet()) << seed;
  }
}

TEST_F(TlsStreamTest, AFailedRecordIsAFailureOfBothSides) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    ConnectAndShake({.newest = version});
    client->Write("good");
    TurnUntil([&] { return Readable() == "good"; });
    client->Write("bad");
    std::string octets = client->TakeOctets();
    octets.back() = static_cast<char>(octets.back() ^ 1);
    EXPECT_EQ(::write(client->fd.get(), octets.data(), octets.size()),
              static_cast<ssize_t>(octets.size()));
    TurnUntil([&] { return stream->read_state() == Stream::ReadState::kFailed; });
    EXPECT_EQ(Readable(), "good");
    EXPECT_FALSE(stream->handshake_error().has_value());
    std::vector<std::string> parts = {"no more"};
    EXPECT_EQ(Write(parts), Stream::WriteStatus::kFailed);
    Turn();
    client->Read();
    EXPECT_NE(client->failure.find("bad record mac"), std::string::npos) << client->failure;
    EXPECT_TRUE(client->closed);
  }
  EXPECT_EQ(ERR_peek_error(), 0UL);
}

TEST_F(TlsStreamTest, CloseKeepsWhatWasReadAndWakesNobody) {
  ConnectAndShake();
  client->Write("kept");
  TurnUntil([&] { return Readable() == "kept"; });
  int before = readable;
  Call([&] { stream->Close(true); });
  for (int i = 0; i < 5; ++i) {
    loop.RunNoWait();
  }
  EXPECT_EQ(Readable(), "kept");
  EXPECT_EQ(readable, before);
  std::vector<std::string> parts = {"x"};
  EXPECT_EQ(Write(parts), Stream::WriteStatus::kFailed);
  EXPECT_EQ(TakeReadable(), "kept");
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed);
}

TEST_F(TlsStreamTest, MayBeDestroyedInsideItsCallbacks) {
  ConnectAndShake();
  on_readable = [&] { stream.reset(); };
  client->Write("octets");
  for (int i = 0; i < 1000 && stream != nullptr; ++i) {
    client->Carry();
    loop.RunNoWait();
  }
  EXPECT_EQ(stream, nullptr);
  on_readable = nullptr;
  ConnectAndShake();
  on_written = [&] { stream.reset(); };
  std::vector<std::string> parts = {Text(4 << 20)};
  ASSERT_EQ(Write(parts), Stream::WriteStatus::kPending);
  for (int i = 0; i < 1000 && stream != nullptr; ++i) {
    client->Carry();
    loop.RunNoWait();
  }
  EXPECT_EQ(stream, nullptr);
}

TEST_F(TlsStreamTest, MayBeDestroyedWithACallbackPosted) {
  PlayAndShake();
  client->Write(Text(100 * 1024));
  std::string octets = client->TakeOctets();
  played->Come(octets.substr(0, 17000));
  played->Come(octets.substr(17000));
  int before = readable;
  TakeReadable();
  std::shared_ptr<int> destroyed = played->destroyed;
  stream.reset();
  EXPECT_EQ(*destroyed, 1);
  loop.RunNoWait();
  EXPECT_EQ(readable, before);
}

TEST_F(TlsStreamTest, NeedsNoOwnerToReadOnAndNobodyIsTold) {
  ConnectAndShake();
  Call([&] { stream->SetOwner(nullptr); });
  client->Write("unheard");
  TurnUntil([&] { return Readable() == "unheard"; });
  EXPECT_EQ(readable, 0);
  Call([&] { stream->SetOwner(this); });
  client->Write(" heard");
  TurnUntil([&] { return Readable() == "unheard heard"; });
  EXPECT_EQ(readable, 1);
}

TEST_F(TlsStreamTest, GivesNoDescriptorAway) {
  ConnectAndShake();
  EXPECT_FALSE(stream->Detach());
  Upload("still here");
}

TEST_F(TlsStreamTest, IsDetachedAndResumedAndTheClientDoesNotNotice) {
  ConnectAndShake();
  for (int i = 0; i < 3; ++i) {
    Upload("before");
    Download("also before");
    std::optional<DetachedTls> detached = stream->DetachTls();
    ASSERT_TRUE(detached);
    stream.reset();
    // It has come while nobody was there.
    client->Write("meanwhile");
    client->Carry();
    stream = TlsStream::Resume(loop, pool, SocketStream::Adopt(loop, pool, std::move(detached->fd)),
                               std::move(detached->ssl), std::move(detached->settings));
    Call([&] { stream->SetOwner(this); });
    EXPECT_TRUE(stream->handshake_done());
    TurnUntil([&] { return Readable() == "meanwhile"; });
    TakeReadable();
  }
  EXPECT_EQ(stream->info().version, "TLSv1.3");
  stream.reset();
  TurnUntil([&] {
    client->Read();
    return client->ended;
  });
}

TEST_F(TlsStreamTest, IsNotDetachedWhileAnythingIsUnderWay) {
  Connect();
  EXPECT_FALSE(stream->DetachTls()) << "a handshake";
  ASSERT_TRUE(Shake());
  client->Write("unread");
  TurnUntil([&] { return Readable() == "unread"; });
  EXPECT_FALSE(stream->DetachTls()) << "octets for the owner";
  TakeReadable();
  client->Write("a record");
  const std::string record = client->TakeOctets();
  ASSERT_EQ(::write(client->fd.get(), record.data(), 7), 7);
  Turn();
  EXPECT_FALSE(stream->DetachTls()) << "a piece of a record";
  ASSERT_EQ(::write(client->fd.get(), record.data() + 7, record.size() - 7),
            static_cast<ssize_t>(record.size() - 7));
  TurnUntil([&] { return Readable() == "a record"; });
  TakeReadable();
  client->CloseNotify();
  Turn();
  EXPECT_FALSE(stream->DetachTls()) << "an end";
}

}  // namespace
}  // namespace tidegate
