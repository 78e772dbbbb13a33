#include "proxy/http/h1_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/socket.h"
#include "tests/support/played_stream.h"

namespace tidegate {
namespace {

// The far end of a socket pair is the test's; the near end is a connection.
class H1ConnectionTest : public ::testing::Test {
 protected:
  H1ConnectionTest() {
    std::signal(SIGPIPE, SIG_IGN);
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    peer.Reset(ends[1]);
    near = SocketStream::Adopt(loop, pool, UniqueFd(ends[0]));
  }

  void Turn() {
    for (int i = 0; i < 20; ++i) {
      loop.RunNoWait();
    }
  }
  void Send(std::string_view text) {
    EXPECT_EQ(::write(peer.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    Turn();
  }
  std::string Received() {
    std::string out;
    char buffer[4096];
    ssize_t size = 0;
    while ((size = ::read(peer.get(), buffer, sizeof(buffer))) > 0) {
      out.append(buffer, static_cast<std::size_t>(size));
    }
    return out;
  }

  Loop loop;
  BufferPool pool;
  UniqueFd peer;
  std::unique_ptr<Stream> near;
  DecoderLimits limits;
  std::vector<std::string> events;
};

class H1ServerTest : public H1ConnectionTest {
 protected:
  // Answers every request with its own body, until the connection has enough.
  Task<void> Echo() {
    bool going_on = true;
    while (going_on) {
      co_await connection->WaitForOctets();
      if (!connection->has_octets()) {
        events.push_back("closed");
        co_return;
      }
      RequestHead request;
      connection->BeginRequest(request, limits);
      auto head = co_await connection->ReadHead();
      if (!head) {
        events.push_back(std::string(RowOf(head.error().kind()).log_name));
        co_return;
      }
      std::string body;
      bool last = request.body == BodyKind::kNone;
      while (!last) {
        auto chunk = co_await connection->ReadBody();
        if (!chunk) {
          events.push_back("body " + std::string(RowOf(chunk.error().kind()).log_name));
          co_return;
        }
        body.append(chunk->data.data(), chunk->data.size());
        last = chunk->last;
      }
      events.push_back(std::string(request.target) + " " + body);
      ResponseHead response;
      response.status = 200;
      response.reason = "OK";
      response.body = answer_kind;
      response.content_length = body.size();
      auto written = co_await connection->WriteHead(response, body, true);
      EXPECT_TRUE(written.has_value());
      going_on = connection->reusable();
      connection->EndRequest();
    }
    events.push_back("done");
  }

  void Start() {
    connection = std::make_unique<H1ServerConnection>(std::move(near), limits);
    scope.Start(Echo());
    Turn();
  }
  void Finish() {
    peer.Reset();
    Turn();
    EXPECT_EQ(scope.count(), 0U);
  }

  BodyKind answer_kind = BodyKind::kLength;
  std::unique_ptr<H1ServerConnection> connection;
  TaskScope scope;
};

TEST_F(H1ServerTest, AnswersPipelinedRequestsInOrder) {
  Start();
  Send(
      "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: "
      "2\r\n\r\nhiGET /c "
      "HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(events, (std::vector<std::string>{"/a ", "/b hi", "/c "}));
  EXPECT_EQ(
      Received(),
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  Finish();
}

TEST_F(H1ServerTest, ReadsChunksThatComeOctetByOctet) {
  Start();
  for (char octet : std::string("POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")) {
    Send(std::string(1, octet));
  }
  EXPECT_EQ(events, std::vector<std::string>{"/up abcde"});
  Finish();
}

TEST_F(H1ServerTest, AnAnswerOfUnknownLengthIsChunkedForHttp11AndEndsTheConnectionForHttp10) {
  answer_kind = BodyKind::kUntilClose;
  Start();
  Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_EQ(Received(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
  Send("POST / HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi");
  EXPECT_EQ(Received(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi");
  EXPECT_EQ(events.back(), "done");
  Finish();
}

TEST_F(H1ServerTest, KeepsTheConnectionOfAnHttp10ClientThatAsksForIt) {
  Start();
  Send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(Received(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
  Send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(events.back(), "done");
  Finish();
}

TEST_F(H1ServerTest, ABodyThatIsCutShortIsAnError) {
  Start();
  Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
  Finish();
  EXPECT_EQ(events, std::vector<std::string>{"body client_closed"});
}

TEST_F(H1ServerTest, CloseWhenQuietLetsPipelinedRequestsGoFirst) {
  Start();
  connection->CloseWhenQuiet();
  Send("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(Received(),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(events.back(), "done");
  Finish();
}

TEST_F(H1ServerTest, InterruptReadEndsTheWaitButNotTheWriting) {
  Start();
  Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
  connection->InterruptRead(Error(ErrorKind::kBodyIdleTimeout));
  Turn();
  EXPECT_EQ(events, std::vector<std::string>{"body body_idle_timeout"});
  EXPECT_FALSE(connection->aborted());
  Finish();
}

TEST_F(H1ServerTest, AbortEndsEverythingAndIsIdempotent) {
  Start();
  connection->Abort(Error(ErrorKind::kDrainDeadline));
  connection->Abort(Error(ErrorKind::kInternal));
  Turn();
  EXPECT_EQ(events, std::vector<std::string>{"closed"});
  Finish();
}

class H1ClientTest : public H1ConnectionTest {
 protected:
  Task<void> Get() {
    connection->BeginExchange(response);
    RequestHead request;
    request.method = Method::kGet;
    request.method_name = "GET";
    request.target = "/x";
    request.authority = "origin";
    auto writing = connection->WriteHead(request, {}, true);
    auto sent = co_await writing;
    EXPECT_TRUE(sent.has_value());
    while (true) {
      auto head = co_await connection->ReadHead();
      if (!head) {
        events.push_back(std::string(RowOf(head.error().kind()).log_name));
        co_return;
      }
      events.push_back(std::to_string(response.status));
      if (!response.IsInterim()) {
        break;
      }
    }
    while (true) {
      auto chunk = co_await connection->ReadBody();
      if (!chunk) {
        events.push_back(std::string(RowOf(chunk.error().kind()).log_name));
        break;
      }
      if (!chunk->data.empty()) {
        events.emplace_back(chunk->data.data(), chunk->data.size());
      }
      if (chunk->last) {
        events.push_back("end");
        break;
      }
    }
    events.push_back(connection->reusable() ? "reusable" : "not reusable");
  }

  void Start() {
    connection = std::make_unique<H1ClientConnection>(std::move(near), limits);
    scope.Start(Get());
    Turn();
  }

  ResponseHead response;
  std::unique_ptr<H1ClientConnection> connection;
  TaskScope scope;
};

TEST_F(H1ClientTest, SkipsInterimHeadsAndKeepsTheConnection) {
  Start();
  EXPECT_EQ(Received(), "GET /x HTTP/1.1\r\nHost: origin\r\n\r\n");
  Send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  EXPECT_EQ(events, (std::vector<std::string>{"103", "200", "ok", "end", "reusable"}));
}

TEST_F(H1ClientTest, TheAnswerMayBeAwaitedBeforeTheRequestIsWritten) {
  connection = std::make_unique<H1ClientConnection>(std::move(near), limits);
  connection->BeginExchange(response);
  auto read = [this]() -> Task<void> {
    auto head = co_await connection->ReadHead();
    events.push_back(head ? std::to_string(response.status) : "failed");
  };
  scope.Start(read());
  // From an origin that does not wait for its turn.
  Send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(events, std::vector<std::string>{});
  RequestHead request;
  request.method_name = "POST";
  request.target = "/";
  auto write = [&]() -> Task<void> {
    auto writing = connection->WriteHead(request, {}, true);
    auto written = co_await writing;
    EXPECT_TRUE(written.has_value());
  };
  scope.Start(write());
  Turn();
  EXPECT_EQ(events, std::vector<std::string>{"408"});
}

TEST_F(H1ClientTest, OctetsAfterTheAnswerMakeItUseless) {
  Start();
  Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!");
  EXPECT_EQ(events, (std::vector<std::string>{"200", "ok", "end", "not reusable"}));
}

TEST_F(H1ClientTest, ABodyThatEndsWithTheConnection) {
  Start();
  Send("HTTP/1.1 200 OK\r\n\r\nall of it");
  // Closing with unread octets would be a reset.
  Received();
  peer.Reset();
  Turn();
  EXPECT_EQ(events, (std::vector<std::string>{"200", "all of it", "end", "not reusable"}));
}

TEST_F(H1ClientTest, ACutBodyIsTruncated) {
  Start();
  Send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
  peer.Reset();
  Turn();
  EXPECT_EQ(events,
            (std::vector<std::string>{"200", "part", "upstream_truncated", "not reusable"}));
}

TEST_F(H1ClientTest, AnEndBeforeTheFirstOctetIsNoAnswer) {
  Start();
  Received();
  peer.Reset();
  Turn();
  EXPECT_EQ(events, std::vector<std::string>{"upstream_closed"});
  EXPECT_FALSE(connection->answer_begun());
}

TEST_F(H1ClientTest, WhereTheEndIsAllThatSaysSoItMustBeTheServers) {
  for (const char* head :
       {"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"}) {
    events.clear();
    auto below = std::make_unique<PlayedStream>();
    PlayedStream& played = *below;
    near = std::move(below);
    Start();
    played.Come(std::string(head) + "half");
    Turn();
    bool to_the_end = std::string_view(head).find("Length") == std::string_view::npos;
    EXPECT_EQ(played.needs_close_notify, to_the_end);
    played.why = Error(ErrorKind::kClosed, "cut");
    played.End(Stream::ReadState::kFailed);
    Turn();
    EXPECT_EQ(events,
              (std::vector<std::string>{"200", "half", "upstream_truncated", "not reusable"}));
  }
}

TEST_F(H1ClientTest, WhatAServerSaysByAnAlertIsTheReason) {
  auto below = std::make_unique<PlayedStream>();
  PlayedStream& played = *below;
  near = std::move(below);
  Start();
  played.why = Error(ErrorKind::kUpstreamTlsAlert, "certificate required");
  played.End(Stream::ReadState::kFailed);
  Turn();
  EXPECT_EQ(events, std::vector<std::string>{"upstream_tls_alert"});
}

struct Flag {
  int calls = 0;
  void Set() { ++calls; }
};

TEST_F(H1ClientTest, AnIdleConnectionTellsOfOctets) {
  Start();
  Send("HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(events.back(), "reusable");
  Flag flag;
  connection->SetIdle(Bind<&Flag::Set>(&flag));
  Send("HTTP/1.1 408 Request Timeout\r\n\r\n");
  EXPECT_EQ(flag.calls, 1);
}

}  // namespace
}  // namespace tidegate
