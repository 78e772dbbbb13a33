#include "common/control.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <filesystem>

#include <gtest/gtest.h>

#include "common/control_wire.h"

namespace tidegate {
namespace {

using nlohmann::json;

struct Listener final : ControlChannel::Handler {
  void OnControlMessage(ControlChannel&, ControlMessage message) override {
    messages.push_back(std::move(message));
    if (messages.size() == stop_after) {
      loop.Stop();
    }
  }
  void OnControlClosed(ControlChannel&, const Error& reason) override {
    closed = reason.kind();
    loop.Stop();
  }
  explicit Listener(Loop& the_loop) : loop(the_loop) {}

  Loop& loop;
  std::vector<ControlMessage> messages;
  std::optional<ErrorKind> closed;
  std::size_t stop_after = 1;
};

TEST(Control, CarriesAnObjectAndDescriptors) {
  auto pair = MakeControlPair();
  ASSERT_TRUE(pair);
  auto memfd = MakeMemfd("test", "inside");
  ASSERT_TRUE(memfd);
  json body = MakeControlMessage("greeting");
  body["text"] = "hello";
  int fds[] = {memfd->get()};
  ASSERT_TRUE(SendControl(pair->first.get(), body, fds, std::chrono::seconds(1)));
  auto message = ReceiveControl(pair->second.get(), std::chrono::seconds(1));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->type(), "greeting");
  EXPECT_EQ(TextOf(message->body, "text"), "hello");
  ASSERT_EQ(message->fds.size(), 1U);
  EXPECT_EQ(ReadMemfd(message->fds[0].get()).value(), "inside");
  EXPECT_NE(::fcntl(message->fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(Control, ALongMessageTravelsAsAMemoryFile) {
  auto pair = MakeControlPair();
  json body = MakeControlMessage("long");
  body["text"] = std::string(3 * kControlInlineBytes, 'x');
  ASSERT_TRUE(SendControl(pair->first.get(), body, {}, std::chrono::seconds(1)));
  auto message = ReceiveControl(pair->second.get(), std::chrono::seconds(1));
  ASSERT_TRUE(message);
  EXPECT_EQ(TextOf(message->body, "text").size(), 3 * kControlInlineBytes);
  EXPECT_TRUE(message->fds.empty());
}

TEST(Control, CarriesTheMostDescriptorsOfOneMessage) {
  auto pair = MakeControlPair();
  std::vector<int> fds(kControlMaxFds - 1, 0);
  ASSERT_TRUE(
      SendControl(pair->first.get(), MakeControlMessage("many"), fds, std::chrono::seconds(1)));
  auto message = ReceiveControl(pair->second.get(), std::chrono::seconds(1));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->fds.size(), fds.size());
}

TEST(Control, RefusesWhatIsNotAMessage) {
  for (const char* text : {"", "[]", "{}", "{\"type\":\"x\"}", "{\"v\":2,\"type\":\"x\",\"fds\":0}",
                           "{\"v\":1,\"type\":\"x\",\"fds\":1}",
                           "{\"v\":1,\"type\":\"x\",\"fds\":0,\"memfd\":true}", "{\"v\":1,"}) {
    auto pair = MakeControlPair();
    ASSERT_TRUE(TrySendRecord(pair->first.get(), text, {}));
    auto message = TryReceiveControl(pair->second.get());
    EXPECT_FALSE(message) << text;
  }
}

TEST(Control, RefusesADescriptorThatWasNotAnnounced) {
  auto pair = MakeControlPair();
  int fds[] = {0};
  ASSERT_TRUE(TrySendRecord(pair->first.get(), R"({"v":1,"type":"x","fds":0})", fds));
  EXPECT_EQ(TryReceiveControl(pair->second.get()).error().kind(), ErrorKind::kProtocol);
}

TEST(Control, RefusesAPayloadThatCanStillChange) {
  auto pair = MakeControlPair();
  UniqueFd memfd(::memfd_create("open", MFD_CLOEXEC));
  int fds[] = {memfd.get()};
  ASSERT_TRUE(TrySendRecord(pair->first.get(), R"({"v":1,"type":"x","fds":1,"memfd":true})", fds));
  EXPECT_EQ(TryReceiveControl(pair->second.get()).error().kind(), ErrorKind::kProtocol);
}

TEST(Control, IgnoresUnknownFields) {
  auto pair = MakeControlPair();
  ASSERT_TRUE(TrySendRecord(pair->first.get(), R"({"v":1,"type":"x","fds":0,"later":[1,{}]})", {}));
  EXPECT_TRUE(TryReceiveControl(pair->second.get()));
}

TEST(Control, WaitingHasALimit) {
  auto pair = MakeControlPair();
  auto message = ReceiveControl(pair->second.get(), Duration(20));
  ASSERT_FALSE(message);
  EXPECT_EQ(message.error().kind(), ErrorKind::kTimeout);
}

TEST(Control, ADeadSocketRefusesAndAPathThatIsTakenIsNotRemoved) {
  std::string path = testing::TempDir() + "tidegate-control-test.sock";
  std::filesystem::remove(path);
  EXPECT_EQ(ConnectControl(path, Duration(10)).error().system_errno(), ENOENT);
  {
    auto listener = ListenControl(path, 0660);
    ASSERT_TRUE(listener);
    EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0660));
    EXPECT_TRUE(ConnectControl(path, Duration(10)));
    EXPECT_EQ(ListenControl(path, 0660).error().system_errno(), EADDRINUSE);
  }
  EXPECT_EQ(ConnectControl(path, Duration(10)).error().system_errno(), ECONNREFUSED);
  std::filesystem::remove(path);
}

TEST(ControlChannel, DeliversInOrderAndThenTheEnd) {
  Loop loop;
  Listener listener(loop);
  listener.stop_after = 0;
  auto pair = MakeControlPair();
  {
    ControlChannel channel(loop, std::move(pair->second), listener);
    for (int i = 0; i < 5; ++i) {
      json body = MakeControlMessage("n");
      body["i"] = i;
      ASSERT_TRUE(SendControl(pair->first.get(), body, {}, Duration(10)));
    }
    pair->first.Reset();
    loop.Run();
  }
  ASSERT_EQ(listener.messages.size(), 5U);
  EXPECT_EQ(listener.messages[4].body["i"], 4);
  EXPECT_EQ(listener.closed, ErrorKind::kClosed);
  loop.RunUntilClosed();
}

TEST(ControlChannel, WhatAPeerSaidBeforeItClosedIsStillRead) {
  Loop loop;
  Listener listener(loop);
  listener.stop_after = 0;
  auto pair = MakeControlPair();
  ControlChannel channel(loop, std::move(pair->second), listener);
  ASSERT_TRUE(SendControl(pair->first.get(), MakeControlMessage("rejected"), {}, Duration(10)));
  channel.Send(MakeControlMessage("never_read"));
  pair->first.Reset();
  channel.Send(MakeControlMessage("too_late"));
  loop.Run();
  ASSERT_EQ(listener.messages.size(), 1U);
  EXPECT_EQ(listener.closed, ErrorKind::kClosed);
  loop.RunUntilClosed();
}

TEST(ControlChannel, Invariant1APeerThatDoesNotReadIsDisconnected) {
  Loop loop;
  Listener listener(loop);
  auto pair = MakeControlPair();
  ControlChannel channel(loop, std::move(pair->second), listener);
  json body = MakeControlMessage("flood");
  body["text"] = std::string(30000, 'x');
  for (int i = 0; i < 2000; ++i) {
    channel.Send(body);
  }
  loop.Run();
  EXPECT_EQ(listener.closed, ErrorKind::kTimeout);
  loop.RunUntilClosed();
}

TEST(ControlChannel, WhatWaitsIsSentWhenThePeerReads) {
  Loop loop;
  Listener listener(loop);
  listener.stop_after = 100;
  Listener sender(loop);
  auto pair = MakeControlPair();
  ControlChannel from(loop, std::move(pair->first), sender);
  json body = MakeControlMessage("bulk");
  body["text"] = std::string(30000, 'x');
  auto memfd = MakeMemfd("test", "inside");
  int fds[] = {memfd->get()};
  for (int i = 0; i < 100; ++i) {
    from.Send(body, fds);
  }
  EXPECT_FALSE(from.is_flushed());
  memfd->Reset();
  ControlChannel to(loop, std::move(pair->second), listener);
  loop.Run();
  ASSERT_EQ(listener.messages.size(), 100U);
  EXPECT_EQ(ReadMemfd(listener.messages[99].fds[0].get()).value(), "inside");
  from.Close();
  to.Close();
  loop.RunUntilClosed();
}

}  // namespace
}  // namespace tidegate
