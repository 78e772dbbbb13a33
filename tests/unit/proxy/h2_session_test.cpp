#include "proxy/h2_session.h"

#include <string>

#include "tests/support/h2_frames.h"
#include "tests/support/proxy_rig.h"

namespace tidegate {
namespace {

constexpr const char* kPing =
    R"({"listen": ":0", "routes": [{"path": "/", "respond": {"status": 200, "body": "pong"}}],
        "timeouts": {"request_head": "15s", "keepalive": "55s", "write_idle": "10s"}})";
constexpr const char* kForward = R"({"listen": ":0", "upstream": "ORIGIN"})";

class H2SessionTest : public ProxyRig {
 protected:
  H2SessionTest() { speaks |= ClientInfo::SpeaksBit(Protocol::kH2c); }
  ~H2SessionTest() override {
    TurnUntil([&] {
      sessions.ForEach([](Session& session) { session.ForceEnd(Error(ErrorKind::kShutdown)); });
      client.Reset();
      return scope.count() == 0;
    });
    services.snapshot.reset();
  }
  void Open(std::string_view octets = {}) {
    client = Connect();
    Send(client, h2::Hello() + std::string(octets));
  }
  // What came until `done`.
  void Hear(const std::function<bool()>& done) {
    TurnUntil([&] {
      Hear();
      return done();
    });
  }
  void Hear() {
    char buffer[65536];
    ssize_t size = 0;
    while ((size = ::read(client.get(), buffer, sizeof(buffer))) > 0) {
      seen.Take({buffer, static_cast<std::size_t>(size)});
    }
    ended = ended || size == 0;
  }
  void Pass(TimePoint milliseconds) {
    loop.timers().Advance(loop.now() + milliseconds);
    Turn();
  }
  Session::State State() {
    Session::State state = Session::State::kParked;
    sessions.ForEach([&](Session& session) { state = session.state(); });
    return state;
  }
  std::size_t Goaways() { return seen.Of(0, h2::kGoaway).size(); }

  UniqueFd client;
  h2::Reader seen;
  bool ended = false;
};

TEST_F(H2SessionTest, APrefaceIsToldFromARequest) {
  Configure(kPing);
  Open(h2::Headers(1, h2::Get()));
  Hear([&] { return seen.Ended(1); });
  EXPECT_EQ(seen.Body(1), "pong");
  UniqueFd other = Connect();
  Send(other, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(ReceiveUntil(other, "pong").starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_EQ(counters.Get(CounterId::kH2Connections), 1U);
  EXPECT_EQ(counters.Get(CounterId::kH2Streams), 1U);
}

TEST_F(H2SessionTest, OctetByOctetToo) {
  Configure(kPing);
  client = Connect();
  for (const char octet : h2::Hello() + h2::Headers(1, h2::Get())) {
    Send(client, std::string_view(&octet, 1));
  }
  Hear([&] { return seen.Ended(1); });
  UniqueFd other = Connect();
  for (const char octet : std::string("PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n")) {
    Send(other, std::string_view(&octet, 1));
  }
  EXPECT_TRUE(ReceiveUntil(other, "pong").starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_F(H2SessionTest, BeginningsOfBothAreWaitedForAndTimedOut) {
  Configure(kPing);
  client = Connect();
  Send(client, "PR");
  EXPECT_EQ(State(), Session::State::kRequest);
  Pass(15'100);
  EXPECT_TRUE(ReceiveUntil(client, "\n").starts_with("HTTP/1.1 408 "));
}

TEST_F(H2SessionTest, AConnectionThatWasParkedBeforeItSaidAnythingMaySpeakEither) {
  Configure(kPing);
  client = Connect();
  Pass(5100);
  EXPECT_EQ(sessions.session_count(), 0U);
  Send(client, h2::Hello() + h2::Headers(1, h2::Get()));
  Hear([&] { return seen.Ended(1); });
  Pass(5100);
  EXPECT_EQ(sessions.session_count(), 1U) << "HTTP/2 is never parked";
}

TEST_F(H2SessionTest, AListenerMaySpeakOnlyOne) {
  Configure(kPing);
  speaks = ClientInfo::SpeaksBit(Protocol::kH2c);
  client = Connect();
  Send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  Hear([&] { return ended; });
  EXPECT_EQ(seen.Of(0, h2::kGoaway).at(0).code(), 1U);
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kH2Protocol)), 1U);
  speaks = ClientInfo::SpeaksBit(Protocol::kH1);
  UniqueFd other = Connect();
  Send(other, h2::Hello());
  EXPECT_TRUE(ReceiveUntil(other, "\n").starts_with("HTTP/1.1 "));
}

TEST_F(H2SessionTest, StreamsRunBesideEachOther) {
  Configure(kForward);
  Open(h2::Headers(1, h2::Get("/slow")) + h2::Headers(3, h2::Get("/quick")));
  UniqueFd slow = AcceptAtOrigin();
  UniqueFd quick = AcceptAtOrigin();
  ReceiveUntil(slow, "\r\n\r\n");
  EXPECT_TRUE(ReceiveUntil(quick, "\r\n\r\n").starts_with("GET /quick HTTP/1.1\r\n"));
  Send(quick, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  Hear([&] { return seen.Ended(3); });
  EXPECT_FALSE(seen.Ended(1));
  EXPECT_EQ(State(), Session::State::kResponse);
  Send(slow,
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n");
  Hear([&] { return seen.Ended(1); });
  EXPECT_EQ(seen.Of(1, h2::kHeaders).at(1).Value("x-sum"), "7");
  TurnUntil([&] { return State() == Session::State::kIdle; });
}

TEST_F(H2SessionTest, WhereDescriptorsAreShortAConnectionHasOneStreamAtATime) {
  Configure(kForward);
  services.most_h2_more_streams = 0;
  Open(h2::Headers(1, h2::Get("/first")) + h2::Headers(3, h2::Get("/more")));
  Hear([&] { return !seen.Of(3, h2::kRstStream).empty(); });
  EXPECT_EQ(seen.Of(3, h2::kRstStream)[0].code(), 7U) << "it may be tried again";
  UniqueFd first = AcceptAtOrigin();
  UniqueFd other = Connect();
  Send(other, h2::Hello() + h2::Headers(1, h2::Get("/other")));
  UniqueFd second = AcceptAtOrigin();
  EXPECT_TRUE(ReceiveUntil(second, "\r\n\r\n").starts_with("GET /other "));
}

TEST_F(H2SessionTest, ABrokenAnswerIsAReset) {
  Configure(kForward);
  Open(h2::Headers(1, h2::Get()));
  UniqueFd at_origin = AcceptAtOrigin();
  ReceiveUntil(at_origin, "\r\n\r\n");
  Send(at_origin, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
  at_origin.Reset();
  Hear([&] { return !seen.Of(1, h2::kRstStream).empty(); });
  EXPECT_EQ(seen.Of(1, h2::kRstStream)[0].code(), 2U);
  EXPECT_FALSE(seen.Ended(1));
}

// RFC 9112 section 8: whatever is missing, the client must not take what it has for all.
TEST_F(H2SessionTest, NoTruncationLooksWhole) {
  constexpr const char* kChunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
  struct Case {
    const char* what;
    std::string answer;
    bool breaks = false;
  };
  const std::vector<Case> cases = {
      {"no octet of the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
      {"all but the last octet", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234"},
      {"no chunk", std::string(kChunked) + "\r\n"},
      {"within the size of a chunk", std::string(kChunked) + "\r\n5"},
      {"within a chunk", std::string(kChunked) + "\r\n5\r\n1234"},
      {"before the end of a chunk", std::string(kChunked) + "\r\n5\r\n12345"},
      {"between chunks", std::string(kChunked) + "\r\n5\r\n12345\r\n"},
      {"before the end of the last chunk", std::string(kChunked) + "\r\n5\r\n12345\r\n0"},
      {"before the empty line", std::string(kChunked) + "\r\n5\r\n12345\r\n0\r\n"},
      {"within the trailers",
       std::string(kChunked) + "Trailer: X-Sum\r\n\r\n5\r\n12345\r\n0\r\nX-Sum: 1"},
      {"after the trailers",
       std::string(kChunked) + "Trailer: X-Sum\r\n\r\n5\r\n12345\r\n0\r\nX-Sum: 1\r\n"},
      {"a chunk that is none", std::string(kChunked) + "\r\n5\r\n12345\r\nx"},
      {"a reset of what only the end of the connection ends", "HTTP/1.1 200 OK\r\n\r\n12345", true},
  };
  Configure(kForward);
  Open();
  std::uint32_t stream = 1;
  for (const Case& each : cases) {
    for (const bool in_pieces : {false, true}) {
      SCOPED_TRACE(each.what);
      Send(client, h2::Headers(stream, h2::Get()));
      UniqueFd at_origin = AcceptAtOrigin();
      ReceiveUntil(at_origin, "\r\n\r\n");
      if (in_pieces) {
        for (const char& octet : each.answer) {
          Send(at_origin, std::string_view(&octet, 1));
        }
      } else {
        Send(at_origin, each.answer);
      }
      if (each.breaks) {
        Hear([&] { return !seen.Body(stream).empty(); });
        const linger at_once{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(at_origin.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
      }
      at_origin.Reset();
      Hear([&] { return !seen.Of(stream, h2::kRstStream).empty() || seen.Ended(stream); });
      EXPECT_FALSE(seen.Ended(stream) &&
                   seen.Of(stream, h2::kHeaders)[0].Value(":status") == "200");
      EXPECT_TRUE(!seen.Of(stream, h2::kRstStream).empty() ||
                  seen.Of(stream, h2::kHeaders)[0].Value(":status") == "502");
      stream += 2;
    }
  }
  EXPECT_EQ(Goaways(), 0U) << "others are not disturbed";
}

// What the client has no window for is lost with the rest.
TEST_F(H2SessionTest, ATruncationBehindAShutWindowIsAReset) {
  Configure(kForward);
  client = Connect();
  Send(client, h2::Hello(std::string("\0\4\0\0\0\3", 6)) + h2::Headers(1, h2::Get()));
  UniqueFd at_origin = AcceptAtOrigin();
  ReceiveUntil(at_origin, "\r\n\r\n");
  Send(at_origin, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n");
  Hear([&] { return seen.Body(1) == "123"; });
  at_origin.Reset();
  Turn();
  Send(client, h2::Window(1, 1000));
  Hear([&] { return !seen.Of(1, h2::kRstStream).empty(); });
  EXPECT_FALSE(seen.Ended(1));
}

TEST_F(H2SessionTest, AResetIsHeardByTheOriginAndARequestThatWasTakenBackNeverGetsThere) {
  Configure(kForward);
  Open(h2::Headers(1, h2::Get()));
  UniqueFd at_origin = AcceptAtOrigin();
  ReceiveUntil(at_origin, "\r\n\r\n");
  Send(client, h2::Reset(1));
  EXPECT_TRUE(Closed(at_origin));
  Send(client, h2::Headers(3, h2::Get()) + h2::Reset(3));
  EXPECT_TRUE(NobodyAtOrigin());
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kClientClosed)), 2U);
  EXPECT_EQ(counters.Get(CounterId::kH2StreamsReset), 2U);
}

TEST_F(H2SessionTest, AWebSocketIsAnUpgradeAtTheOrigin) {
  Configure(kForward);
  Open(h2::Headers(1,
                   {{":method", "CONNECT"},
                    {":protocol", "websocket"},
                    {":scheme", "http"},
                    {":path", "/chat"},
                    {":authority", "a"}},
                   0));
  UniqueFd at_origin = AcceptAtOrigin();
  const std::string request = ReceiveUntil(at_origin, "\r\n\r\n");
  EXPECT_TRUE(request.starts_with("GET /chat HTTP/1.1\r\n"));
  EXPECT_TRUE(request.contains("Connection: upgrade\r\nUpgrade: websocket\r\n")) << request;
  constexpr std::string_view kKey = "Sec-WebSocket-Key: ";
  const std::size_t key = request.find(kKey);
  ASSERT_NE(key, std::string::npos) << request;
  Send(at_origin,
       "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: "
       "websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n");
  Hear([&] { return seen.Ended(1); });
  EXPECT_EQ(seen.Of(1, h2::kHeaders).at(0).Value(":status"), "502");
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kUpstreamUpgradeFailed)), 1U);
}

// CVE-2025-8671: neither the status nor the reset, which says NO_ERROR, tells it.
TEST_F(H2SessionTest, BodiesThatBecomeTooLargeAreProvocations) {
  Configure(R"({"listen": ":0", "upstream": "ORIGIN", "limits": {"max_body": "4B"}})");
  Open();
  std::uint32_t id = 1;
  for (; Goaways() == 0 && id < 400; id += 2) {
    Send(client,
         h2::Headers(
             id, {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}},
             0));
    UniqueFd at_origin = AcceptAtOrigin();
    Send(client, h2::Data(id, "12345", false));
    Hear([&] { return seen.Ended(id) || Goaways() > 0; });
    if (seen.Ended(id)) {
      EXPECT_EQ(seen.Of(id, h2::kHeaders).at(0).Value(":status"), "413");
    }
  }
  EXPECT_EQ(seen.Of(0, h2::kGoaway).at(0).code(), 11U);
  EXPECT_GE(id, 200U) << "the burst";
  EXPECT_LT(id, 240U);
  TurnUntil([&] { return counters.Get(CounterOf(ErrorKind::kH2ProvokedResets)) == 1; });
}

TEST_F(H2SessionTest, ATooLongHeadHasItsStatus) {
  Configure(kPing);
  Open(h2::Headers(1, h2::Get("/" + std::string(16'384 - 100, 'a'))) +
       h2::Headers(
           3, {{":method", "BREW"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}));
  Hear([&] { return seen.Ended(3); });
  EXPECT_EQ(seen.Of(3, h2::kHeaders).at(0).Value(":status"), "501");
}

TEST_F(H2SessionTest, AStatusThatNobodyGotIsNotCounted) {
  Configure(kPing);
  Open(h2::Headers(1, {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}}));
  Hear([&] { return !seen.Of(1, h2::kRstStream).empty(); });
  TurnUntil([&] { return counters.Get(CounterId::kRequests) == 1; });
  EXPECT_EQ(counters.Get(CounterId::kResponses4xx), 0U);
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kBadRequest)), 1U);
}

TEST_F(H2SessionTest, AWebSocketToARouteOfOurOwnIsRefusedByAStatus) {
  Configure(kPing);
  Open(h2::Headers(1,
                   {{":method", "CONNECT"},
                    {":protocol", "websocket"},
                    {":scheme", "http"},
                    {":path", "/"},
                    {":authority", "a"}},
                   0));
  Hear([&] { return seen.Ended(1); });
  EXPECT_EQ(seen.Of(1, h2::kHeaders).at(0).Value(":status"), "501");
  EXPECT_EQ(counters.Get(CounterId::kResponses5xx), 1U);
}

TEST_F(H2SessionTest, StreamsBesideTheFirstAreCountedWhileTheyRun) {
  struct Listener {
    void OnChange() { ++changes; }
    unsigned changes = 0;
  } listener;
  services.on_more_streams = Bind<&Listener::OnChange>(&listener);
  Configure(kForward);
  Open(h2::Headers(1, h2::Get()));
  UniqueFd first = AcceptAtOrigin();
  EXPECT_EQ(services.h2_more_streams, 0U);
  EXPECT_EQ(listener.changes, 0U);
  Send(client, h2::Headers(3, h2::Get()) + h2::Headers(5, h2::Get()));
  EXPECT_EQ(services.h2_more_streams, 2U);
  EXPECT_EQ(listener.changes, 2U);
  Send(client, h2::Frame(h2::kRstStream, 0, 3, std::string("\0\0\0\x08", 4)));
  TurnUntil([&] { return services.h2_more_streams == 1; });
  EXPECT_EQ(listener.changes, 3U);
  client.Reset();
  TurnUntil([&] { return sessions.size() == 0; });
  EXPECT_EQ(services.h2_more_streams, 0U);
  services.on_more_streams = {};
}

TEST_F(H2SessionTest, SilenceIsEndedInTime) {
  Configure(kPing);
  client = Connect();
  Send(client, std::string(h2::kPreface).substr(0, 10));
  Pass(15'100);
  Hear([&] { return ended; });
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kH2PrefaceTimeout)), 1U);
}

// One time for both, though the first octets are waited for by who does not know yet what they are.
TEST_F(H2SessionTest, APrefaceDropByDropHasTheTimeOfOneHead) {
  Configure(kPing);
  client = Connect();
  Send(client, "P");
  Pass(10'000);
  Send(client, std::string(h2::kPreface).substr(1, 9));
  Hear();
  EXPECT_EQ(counters.Get(CounterId::kH2Connections), 1U);
  Pass(4900);
  Hear();
  EXPECT_FALSE(ended);
  Pass(200);
  Hear([&] { return ended; });
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kH2PrefaceTimeout)), 1U);
}

TEST_F(H2SessionTest, AnIdleConnectionIsEndedWithAGoaway) {
  Configure(kPing);
  Open(h2::Headers(1, h2::Get()));
  Hear([&] { return seen.Ended(1); });
  Pass(54'000);
  EXPECT_EQ(State(), Session::State::kIdle);
  Pass(2000);
  Hear([&] { return ended; });
  EXPECT_EQ(seen.Of(0, h2::kGoaway).at(0).code(), 0U);
  EXPECT_EQ(seen.Of(0, h2::kGoaway).at(0).NumberAt(0), 1U);
  EXPECT_EQ(State(), Session::State::kClosing);
  client.Reset();
  TurnUntil([&] { return sessions.size() == 0; });
}

TEST_F(H2SessionTest, TheLingerIsBounded) {
  Configure(kPing);
  Open();
  Pass(15'100);
  Hear([&] { return ended; });
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kKeepaliveTimeout)), 1U) << "it has asked nothing";
  Pass(2100);
  TurnUntil([&] { return sessions.size() == 0; });
}

TEST_F(H2SessionTest, TheEndOfTunnelsLeavesALingerAlone) {
  Configure(kPing);
  Open(h2::Headers(1, h2::Get()));
  Hear([&] { return seen.Ended(1); });
  sessions.CloseAfterExchange();
  Pass(2100);
  Hear([&] { return ended; });
  ASSERT_EQ(State(), Session::State::kClosing);
  const auto end = [&](Ending what) {
    sessions.ForEach([&](Session& session) {
      EXPECT_EQ(session.ForceEnd(Error(ErrorKind::kDrainDeadline), what), 0U);
    });
    Turn();
  };
  end(Ending::kTunnels);
  EXPECT_EQ(sessions.size(), 1U) << "what it sends now would be answered by a reset";
  end(Ending::kExchanges);
  EXPECT_EQ(sessions.size(), 0U);
}

TEST_F(H2SessionTest, AHeadHasItsTime) {
  Configure(kPing);
  Open(h2::Frame(h2::kHeaders, h2::kEndStream, 1, h2::Block(h2::Get()).substr(0, 10)));
  Pass(10'000);
  Send(client, h2::Frame(h2::kContinuation, 0, 1, h2::Block(h2::Get()).substr(10, 1)));
  Pass(5100);
  Hear([&] { return ended; });
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kRequestHeadTimeout)), 1U);
}

TEST_F(H2SessionTest, ADrainWaitsForThePingAndForTheStreams) {
  Configure(kForward);
  Open(h2::Headers(1, h2::Get()));
  UniqueFd at_origin = AcceptAtOrigin();
  ReceiveUntil(at_origin, "\r\n\r\n");
  sessions.CloseAfterExchange();
  Hear([&] { return Goaways() == 1 && !seen.Of(0, h2::kPing).empty(); });
  Send(client, h2::Frame(h2::kPing, h2::kAck, 0, seen.Of(0, h2::kPing)[0].payload));
  Hear([&] { return Goaways() == 2; });
  EXPECT_EQ(seen.Of(0, h2::kGoaway)[1].NumberAt(0), 1U);
  EXPECT_FALSE(ended);
  Send(at_origin, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  Hear([&] { return ended; });
  EXPECT_TRUE(seen.Ended(1));
}

TEST_F(H2SessionTest, ADrainDoesNotWaitForAPingForEver) {
  Configure(kPing);
  Open(h2::Headers(1, h2::Get()));
  Hear([&] { return seen.Ended(1); });
  sessions.CloseAfterExchange();
  Hear([&] { return Goaways() == 1; });
  Pass(2100);
  Hear([&] { return ended; });
  EXPECT_EQ(Goaways(), 2U);
}

TEST_F(H2SessionTest, ForceEndEndsTheStreamsVisibly) {
  Configure(kForward);
  Open(h2::Headers(1, h2::Get()));
  UniqueFd at_origin = AcceptAtOrigin();
  ReceiveUntil(at_origin, "\r\n\r\n");
  std::uint64_t cut = 0;
  sessions.ForEach([&](Session& session) {
    cut += session.ForceEnd(Error(ErrorKind::kDrainDeadline), Ending::kTunnels);
    EXPECT_EQ(cut, 0U);
    cut += session.ForceEnd(Error(ErrorKind::kDrainDeadline), Ending::kExchanges);
  });
  EXPECT_EQ(cut, 1U);
  Hear([&] { return ended; });
  EXPECT_EQ(seen.Of(1, h2::kRstStream).size(), 1U);
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kDrainDeadline)), 1U);
}

TEST_F(H2SessionTest, AFloodEndsTheConnectionAndIsCounted) {
  Configure(kPing);
  Open();
  std::string pings;
  for (int i = 0; i < 300; ++i) {
    pings += h2::Frame(h2::kPing, 0, 0, "01234567");
  }
  Send(client, pings);
  Hear([&] { return ended; });
  EXPECT_EQ(seen.Of(0, h2::kGoaway).at(0).code(), 11U);
  client.Reset();
  TurnUntil([&] { return sessions.size() == 0; });
  EXPECT_EQ(counters.Get(CounterOf(ErrorKind::kH2PingFlood)), 1U);
}

TEST_F(H2SessionTest, AClientThatTakesNothingIsEnded) {
  Configure(kForward);
  Open(h2::Headers(1, h2::Get()) + h2::Window(0, 1 << 30) + h2::Window(1, 1 << 30));
  UniqueFd at_origin = AcceptAtOrigin();
  ReceiveUntil(at_origin, "\r\n\r\n");
  std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
  answer.resize(8 << 20, 'x');
  std::size_t sent = 0;
  for (int i = 0; i < 200 && sent < answer.size(); ++i) {
    const ssize_t size = ::write(at_origin.get(), answer.data() + sent, answer.size() - sent);
    sent += size > 0 ? static_cast<std::size_t>(size) : 0;
    Turn();
  }
  EXPECT_LT(sent, answer.size()) << "it is held back";
  for (int i = 0; i < 5; ++i) {
    Pass(31'000);
  }
  TurnUntil([&] { return sessions.size() == 0; });
  EXPECT_GE(counters.Get(CounterOf(ErrorKind::kWriteIdleTimeout)), 1U);
}

}  // namespace
}  // namespace tidegate
