#include "proxy/http/h2_stream.h"

#include <gtest/gtest.h>

#include "proxy/http/h2_websocket.h"
#include "tests/support/h2_rig.h"

namespace tidegate {
namespace {

using H2StreamTest = H2Rig;
using Outcomes = std::vector<std::string>;

TEST_F(H2StreamTest, ABodyIsReadAsItComes) {
  Begin(h2::Headers(1, h2::Get(), 0));
  H2ServerStream& stream = StreamAt(0);
  EXPECT_FALSE(stream.request_complete());
  EXPECT_FALSE(stream.HasBodyNow());
  scope.Start(Read(stream));
  Come(h2::Data(1, "ab", false) + h2::Data(1, "cd", false));
  EXPECT_EQ(TakeOutcomes(), Outcomes{"abcd"});
  Come(h2::Data(1, "e"));
  EXPECT_TRUE(stream.HasBodyNow());
  scope.Start(Read(stream));
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"e|"});
  EXPECT_TRUE(stream.request_complete());
}

TEST_F(H2StreamTest, TheEndMayComeAlone) {
  Begin(h2::Headers(1, h2::Get(), 0) + h2::Data(1, "ab", false));
  scope.Start(Read(StreamAt(0)));
  Turn();
  scope.Start(Read(StreamAt(0)));
  Turn();
  Come(h2::Data(1, ""));
  EXPECT_EQ(TakeOutcomes(), (Outcomes{"ab", "|"}));
}

TEST_F(H2StreamTest, ReadingCanBeInterruptedAndCancelled) {
  Begin(h2::Headers(1, h2::Get(), 0));
  scope.Start(Read(StreamAt(0)));
  Turn();
  StreamAt(0).CancelRead();
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"cancelled"});
  scope.Start(Read(StreamAt(0)));
  Turn();
  StreamAt(0).InterruptRead(Error(ErrorKind::kBodyIdleTimeout));
  Come(h2::Data(1, "x"));
  scope.Start(Read(StreamAt(0)));
  Turn();
  EXPECT_EQ(TakeOutcomes(), (Outcomes{"body_idle_timeout", "body_idle_timeout"}));
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "late", true));
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"ok"}) << "writing goes on";
}

TEST_F(H2StreamTest, AnAbortIsAReset) {
  Begin(h2::Headers(1, h2::Get()));
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "half", false));
  Turn();
  StreamAt(0).Abort(Error(ErrorKind::kUpstreamTruncated));
  StreamAt(0).Abort(Error(ErrorKind::kInternal));
  scope.Start(Write(StreamAt(0), "more", true));
  Turn();
  EXPECT_EQ(TakeOutcomes(), (Outcomes{"ok", "upstream_truncated"})) << "the first error stays";
  EXPECT_FALSE(client.Ended(1));
  EXPECT_EQ(client.Body(1), "half");
  ASSERT_EQ(client.Of(1, h2::kRstStream).size(), 1U);
  EXPECT_EQ(client.Of(1, h2::kRstStream)[0].code(), 2U);
  EXPECT_FALSE(StreamAt(0).client_reset());
}

TEST_F(H2StreamTest, AnAbortInTheMiddleOfAWriteEndsIt) {
  Begin(h2::Headers(1, h2::Get()));
  const std::string body(100'000, 'x');
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), body, true));
  Turn();
  EXPECT_TRUE(TakeOutcomes().empty()) << "the window is 65,535";
  EXPECT_EQ(client.Body(1).size(), 65'535U);
  StreamAt(0).Abort(Error(ErrorKind::kWriteIdleTimeout));
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"write_idle_timeout"});
  EXPECT_EQ(client.Of(1, h2::kRstStream).at(0).code(), 8U);
  Come(h2::Window(1, 100'000) + h2::Window(0, 100'000));
  EXPECT_EQ(client.Body(1).size(), 65'535U);
}

TEST_F(H2StreamTest, AWriteGetsOnWithTheWindow) {
  Begin(h2::Headers(1, h2::Get()));
  const std::string body(100'000, 'x');
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), body, true));
  Turn();
  const std::size_t before = StreamAt(0).unwritten();
  EXPECT_EQ(StreamAt(0).unwritten(), before) << "no progress";
  Come(h2::Window(0, 10) + h2::Window(1, 10));
  EXPECT_LT(StreamAt(0).unwritten(), before);
  Come(h2::Window(0, 100'000) + h2::Window(1, 100'000));
  EXPECT_EQ(TakeOutcomes(), Outcomes{"ok"});
  EXPECT_EQ(client.Body(1), body);
  EXPECT_TRUE(client.Ended(1));
}

TEST_F(H2StreamTest, WhoWaitsForTheOthersMakesProgressWithThem) {
  Begin(h2::Headers(1, h2::Get()) + h2::Headers(3, h2::Get()) + h2::Window(0, 1 << 20) +
        h2::Window(1, 1 << 20));
  played->takes_nothing = true;
  const std::string body(500'000, 'x');
  std::vector<ResponseHead> heads(2);
  scope.Start(Answer(StreamAt(0), Ok(heads[0]), body, true));
  Turn();
  scope.Start(Answer(StreamAt(1), Ok(heads[1]), "x", true));
  Turn();
  const std::size_t before = StreamAt(1).unwritten();
  EXPECT_EQ(StreamAt(1).unwritten(), before);
  played->TakePending();
  EXPECT_LT(StreamAt(1).unwritten(), before);
  TakeAll();
  EXPECT_TRUE(client.Ended(3));
}

TEST_F(H2StreamTest, InterimHeadsAndTrailersArePassedOn) {
  Begin(h2::Headers(1, h2::Get()));
  ResponseHead early;
  early.status = 103;
  early.fields.Add("Link", "</a>");
  auto passing = StreamAt(0).WriteInterim(early);
  EXPECT_FALSE(passing.await_ready());
  Turn();
  EXPECT_TRUE(passing.await_resume());
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "a", false));
  Turn();
  Fields trailers;
  trailers.Add("Grpc-Status", "0");
  scope.Start(Write(StreamAt(0), "b", true, &trailers));
  Turn();
  EXPECT_EQ(TakeOutcomes(), (Outcomes{"ok", "ok"}));
  const auto heads = client.Of(1, h2::kHeaders);
  ASSERT_EQ(heads.size(), 3U);
  EXPECT_EQ(heads[0].Value(":status"), "103");
  EXPECT_EQ(heads[0].Value("link"), "</a>");
  EXPECT_FALSE(heads[0].ends());
  EXPECT_EQ(heads[1].Value(":status"), "200");
  EXPECT_EQ(heads[2].Value("grpc-status"), "0");
  EXPECT_TRUE(heads[2].ends());
  EXPECT_EQ(client.Body(1), "ab");
}

TEST_F(H2StreamTest, TrailersOfAnEmptyBody) {
  Begin(h2::Headers(1, h2::Get()));
  ResponseHead head;
  head.trailers.Add("Grpc-Status", "5");
  scope.Start(Answer(StreamAt(0), Ok(head), "", true));
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"ok"});
  EXPECT_EQ(client.Of(1, h2::kHeaders).at(1).Value("grpc-status"), "5");
  EXPECT_TRUE(client.Ended(1));
}

TEST_F(H2StreamTest, AHeadWithoutABodyEndsTheStream) {
  Begin(h2::Headers(1, h2::Get()));
  ResponseHead head;
  head.status = 204;
  scope.Start(Answer(StreamAt(0), head, "", true));
  Turn();
  ASSERT_EQ(client.Of(1, h2::kHeaders).size(), 1U);
  EXPECT_TRUE(client.Of(1, h2::kHeaders)[0].ends());
  EXPECT_TRUE(client.Of(1, h2::kData).empty());
}

TEST_F(H2StreamTest, AHeadThatWaitsForItsBodyIsSent) {
  Begin(h2::Headers(1, h2::Get()));
  ResponseHead head;
  scope.Start(Answer(StreamAt(0), Ok(head), "", false));
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"ok"});
  EXPECT_EQ(client.Of(1, h2::kHeaders).size(), 1U);
  scope.Start(Write(StreamAt(0), "later", true));
  Turn();
  EXPECT_EQ(client.Body(1), "later");
  EXPECT_TRUE(client.Ended(1));
}

// WebSocket over HTTP/2 (RFC 8441).
class H2WebSocketTest : public H2Rig {
 protected:
  H2WebSocketTest() {
    Begin(h2::Headers(1,
                      {{":method", "CONNECT"},
                       {":protocol", "websocket"},
                       {":scheme", "https"},
                       {":path", "/chat"},
                       {":authority", "a"}},
                      0));
  }
  std::string Accept() {
    return WebSocketAcceptOf(requests.at(0).head->fields.Find("sec-websocket-key")->value);
  }
};

TEST_F(H2WebSocketTest, AnAcceptedUpgradeIsATunnel) {
  EXPECT_EQ(requests.at(0).head->upgrade, "websocket");
  const std::string accept = Accept();
  ResponseHead head;
  head.status = 101;
  head.fields.Add("Sec-WebSocket-Accept", accept);
  head.fields.Add("Sec-WebSocket-Protocol", "chat");
  scope.Start(Answer(StreamAt(0), head, "", true));
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"ok"});
  const auto answer = client.Of(1, h2::kHeaders).at(0);
  EXPECT_EQ(answer.Value(":status"), "200");
  EXPECT_EQ(answer.Value("sec-websocket-protocol"), "chat");
  EXPECT_EQ(answer.Value("sec-websocket-accept"), "(none)");
  EXPECT_FALSE(answer.ends());
  StreamAt(0).BecomeTunnel();
  scope.Start(Write(StreamAt(0), "down", false));
  Turn();
  scope.Start(Read(StreamAt(0)));
  Come(h2::Data(1, "up", false));
  EXPECT_EQ(client.Body(1), "down");
  scope.Start(Read(StreamAt(0)));
  Come(h2::Data(1, ""));
  EXPECT_EQ(TakeOutcomes(), (Outcomes{"ok", "up", "|"}));
  EXPECT_FALSE(client.Ended(1)) << "half closed";
  scope.Start(Write(StreamAt(0), "", true));
  Turn();
  EXPECT_TRUE(client.Ended(1));
  requests.clear();
  Turn();
  EXPECT_TRUE(client.Of(1, h2::kRstStream).empty());
}

TEST_F(H2WebSocketTest, AWrongProofOrASuccessWithoutTheUpgradeIsNotPassedOn) {
  ResponseHead head;
  head.status = 101;
  head.fields.Add("Sec-WebSocket-Accept", "wrong");
  scope.Start(Answer(StreamAt(0), head, "", true));
  Turn();
  ResponseHead other;
  scope.Start(Answer(StreamAt(0), Ok(other), "x", true));
  Turn();
  EXPECT_EQ(TakeOutcomes(), (Outcomes{"upstream_upgrade_failed", "upstream_upgrade_failed"}));
  EXPECT_TRUE(client.Of(1, h2::kHeaders).empty());
  ResponseHead failure;
  failure.status = 502;
  failure.body = BodyKind::kLength;
  scope.Start(Answer(StreamAt(0), failure, "", true));
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"ok"});
  EXPECT_EQ(client.Of(1, h2::kHeaders).at(0).Value(":status"), "502");
}

TEST_F(H2StreamTest, A101ThatNobodyAskedForIsRefused) {
  Begin(h2::Headers(1, h2::Get()));
  ResponseHead head;
  head.status = 101;
  scope.Start(Answer(StreamAt(0), head, "", true));
  Turn();
  EXPECT_EQ(TakeOutcomes(), Outcomes{"internal"});
}

}  // namespace
}  // namespace tidegate
