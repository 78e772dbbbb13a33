// Handshakes that come in pieces, fail, or never end, and clients that want work for nothing.

#include <string>
#include <vector>

#include "proxy/net/tls_stream.h"
#include "tests/support/tls_rig.h"

namespace tidegate {
namespace {

class TlsHandshakeTest : public TlsRig {
 protected:
  void ExpectRefused(const std::string& reason) {
    TurnUntil([&] { return stream->read_state() == Stream::ReadState::kFailed; });
    ASSERT_TRUE(stream->handshake_error().has_value());
    EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kTlsHandshakeFailed);
    EXPECT_EQ(stream->handshake_error()->detail(), reason);
    EXPECT_EQ(readable, 1);
    EXPECT_FALSE(stream->handshake_done());
    EXPECT_TRUE(stream->readable().empty());
    EXPECT_EQ(ERR_peek_error(), 0UL) << "nothing stays in OpenSSL's queue";
    std::vector<std::string> parts = {"x"};
    EXPECT_EQ(Write(parts), Stream::WriteStatus::kFailed);
  }
};

TEST_F(TlsHandshakeTest, Invariant1TellsTheOwnerOnceWhenItIsDoneAndWhatCameOfIt) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    readable = 0;
    Connect({.newest = version, .alpn = "\x08http/1.1"});
    EXPECT_EQ(stream->info().version, "");
    ASSERT_TRUE(Shake());
    EXPECT_EQ(readable, 1);
    EXPECT_TRUE(stream->readable().empty());
    TlsInfo info = stream->info();
    EXPECT_EQ(info.version, version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3");
    EXPECT_EQ(info.cipher, version == TLS1_2_VERSION ? "ECDHE-ECDSA-AES128-GCM-SHA256"
                                                     : "TLS_AES_128_GCM_SHA256");
    EXPECT_EQ(info.server_name, "example.org");
    EXPECT_EQ(info.alpn, "http/1.1");
    EXPECT_FALSE(info.resumed);
    EXPECT_FALSE(stream->handshake_error().has_value());
  }
}

TEST_F(TlsHandshakeTest, TakesAFlightInOneWriteEach) {
  Play();
  client->Handshake();
  played->Come(client->TakeOctets());
  EXPECT_EQ(played->writes, 1);
  client->GiveOctets(played->TakeWritten());
  ASSERT_TRUE(client->Handshake());
  client->Write("a request in the same segment");
  played->Come(client->TakeOctets());
  EXPECT_EQ(played->writes, 2) << "the ticket";
  EXPECT_EQ(Readable(), "a request in the same segment");
  EXPECT_EQ(readable, 1);
}

TEST_F(TlsHandshakeTest, ComesOctetByOctet) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Play({.newest = version});
    for (int i = 0; i < 10 && !(client->Handshake() && stream->handshake_done()); ++i) {
      for (char octet : client->TakeOctets()) {
        played->Come({&octet, 1});
      }
      client->GiveOctets(played->TakeWritten());
    }
    EXPECT_TRUE(stream->handshake_done());
    client->Write("octets");
    for (char octet : client->TakeOctets()) {
      played->Come({&octet, 1});
    }
    EXPECT_EQ(Readable(), "octets");
  }
}

TEST_F(TlsHandshakeTest, CutAtAnyOctetIsAFailureThatSaysSo) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    bool whole = false;
    for (std::size_t cut = 0; !whole; ++cut) {
      readable = 0;
      Play({.newest = version});
      std::size_t left = cut;
      while (left > 0 && !stream->handshake_done()) {
        client->Handshake();
        std::string octets = client->TakeOctets();
        ASSERT_FALSE(octets.empty());
        octets.resize(std::min(left, octets.size()));
        left -= octets.size();
        played->Come(octets);
        client->GiveOctets(played->TakeWritten());
      }
      whole = stream->handshake_done();
      if (!whole) {
        played->End(cut % 2 == 0 ? Stream::ReadState::kEnded : Stream::ReadState::kFailed);
        ExpectRefused(cut % 2 == 0 ? "the client closed the connection during the TLS handshake"
                                   : "the connection was reset during the TLS handshake");
      }
    }
  }
}

TEST_F(TlsHandshakeTest, BeginsWithWhatTheStreamBelowHasReadAlready) {
  Play();
  client->Handshake();
  auto below = std::make_unique<PlayedStream>();
  PlayedStream* next = below.get();
  struct Nobody final : StreamOwner {
    void OnReadable() override {}
    void OnWritten() override {}
  } nobody;
  next->SetOwner(&nobody);
  next->Come(client->TakeOctets());
  played = next;
  Start(std::move(below));
  EXPECT_EQ(played->writes, 0) << "nothing is done within SetOwner that could end in a callback";
  EXPECT_TRUE(Shake());
}

TEST_F(TlsHandshakeTest, RefusesGarbage) {
  Connect();
  std::string garbage(2000, '\x80');
  EXPECT_EQ(::write(client->fd.get(), garbage.data(), garbage.size()), 2000);
  TurnUntil([&] { return stream->read_state() == Stream::ReadState::kFailed; });
  EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kTlsHandshakeFailed);
  EXPECT_EQ(ERR_peek_error(), 0UL);
  TurnUntil([&] { return client->closed; });
}

TEST_F(TlsHandshakeTest, TellsWhoSpeaksHttpToATlsPort) {
  Connect();
  std::string_view request = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
  EXPECT_EQ(::write(client->fd.get(), request.data(), request.size()),
            static_cast<ssize_t>(request.size()));
  ExpectRefused("http request");
}

TEST_F(TlsHandshakeTest, RefusesAClientHelloThatIsTooLarge) {
  Play();
  std::string hello("\x16\x03\x01\x40\x00\x01\xff\xff\xff", 9);
  hello.resize(5 + 0x4000, 0);
  played->Come(hello);
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed);
  EXPECT_EQ(stream->handshake_error()->detail(), "a ClientHello of 16777215 octets");
  EXPECT_EQ(played->TakeWritten(), "") << "before OpenSSL makes room for it";
}

// OpenSSL skips some records that carry nothing: what comes after them is not to be its own to
// judge.
TEST_F(TlsHandshakeTest, RefusesAClientHelloThatIsTooLargeBehindWhateverElse) {
  const std::string lie("\x16\x03\x03\x00\x04\x01\x02\x00\x00", 9);
  for (int type = 0; type < 256; ++type) {
    for (int size = 0; size <= 3; ++size) {
      for (bool at_once : {true, false}) {
        Play();
        std::string before("\x00\x03\x03\x00\x00", 5);
        before[0] = static_cast<char>(type);
        before[4] = static_cast<char>(size);
        before.append(static_cast<std::size_t>(size), '\x01');
        if (at_once) {
          played->Come(before + lie);
        } else {
          for (char octet : before + lie) {
            played->Come(std::string(1, octet));
          }
        }
        Turn();
        EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed)
            << "a record of type " << type << " and of " << size << " octets";
      }
    }
  }
}

TEST_F(TlsHandshakeTest, RefusesWhatFollowsAClientHelloInItsRecord) {
  Play();
  SSL_set1_groups_list(client->ssl(), "P-521:X25519");
  client->Handshake();
  std::string hello = client->TakeOctets();
  hello += std::string("\x01\x02\x00\x00", 4);
  const std::size_t size = hello.size() - 5;
  hello[3] = static_cast<char>(size >> 8U);
  hello[4] = static_cast<char>(size & 0xffU);
  played->Come(hello);
  Turn();
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed)
      << "it would be a second one that nobody has judged";
}

// Its first guess is a group that we do not take: a HelloRetryRequest asks for another ClientHello.
TEST_F(TlsHandshakeTest, RefusesASecondClientHelloThatIsTooLarge) {
  const std::string lie("\x16\x03\x03\x00\x04\x01\x02\x00\x00", 9);
  const std::string change("\x14\x03\x03\x00\x01\x01", 6);
  const std::string warning("\x15\x03\x03\x00\x02\x01\x5a", 7);
  for (const std::string& before : {std::string(), change, warning, change + warning + change}) {
    for (int way : {0, 1, 2}) {
      Play();
      SSL_set1_groups_list(client->ssl(), "P-521:X25519");
      client->Handshake();
      const std::string hello = client->TakeOctets();
      played->Come(way == 2 ? hello + before + lie : hello);
      EXPECT_FALSE(played->TakeWritten().empty());
      if (way == 2) {
        Turn();
      } else if (way == 1) {
        played->Come(before + lie);
      } else {
        for (char octet : before + lie) {
          played->Come(std::string(1, octet));
        }
      }
      ASSERT_EQ(stream->read_state(), Stream::ReadState::kFailed) << before.size();
      ASSERT_TRUE(stream->handshake_error().has_value());
      EXPECT_EQ(stream->handshake_error()->detail(), "a ClientHello of 131072 octets");
    }
  }
}

// A ClientHello in a record of its own, with the extension early_data (RFC 8446 section 4.2.10).
std::string WithEarlyData(std::string hello) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(hello[i]); };
  const auto add = [&](std::size_t where) {
    const std::size_t size = at(where) * 256U + at(where + 1) + 4;
    hello[where] = static_cast<char>(size >> 8U);
    hello[where + 1] = static_cast<char>(size & 0xffU);
  };
  std::size_t place = 5 + 4 + 2 + 32;
  place += 1 + at(place);
  place += 2 + at(place) * 256U + at(place + 1);
  place += 1 + at(place);
  for (std::size_t where : {place, std::size_t{5 + 2}, std::size_t{3}}) {
    add(where);
  }
  return hello + std::string("\x00\x2a\x00\x00", 4);
}

// OpenSSL throws early data away that came before a HelloRetryRequest did.
TEST_F(TlsHandshakeTest, RefusesASecondClientHelloThatIsTooLargeBehindWhateverElse) {
  const std::string lie("\x16\x03\x03\x00\x04\x01\x02\x00\x00", 9);
  for (int type = 0; type < 256; ++type) {
    for (int size : {0, 1, 2, 3, 20}) {
      Play();
      SSL_set1_groups_list(client->ssl(), "P-521:X25519");
      client->Handshake();
      played->Come(WithEarlyData(client->TakeOctets()));
      ASSERT_FALSE(played->TakeWritten().empty());
      std::string before("\x00\x03\x03\x00\x00", 5);
      before[0] = static_cast<char>(type);
      before[4] = static_cast<char>(size);
      before.append(static_cast<std::size_t>(size), '\x01');
      played->Come(before + lie);
      Turn();
      EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed)
          << "a record of type " << type << " and of " << size << " octets";
    }
  }
}

TEST_F(TlsHandshakeTest, TakesASecondClientHelloInAnyPieces) {
  for (bool at_once : {true, false}) {
    Play();
    SSL_set1_groups_list(client->ssl(), "P-521:X25519");
    client->Handshake();
    played->Come(client->TakeOctets());
    client->GiveOctets(played->TakeWritten());
    client->Handshake();
    const std::string octets = client->TakeOctets();
    for (std::size_t i = 0; i < octets.size(); i += at_once ? octets.size() : 1) {
      played->Come(octets.substr(i, at_once ? octets.size() : 1));
    }
    client->GiveOctets(played->TakeWritten());
    ASSERT_TRUE(Shake());
  }
}

TEST_F(TlsHandshakeTest, RefusesAHandshakeInTooManyRecords) {
  Play();
  client->Handshake();
  std::string hello = client->TakeOctets().substr(5);
  EXPECT_FALSE(hello.empty());
  std::string octets = std::string("\x16\x03\x01\x00\x04", 5) + hello.substr(0, 4);
  for (char octet : hello.substr(4, 100)) {
    octets += std::string("\x16\x03\x01\x00\x01", 5) + octet;
  }
  played->Come(octets);
  ExpectRefused("the TLS handshake came in too many records");
}

TEST_F(TlsHandshakeTest, RefusesAFirstRecordThatDoesNotSayWhatItIs) {
  Play();
  client->Handshake();
  std::string hello = client->TakeOctets().substr(5);
  for (char octet : std::string("\x16\x03\x01\x00\x01", 5) + hello.substr(0, 1)) {
    played->Come(std::string(1, octet));
  }
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kOpen) << "it may go on";
  played->Come(std::string("\x16\x03\x01\x00\x01", 5) + hello.substr(1, 1));
  ExpectRefused("the first record has no ClientHello");
}

TEST_F(TlsHandshakeTest, Invariant2TheAlertGoesBeforeTheOwnerIsTold) {
  Play({.alpn = "\003ftp"});
  std::string alert;
  on_readable = [&] { alert = played->TakeWritten(); };
  client->Handshake();
  played->Come(client->TakeOctets());
  client->GiveOctets(alert);
  client->Handshake();
  EXPECT_NE(client->failure.find("no application protocol"), std::string::npos) << client->failure;
  EXPECT_EQ(played->shutdowns, 1) << "our side ends after it";
}

TEST_F(TlsHandshakeTest, AClientThatRefusesUsIsToldOf) {
  Connect();
  SSL_set_verify(client->ssl(), SSL_VERIFY_PEER, nullptr);
  TurnUntil([&] {
    client->Handshake();
    return stream->read_state() == Stream::ReadState::kFailed;
  });
  EXPECT_NE(stream->handshake_error()->detail().find("alert"), std::string::npos)
      << stream->handshake_error()->detail();
}

TEST_F(TlsHandshakeTest, Invariant2OfAClientThatStaysSilentEndsByItsDeadline) {
  Connect();
  std::vector<std::string> parts = {"early"};
  EXPECT_EQ(Write(parts), Stream::WriteStatus::kPending);
  loop.timers().Advance(loop.now() + 9000);
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kOpen);
  loop.timers().Advance(loop.now() + 2000);
  Turn();
  ASSERT_TRUE(stream->handshake_error().has_value());
  EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kTlsHandshakeTimeout);
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed);
  EXPECT_EQ(readable, 1);
  EXPECT_EQ(written, 1);
  TurnUntil([&] { return client->closed; });
}

TEST_F(TlsHandshakeTest, ThatIsDoneHasNoDeadlineAnyMore) {
  Connect();
  ASSERT_TRUE(Shake());
  loop.timers().Advance(loop.now() + 20000);
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kOpen);
}

TEST_F(TlsHandshakeTest, MayBeDestroyedInsideTheCallbackOfEveryOutcome) {
  on_readable = [&] { stream.reset(); };
  Connect();
  for (int i = 0; i < 1000 && stream != nullptr; ++i) {
    client->Handshake();
    Carry();
  }
  EXPECT_EQ(stream, nullptr) << "done";
  Play();
  played->Come("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(stream, nullptr) << "failed";
  Play();
  loop.timers().Advance(loop.now() + 11000);
  EXPECT_EQ(stream, nullptr) << "too late";
}

TEST_F(TlsHandshakeTest, IsNeverDoneAgain) {
  Connect({.newest = TLS1_2_VERSION});
  ASSERT_TRUE(Shake());
  client->Write("before");
  TurnUntil([&] { return Readable() == "before"; });
  ASSERT_EQ(SSL_renegotiate(client->ssl()), 1);
  client->Handshake();
  Turn();
  client->Read();
  EXPECT_NE(client->failure.find("no renegotiation"), std::string::npos) << client->failure;
  EXPECT_EQ(Readable(), "before");
}

TEST_F(TlsHandshakeTest, Invariant5AFloodOfKeyUpdatesEndsTheConnection) {
  Play();
  ASSERT_TRUE(Shake());
  for (unsigned i = 0; i < TlsStream::kMostEmptyRecords; ++i) {
    SSL_key_update(client->ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
    client->Handshake();
  }
  client->Write("octets");
  played->Come(client->TakeOctets());
  EXPECT_EQ(TakeReadable(), "octets") << "so many may come";
  for (unsigned i = 0; i < TlsStream::kMostEmptyRecords + 2; ++i) {
    SSL_key_update(client->ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
    client->Handshake();
  }
  played->Come(client->TakeOctets());
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed);
  EXPECT_EQ(stream->write_error()->detail(), "too many TLS records that carry nothing");
}

TEST_F(TlsHandshakeTest, Invariant5AFloodOfTinyRecordsLeavesOthersTheirTurn) {
  Play();
  ASSERT_TRUE(Shake());
  std::string octets;
  for (int i = 0; i < 2000; ++i) {
    client->Write("x");
    octets += client->TakeOctets();
  }
  played->Come(octets);
  EXPECT_LE(stream->readable().size(), TlsStream::kMostRecordsATurn);
  std::size_t before = stream->readable().size();
  TurnUntil([&] { return stream->readable().size() > before; });
  EXPECT_LE(stream->readable().size(), before + TlsStream::kMostRecordsATurn);
  TurnUntil([&] { return stream->readable().size() == 2000; });
}

TEST_F(TlsHandshakeTest, Invariant5AClientThatTakesNoAnswersToItsKeyUpdatesIsNotRead) {
  Play();
  ASSERT_TRUE(Shake());
  played->takes_nothing = true;
  std::string octets;
  for (int i = 0; i < 3000; ++i) {
    SSL_key_update(client->ssl(), SSL_KEY_UPDATE_REQUESTED);
    client->Write("x");
    octets += client->TakeOctets();
  }
  played->Come(octets);
  std::size_t got = 0;
  for (int i = 0; i < 3000; ++i) {
    loop.RunNoWait();
    loop.timers().Advance(loop.now() + 1);
    got += TakeReadable().size();
  }
  EXPECT_LT(got, 500U);
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kOpen);
  played->takes_nothing = false;
  played->TakePending();
  TurnUntil([&] {
    got += TakeReadable().size();
    return got == 3000;
  });
}

TEST_F(TlsHandshakeTest, AnswersAKeyUpdateAndGoesOn) {
  Connect();
  ASSERT_TRUE(Shake());
  SSL_key_update(client->ssl(), SSL_KEY_UPDATE_REQUESTED);
  client->Write("after");
  TurnUntil([&] { return Readable() == "after"; });
  std::vector<std::string> parts = {"answer"};
  EXPECT_EQ(Write(parts), Stream::WriteStatus::kDone);
  TurnUntil([&] {
    client->Read();
    return client->received == "answer";
  });
}

TEST_F(TlsHandshakeTest, WaitsInLineWhenTheTurnsTimeIsSpent) {
  struct Spender final : Handshakes::Member {
    void OnHandshakeTurn() override { clock_of_handshakes += Handshakes::kBudget; }
    void OnEvicted() override {}
  } spender;
  handshakes.Join(spender);
  Play();
  EXPECT_EQ(handshakes.size(), 2U);
  handshakes.GoOn(spender);
  client->Handshake();
  played->Come(client->TakeOctets());
  EXPECT_TRUE(played->TakeWritten().empty()) << "its turn is the next";
  loop.RunNoWait();
  client->GiveOctets(played->TakeWritten());
  EXPECT_TRUE(client->Handshake());
  ASSERT_TRUE(Shake());
  handshakes.GoOn(spender);
  client->Write("hello");
  played->Come(client->TakeOctets());
  EXPECT_EQ(Readable(), "hello") << "what is established waits for nobody";
  handshakes.Leave(spender);
  EXPECT_EQ(handshakes.size(), 0U);
}

// A HelloRetryRequest costs us nothing, and what comes after it costs all: who has got one waits as
// if nothing had been said.
TEST_F(TlsHandshakeTest, AHelloRetryRequestIsNoWayRoundTheLine) {
  struct Spender final : Handshakes::Member {
    void OnHandshakeTurn() override { clock_of_handshakes += Handshakes::kBudget; }
    void OnEvicted() override {}
  } spender;
  handshakes.Join(spender);
  Play();
  SSL_set1_groups_list(client->ssl(), "P-521:X25519");
  client->Handshake();
  played->Come(client->TakeOctets());
  client->GiveOctets(played->TakeWritten());
  client->Handshake();
  loop.RunNoWait();
  handshakes.GoOn(spender);
  played->Come(client->TakeOctets());
  EXPECT_TRUE(played->TakeWritten().empty()) << "its turn is the next";
  EXPECT_TRUE(Shake());
  handshakes.Leave(spender);
}

TEST_F(TlsHandshakeTest, TheOldestIsEndedWhenThereAreTooMany) {
  handshakes.SetMost(1);
  Play();
  auto first = std::move(stream);
  struct Owner final : StreamOwner {
    void OnReadable() override { ++readable; }
    void OnWritten() override {}
    int readable = 0;
  } owner;
  first->SetOwner(&owner);
  Play();
  EXPECT_EQ(owner.readable, 1);
  ASSERT_TRUE(first->handshake_error().has_value());
  EXPECT_EQ(first->handshake_error()->kind(), ErrorKind::kTlsHandshakeEvicted);
  EXPECT_EQ(first->read_state(), Stream::ReadState::kFailed);
  EXPECT_TRUE(Shake()) << "the other goes on";
}

}  // namespace
}  // namespace tidegate
