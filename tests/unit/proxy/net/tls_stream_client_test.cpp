// A TlsStream that connects: how its handshake begins and fails, what an idle connection hears, how
// it ends.

#include <algorithm>
#include <string>

#include "proxy/net/tls_stream.h"
#include "tests/support/client_tls_rig.h"

namespace tidegate {
namespace {

constexpr int kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

class TlsStreamClientTest : public ClientTlsRig {
 protected:
  TlsStreamClientTest() : leaf(Signed({.hosts = {"a.example"}})), tls(Tls("a.example")) {
    Serve({.certificate = &leaf});
  }
  void ServeVersion(int version) { Serve({.certificate = &leaf, .newest = version}); }
  void ConnectAndCount() {
    ASSERT_TRUE(ConnectAndShake(tls)) << Fault();
    readable = 0;
    played->writes = 0;
  }
  // The server's octets come.
  void Come() {
    if (std::string octets = server->TakeOctets(); !octets.empty()) {
      played->Come(octets);
    }
  }

  TestCertificate leaf;
  std::shared_ptr<ClientTls> tls;
};

TEST_F(TlsStreamClientTest, BeginsWithItsFirstOwnerAndTellsItOnceWhenItIsDone) {
  for (int version : kVersions) {
    ServeVersion(version);
    Connect(tls);
    EXPECT_EQ(played->writes, 0) << "nothing is done within SetOwner";
    ASSERT_TRUE(Shake());
    EXPECT_EQ(readable, 1);
    EXPECT_EQ(played->writes, 2) << "a flight in one write each";
    EXPECT_EQ(stream->info().version, version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3");
    EXPECT_EQ(stream->info().server_name, "a.example");
  }
}

TEST_F(TlsStreamClientTest, WhatIsWrittenBeforeWaitsForTheHandshake) {
  Connect(tls);
  std::string request = "a request";
  EXPECT_EQ(Write(request), Stream::WriteStatus::kPending);
  ASSERT_TRUE(Shake());
  EXPECT_EQ(written, 1);
  EXPECT_EQ(server->received, "a request");
}

TEST_F(TlsStreamClientTest, CarriesOctetsBothWays) {
  for (int version : kVersions) {
    ServeVersion(version);
    ConnectAndCount();
    std::string request(300000, 'q');
    EXPECT_EQ(Write(request), Stream::WriteStatus::kDone);
    for (int i = 0; i < 10; ++i) {
      Carry();
    }
    EXPECT_EQ(server->received, request);
    server->Write(std::string(30000, 'a'));
    Come();
    EXPECT_EQ(Readable(), std::string(30000, 'a'));
    stream->Consume(30000);
    EXPECT_TRUE(stream->IsQuiet());
  }
}

TEST_F(TlsStreamClientTest, ComesOctetByOctet) {
  for (int version : kVersions) {
    ServeVersion(version);
    Connect(tls);
    for (int i = 0; i < 10; ++i) {
      loop.RunNoWait();
      server->GiveOctets(played->TakeWritten());
      server->Handshake();
      for (char octet : server->TakeOctets()) {
        played->Come({&octet, 1});
      }
    }
    EXPECT_TRUE(stream->handshake_done());
    EXPECT_EQ(readable, 1);
  }
}

TEST_F(TlsStreamClientTest, CutAtAnyOctetIsAFailureThatSaysSo) {
  for (int version : kVersions) {
    ServeVersion(version);
    bool whole = false;
    for (std::size_t cut = 0; !whole; cut += 7) {
      Connect(tls);
      std::size_t left = cut;
      for (int i = 0; i < 10 && !stream->handshake_done(); ++i) {
        loop.RunNoWait();
        server->GiveOctets(played->TakeWritten());
        server->Handshake();
        std::string octets = server->TakeOctets();
        octets.resize(std::min(left, octets.size()));
        left -= octets.size();
        if (!octets.empty()) {
          played->Come(octets);
        }
      }
      whole = stream->handshake_done();
      if (!whole) {
        bool ended = cut % 2 == 0;
        played->End(ended ? Stream::ReadState::kEnded : Stream::ReadState::kFailed);
        ASSERT_TRUE(stream->handshake_error().has_value());
        EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kUpstreamTlsHandshake);
        EXPECT_EQ(Fault(), ended ? "the server closed the connection during the TLS handshake"
                                 : "the connection was reset during the TLS handshake");
        EXPECT_EQ(readable, 1);
      }
    }
  }
}

TEST_F(TlsStreamClientTest, AServerThatSaysNothingHasItsTime) {
  Connect(tls);
  loop.RunNoWait();
  loop.timers().Advance(loop.now() + 11'000);
  ASSERT_TRUE(stream->handshake_error().has_value());
  EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kUpstreamConnectTimeout);
  EXPECT_EQ(readable, 1);
  EXPECT_TRUE(played->closed);
}

TEST_F(TlsStreamClientTest, WhatIsNoTlsIsSaidToBe) {
  Connect(tls);
  loop.RunNoWait();
  played->Come("HTTP/1.1 400 Bad Request\r\n\r\n");
  EXPECT_EQ(stream->handshake_error()->kind(), ErrorKind::kUpstreamTlsHandshake);
  EXPECT_FALSE(Fault().empty());
}

TEST_F(TlsStreamClientTest, ATicketWhileItIsIdleIsTakenWithoutAWord) {
  ConnectAndCount();
  EXPECT_EQ(peer->session_count(), 2U);
  for (int i = 0; i < 2; ++i) {
    SSL_new_session_ticket(server->ssl());
    SSL_do_handshake(server->ssl());
    Come();
  }
  EXPECT_EQ(peer->session_count(), 4U);
  EXPECT_EQ(readable, 0) << "nobody is told";
  EXPECT_TRUE(stream->IsQuiet());
  EXPECT_EQ(stream->read_state(), Stream::ReadState::kOpen);
  EXPECT_TRUE(stream->readable().empty());
  server->Write("x");
  Come();
  EXPECT_EQ(Readable(), "x");
}

TEST_F(TlsStreamClientTest, AHalfTicketIsNotQuiet) {
  ConnectAndCount();
  SSL_new_session_ticket(server->ssl());
  SSL_do_handshake(server->ssl());
  std::string octets = server->TakeOctets();
  played->Come(octets.substr(0, 20));
  EXPECT_FALSE(stream->IsQuiet());
  EXPECT_EQ(readable, 0);
  played->Come(octets.substr(20));
  EXPECT_TRUE(stream->IsQuiet());
  EXPECT_EQ(peer->session_count(), 3U);
}

TEST_F(TlsStreamClientTest, AKeyUpdateWhileItIsIdleChangesNothing) {
  ConnectAndCount();
  SSL_key_update(server->ssl(), SSL_KEY_UPDATE_REQUESTED);
  SSL_do_handshake(server->ssl());
  Come();
  EXPECT_EQ(readable, 0);
  EXPECT_TRUE(stream->IsQuiet());
  std::string request = "a request";
  EXPECT_EQ(Write(request), Stream::WriteStatus::kDone);
  Carry();
  EXPECT_EQ(server->received, "a request");
}

TEST_F(TlsStreamClientTest, TheEndWithoutACloseNotifyCountsUnlessItMustNot) {
  for (int version : kVersions) {
    ServeVersion(version);
    ConnectAndCount();
    played->End(Stream::ReadState::kEnded);
    EXPECT_EQ(stream->read_state(), Stream::ReadState::kEnded);
    EXPECT_EQ(readable, 1);
    EXPECT_EQ(stream->protocol_error(), nullptr);
    // Also after the fact.
    stream->RequireCloseNotify();
    EXPECT_EQ(stream->read_state(), Stream::ReadState::kFailed);
    ASSERT_NE(stream->protocol_error(), nullptr);
    EXPECT_EQ(stream->protocol_error()->detail(),
              "the connection ended without a close_notify of TLS");

    ConnectAndCount();
    stream->RequireCloseNotify();
    server->CloseNotify();
    Come();
    played->End(Stream::ReadState::kEnded);
    EXPECT_EQ(stream->read_state(), Stream::ReadState::kEnded);
  }
}

TEST_F(TlsStreamClientTest, SessionsOutliveConnectionsThatEndInAnyWayButBadly) {
  for (int version : kVersions) {
    ServeVersion(version);
    tls = Tls("a.example");
    ConnectAndCount();
    // Given up in the middle of an answer.
    stream->Close(true);
    ConnectAndCount();
    EXPECT_TRUE(stream->info().resumed) << "after Close";
    // The server just leaves.
    played->End(Stream::ReadState::kEnded);
    ConnectAndCount();
    EXPECT_TRUE(stream->info().resumed) << "after the server's end";
  }
}

TEST_F(TlsStreamClientTest, SaysCloseNotifyWhenItGoes) {
  ConnectAndCount();
  EXPECT_FALSE(server->ended);
  stream->ShutdownWrite();
  server->GiveOctets(played->TakeWritten());
  server->Read();
  EXPECT_TRUE(server->ended);
  EXPECT_EQ(played->shutdowns, 1);
  // Its own side is open still.
  server->Write("the rest");
  Come();
  EXPECT_EQ(Readable(), "the rest");
}

}  // namespace
}  // namespace tidegate
