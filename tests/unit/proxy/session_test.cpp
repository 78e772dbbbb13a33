#include "proxy/session.h"

#include <sys/resource.h>

#include <string>

#include "tests/support/proxy_rig.h"
#include "tests/support/test_certificates.h"
#include "tests/support/tls_client.h"

namespace tidegate {
namespace {

class SessionTest : public ProxyRig {
 protected:
  ~SessionTest() override {
    sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
    TurnUntil([&] {
      sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
      return scope.count() == 0;
    });
    services.snapshot.reset();
  }
  void Pass(TimePoint milliseconds) {
    loop.timers().Advance(loop.now() + milliseconds);
    Turn();
  }
  bool Parked() { return sessions.size() == 1 && sessions.session_count() == 0; }
  // A connection that was served and has been quiet for long.
  UniqueFd ConnectAndPark() {
    UniqueFd client = Connect();
    Send(client, kRequest);
    ReceiveUntil(client, "pong");
    Pass(5100);
    EXPECT_TRUE(Parked());
    return client;
  }
  static constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
};

constexpr const char* kPing =
    R"({"listen": ":0", "routes": [{"path": "/", "respond": {"status": 200, "body": "pong"}}],
        "timeouts": {"request_head": "50ms", "keepalive": "50ms"}})";

TEST_F(SessionTest, ServesOneRequestAfterTheOther) {
  Configure(kPing);
  UniqueFd client = Connect();
  for (int i = 0; i < 3; ++i) {
    Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(ReceiveUntil(client, "pong").starts_with("HTTP/1.1 200 OK\r\n"));
  }
  EXPECT_EQ(counters.Get(CounterId::kRequests), 3U);
  EXPECT_EQ(counters.Get(CounterId::kConnectionsActive), 1U);
}

TEST_F(SessionTest, AHeadThatIsNotFinishedInTimeIsAnswered408) {
  Configure(kPing);
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost:");
  EXPECT_TRUE(ReceiveUntil(client, "\n").starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(Closed(client));
}

TEST_F(SessionTest, AHeadHasItsTimeOnceAlsoWhereAPrefaceMayCome) {
  Configure(R"({"listen": ":0", "routes": [{"path": "/", "respond": {"body": "pong"}}],
                "timeouts": {"request_head": "20s"}})");
  speaks |= ClientInfo::SpeaksBit(Protocol::kH2c);
  UniqueFd client = Connect();
  Send(client, "P");
  Pass(15'000);
  Send(client, "OST / HTTP/1.1\r\nHost:");
  Pass(4900);
  char octet = 0;
  EXPECT_EQ(::read(client.get(), &octet, 1), -1);
  Pass(200);
  EXPECT_TRUE(ReceiveUntil(client, "\n").starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(Closed(client));
}

TEST_F(SessionTest, AnIdleConnectionIsClosedWithoutAWord) {
  Configure(kPing);
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ReceiveUntil(client, "pong");
  char octet = 0;
  TurnUntil([&] { return ::read(client.get(), &octet, 1) == 0; });
}

TEST_F(SessionTest, AfterAFramingErrorNothingIsReadAsARequest) {
  Configure(kPing);
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost : x\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n");
  std::string answer = ReceiveUntil(client, "\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << answer;
  EXPECT_NE(answer.find("Connection: close"), std::string::npos);
  EXPECT_TRUE(Closed(client));
  EXPECT_EQ(counters.Get(CounterId::kRequests), 1U);
}

TEST_F(SessionTest, ADrainClosesAfterTheNextAnswerAndLeavesTheIdleAlone) {
  Configure(
      R"({"listen": ":0", "routes": [{"path": "/", "respond": {"status": 200, "body": "pong"}}]})");
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ReceiveUntil(client, "pong");
  sessions.CloseAfterExchange();
  Turn();
  EXPECT_EQ(sessions.size(), 1U);
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(ReceiveUntil(client, "pong").find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(Closed(client));
  client.Reset();
  TurnUntil([&] { return sessions.size() == 0; });
}

// Parking. A request line is answered 408 after request_head, a quiet connection is closed after
// what is left of its patience.
constexpr const char* kPatient =
    R"({"listen": ":0", "routes": [{"path": "/", "respond": {"status": 200, "body": "pong"}}],
        "timeouts": {"request_head": "20s", "keepalive": "60s"}})";

TEST_F(SessionTest, AQuietConnectionIsParkedAndServedAgain) {
  Configure(kPatient);
  UniqueFd client = ConnectAndPark();
  std::uint64_t id = 0;
  std::uint64_t octets_in = 0;
  sessions.parking().ForEach([&](const IdleConnection& idle) {
    id = idle.id;
    octets_in = idle.octets_in;
  });
  EXPECT_EQ(octets_in, kRequest.size());
  Send(client, std::string(kRequest) + std::string(kRequest));
  std::string answers = ReceiveUntil(client, "pong");
  EXPECT_EQ(answers.find("pong"), answers.find("\r\n\r\n") + 4);
  EXPECT_NE(answers.rfind("HTTP/1.1 200 OK"), 0U) << "two answers";
  EXPECT_EQ(sessions.session_count(), 1U);
  sessions.ForEach([&](Session& session) {
    EXPECT_EQ(session.id(), id);
    EXPECT_EQ(session.octets_in(), 3 * kRequest.size());
  });
  EXPECT_EQ(counters.Get(CounterId::kConnectionsAccepted), 1U);
  EXPECT_EQ(counters.Get(CounterId::kConnectionsActive), 1U);
  Pass(5100);
  EXPECT_TRUE(Parked());
}

TEST_F(SessionTest, AParkedConnectionIsClosedWhenItsKeepaliveIsOver) {
  Configure(kPatient);
  UniqueFd client = ConnectAndPark();
  Pass(54'000);
  EXPECT_TRUE(Parked());
  Pass(1000);
  EXPECT_FALSE(Parked());
  Pass(10);
  char octet = 0;
  EXPECT_EQ(::read(client.get(), &octet, 1), 0);
}

TEST_F(SessionTest, AConnectionThatSendsNothingHasTheHeadTimeoutAlsoIfItIsParked) {
  Configure(kPatient);
  UniqueFd client = Connect();
  Pass(5100);
  EXPECT_TRUE(Parked());
  Pass(14'700);
  EXPECT_TRUE(Parked());
  Pass(300);
  Pass(10);
  char octet = 0;
  EXPECT_EQ(::read(client.get(), &octet, 1), 0);
}

TEST_F(SessionTest, ARequestThatMeetsTheKeepaliveOfAParkedConnectionIsServed) {
  Configure(kPatient);
  UniqueFd client = ConnectAndPark();
  ASSERT_EQ(::write(client.get(), kRequest.data(), kRequest.size()),
            static_cast<ssize_t>(kRequest.size()));
  loop.timers().Advance(loop.now() + 56'000);
  EXPECT_TRUE(ReceiveUntil(client, "pong").starts_with("HTTP/1.1 200 OK"));
}

TEST_F(SessionTest, AConnectionWithAHeadThatIsNotWholeIsNotParked) {
  Configure(kPatient);
  UniqueFd client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHo");
  Pass(5100);
  EXPECT_EQ(sessions.session_count(), 1U);
  Send(client, "st: x\r\n\r\n");
  EXPECT_TRUE(ReceiveUntil(client, "pong").starts_with("HTTP/1.1 200 OK"));
}

TEST_F(SessionTest, ADrainLeavesTheParkedAloneAndParksNoMore) {
  Configure(kPatient);
  UniqueFd client = ConnectAndPark();
  UniqueFd other = Connect();
  sessions.CloseAfterExchange();
  Pass(5100);
  EXPECT_EQ(sessions.size(), 2U);
  EXPECT_EQ(sessions.session_count(), 1U);
  Send(client, kRequest);
  EXPECT_NE(ReceiveUntil(client, "pong").find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(Closed(client));
  client.Reset();
  TurnUntil([&] { return sessions.size() == 1; });
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(sessions.size(), 1U);
    Pass(5100);
  }
  EXPECT_TRUE(Closed(other)) << "its patience is what it was";
}

TEST_F(SessionTest, AStopEndsTheParked) {
  Configure(kPatient);
  UniqueFd client = ConnectAndPark();
  sessions.CloseAfterExchange();
  sessions.CloseIdle();
  Pass(2);
  char octet = 0;
  EXPECT_EQ(::read(client.get(), &octet, 1), 0);
  client.Reset();
  TurnUntil([&] { return sessions.size() == 0; });
  EXPECT_EQ(counters.Get(CounterId::kConnectionsActive), 0U);
}

TEST_F(SessionTest, AStopServesTheRequestThatHasComeToAParkedOne) {
  Configure(kPatient);
  UniqueFd client = ConnectAndPark();
  ASSERT_EQ(::write(client.get(), kRequest.data(), kRequest.size()),
            static_cast<ssize_t>(kRequest.size()));
  sessions.CloseAfterExchange();
  sessions.CloseIdle();
  const std::string answer = ReceiveUntil(client, "pong");
  EXPECT_NE(answer.find("200 OK"), std::string::npos) << answer;
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos) << answer;
  EXPECT_TRUE(Closed(client));
}

TEST_F(SessionTest, AStopWaitsTwoSecondsForTheFirstRequestOfWhoHasJustConnected) {
  Configure(kPatient);
  UniqueFd early = Connect();
  Pass(1500);
  UniqueFd late = Connect();
  UniqueFd kept = Connect();
  Send(kept, kRequest);
  ReceiveUntil(kept, "pong");
  sessions.CloseAfterExchange();
  sessions.CloseIdle();
  Pass(10);
  EXPECT_TRUE(Closed(kept)) << "it has had an answer";
  Pass(1000);
  EXPECT_TRUE(Closed(early));
  Send(late, kRequest);
  EXPECT_NE(ReceiveUntil(late, "pong").find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(Closed(late));
}

TEST_F(SessionTest, AStopGivesNobodyMoreTimeThanItHad) {
  Configure(
      R"({"listen": ":0", "routes": [{"path": "/", "respond": {"status": 200, "body": "pong"}}],
          "timeouts": {"request_head": "1s"}})");
  UniqueFd client = Connect();
  Pass(500);
  sessions.CloseAfterExchange();
  sessions.CloseIdle();
  Pass(490);
  char octet = 0;
  EXPECT_EQ(::read(client.get(), &octet, 1), -1);
  Pass(20);
  EXPECT_EQ(::read(client.get(), &octet, 1), 0);
}

TEST_F(SessionTest, AClientThatLeavesWhileParkedLeavesNothing) {
  Configure(kPatient);
  UniqueFd client = ConnectAndPark();
  client.Reset();
  TurnUntil([&] { return sessions.size() == 0; });
  EXPECT_EQ(counters.Get(CounterId::kConnectionsActive), 0U);
}

TEST_F(SessionTest, WithoutDescriptorsItIsNotParkedAndTriesAgain) {
  Configure(kPatient);
  // Once with descriptors: UBSan looks at each kind of object through a pipe, but only once.
  UniqueFd client = ConnectAndPark();
  Send(client, kRequest);
  ReceiveUntil(client, "pong");
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  UniqueFd lowest(::dup(0));
  rlimit tight{.rlim_cur = static_cast<rlim_t>(lowest.get()), .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &tight);
  Pass(5100);
  EXPECT_EQ(sessions.session_count(), 1U);
  setrlimit(RLIMIT_NOFILE, &before);
  Send(client, kRequest);
  EXPECT_TRUE(ReceiveUntil(client, "pong").starts_with("HTTP/1.1 200 OK"));
  setrlimit(RLIMIT_NOFILE, &tight);
  Pass(5100);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(sessions.session_count(), 1U);
  Pass(5100);
  EXPECT_TRUE(Parked());
  Pass(50'000);
  EXPECT_FALSE(Parked()) << "the tries are no more patience";
}

class TlsSessionTest : public SessionTest {
 protected:
  TlsSessionTest() {
    static const TicketKeys keys;
    static const std::vector<std::string> protocols = {"http/1.1"};
    auto store = CertificateStore::Make({{TestMaterial({.hosts = {"example.org"}})}});
    TG_CHECK(store.has_value());
    auto made =
        ServerTls::Make(TlsProfile::kIntermediate, *store, protocols, keys, std::chrono::hours(12));
    TG_CHECK(made.has_value());
    tls = *made;
  }
  // `count`: of all handshakes.
  void Shake(TlsClient& client, std::uint64_t count = 1) {
    TurnUntil([&] {
      bool done = client.Handshake();
      client.Carry();
      return done && counters.Get(CounterId::kTlsHandshakes) == count;
    });
  }
  void ReadUntil(TlsClient& client, std::string_view end) {
    TurnUntil([&] {
      client.Carry();
      client.Read();
      return client.received.ends_with(end);
    });
  }
  bool Ended(TlsClient& client) {
    Turn();
    client.Carry();
    return client.closed;
  }
};

TEST_F(TlsSessionTest, WhileItIsQuietNobodyIsWoken) {
  Configure(kPatient);
  TlsClient client({}, Connect());
  Shake(client);
  client.Write(kRequest);
  ReadUntil(client, "pong");
  // The wheel comes round some times before a deadline that is far away, but not every 5 s.
  const TimePoint begin = loop.now();
  int ticks = 0;
  while (loop.timers().NextTick() < begin + 59'000) {
    loop.timers().Advance(loop.timers().NextTick());
    loop.RunNoWait();
    ++ticks;
  }
  EXPECT_LT(ticks, 10);
  loop.timers().Advance(begin + 59'000);
  EXPECT_FALSE(Ended(client));
  Pass(1100);
  Pass(10);
  EXPECT_TRUE(Ended(client));
}

TEST_F(TlsSessionTest, AQuietConnectionIsParkedAndServedAgain) {
  Configure(kPatient);
  TlsClient client({}, Connect());
  Shake(client);
  for (int i = 0; i < 3; ++i) {
    client.received.clear();
    client.Write(kRequest);
    ReadUntil(client, "pong");
    Pass(5100);
    ASSERT_TRUE(Parked());
  }
  sessions.parking().ForEach([](const IdleConnection& idle) {
    EXPECT_EQ(idle.client.tls, "TLSv1.3");
    EXPECT_EQ(idle.octets_out % 3, 0U);
  });
  EXPECT_EQ(counters.Get(CounterId::kTlsHandshakes), 1U);
  EXPECT_EQ(counters.Get(CounterId::kConnectionsActive), 1U);
}

TEST_F(TlsSessionTest, WhatIsNoRequestWakesAParkedConnectionAndItIsParkedAgain) {
  Configure(kPatient);
  TlsClient client({}, Connect());
  Shake(client);
  client.Write(kRequest);
  ReadUntil(client, "pong");
  Pass(5100);
  ASSERT_TRUE(Parked());
  EXPECT_EQ(SSL_key_update(client.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
  client.Handshake();
  TurnUntil([&] {
    client.Carry();
    return sessions.session_count() == 1;
  });
  Turn();
  Pass(5100);
  ASSERT_TRUE(Parked());
  client.received.clear();
  client.Write(kRequest);
  ReadUntil(client, "pong");
}

TEST_F(TlsSessionTest, APieceOfARecordIsNotParked) {
  Configure(kPatient);
  TlsClient client({}, Connect());
  Shake(client);
  client.Write(kRequest);
  ReadUntil(client, "pong");
  client.Write(kRequest);
  const std::string record = client.TakeOctets();
  Send(client.fd, record.substr(0, 3));
  Turn();
  Pass(5100);
  EXPECT_FALSE(Parked());
  client.received.clear();
  Send(client.fd, record.substr(3));
  ReadUntil(client, "pong");
}

TEST_F(TlsSessionTest, WithoutADescriptorToSpareItStaysASession) {
  Configure(kPatient);
  // Once with descriptors: UBSan looks at each kind of object through a pipe, but only once.
  TlsClient client({}, Connect());
  Shake(client);
  Pass(5100);
  ASSERT_TRUE(Parked());
  client.Write(kRequest);
  ReadUntil(client, "pong");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // Lower than every descriptor that is free.
  const rlimit none{.rlim_cur = 3, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  Pass(5100);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_FALSE(Parked());
  client.received.clear();
  client.Write(kRequest);
  ReadUntil(client, "pong");
  Pass(5100);
  EXPECT_TRUE(Parked());
}

TEST_F(TlsSessionTest, AnOperatorEndsAParkedConnectionAsAnyOther) {
  Configure(kPatient);
  TlsClient client({}, Connect());
  Shake(client);
  Pass(5100);
  ASSERT_TRUE(Parked());
  std::uint64_t id = 0;
  sessions.parking().ForEach([&](const IdleConnection& idle) { id = idle.id; });
  EXPECT_TRUE(sessions.parking().Resume(id));
  sessions.ForEach([](Session& session) {
    EXPECT_EQ(session.ForceEnd(Error(ErrorKind::kCancelled, "ended by the operator")), 0U);
  });
  EXPECT_TRUE(Ended(client));
  client.Read();
  EXPECT_TRUE(client.ended) << "with a close_notify";
  client.fd.Reset();
  Turn();
  EXPECT_EQ(counters.Get(CounterId::kConnectionsActive), 0U);
}

TEST_F(TlsSessionTest, AParkedConnectionEndsWithACloseNotify) {
  Configure(kPatient);
  TlsClient timed({}, Connect());
  Shake(timed);
  Pass(5100);
  ASSERT_TRUE(Parked());
  Pass(60'000);
  Pass(10);
  EXPECT_TRUE(Ended(timed));
  timed.Read();
  EXPECT_TRUE(timed.ended);
  TlsClient stopped({}, Connect());
  Shake(stopped, 2);
  Pass(5100);
  ASSERT_TRUE(Parked());
  sessions.CloseAfterExchange();
  sessions.CloseIdle();
  Pass(2);
  EXPECT_TRUE(Ended(stopped));
  stopped.Read();
  EXPECT_TRUE(stopped.ended);
}

TEST_F(TlsSessionTest, AStopWaitsTwoSecondsForTheRequestAfterAHandshake) {
  Configure(kPatient);
  TlsClient quick({}, Connect());
  TlsClient silent({}, Connect());
  TlsClient mute({}, Connect());
  for (TlsClient* each : {&quick, &silent}) {
    each->Handshake();
    each->Carry();
  }
  Turn();
  sessions.CloseAfterExchange();
  sessions.CloseIdle();
  Shake(quick);
  Pass(1900);
  EXPECT_FALSE(Ended(mute)) << "its first octets may be on their way";
  quick.Write(kRequest);
  ReadUntil(quick, "pong");
  EXPECT_NE(quick.received.find("Connection: close\r\n"), std::string::npos);
  Shake(silent, 2);
  Pass(1900);
  EXPECT_TRUE(Ended(mute)) << "it has not even begun";
  EXPECT_FALSE(Ended(silent));
  Pass(200);
  EXPECT_TRUE(Ended(silent));
}

TEST_F(TlsSessionTest, AStopCountsFromTheEndOfTheHandshake) {
  Configure(kPatient);
  TlsClient far({}, Connect());
  TlsClient silent({}, Connect());
  for (TlsClient* each : {&far, &silent}) {
    each->Handshake();
    each->Carry();
  }
  Pass(2500);
  Shake(far);
  Shake(silent, 2);
  Pass(500);
  sessions.CloseAfterExchange();
  sessions.CloseIdle();
  Pass(1400);
  EXPECT_FALSE(Ended(far));
  far.Write(kRequest);
  ReadUntil(far, "pong");
  EXPECT_NE(far.received.find("Connection: close\r\n"), std::string::npos);
  EXPECT_FALSE(Ended(silent));
  Pass(200);
  EXPECT_TRUE(Ended(silent)) << "two seconds after its handshake, not after the stop";
}

}  // namespace
}  // namespace tidegate
