#include "proxy/write_watch.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

// A stream whose write is as far as the test says.
class SlowStream final : public MessageStream {
 public:
  Stream::WriteStatus status = Stream::WriteStatus::kPending;
  std::size_t left = 100;

  void Finish() { writer_.Wake(); }
  bool waiting() const { return writer_.waiting(); }

  void InterruptRead(Error) override {}
  void CancelRead() override {}
  void Abort(Error) noexcept override {}
  std::size_t unwritten() const override { return left; }
  std::uint64_t octets_in() const override { return 0; }
  std::uint64_t octets_out() const override { return 0; }
  void BecomeTunnel() override {}

 private:
  bool PollBody() override { return false; }
  Result<BodyChunk> TakeBody() override { return BodyChunk{}; }
  Stream::WriteStatus StartBody(std::span<const char>, bool, const Fields*) override {
    return status;
  }
  Result<> TakeWrite() override { return {}; }
};

class WriteWatchTest : public ::testing::Test {
 protected:
  void OnStall() {
    ++stalls;
    stream.Finish();
  }
  Task<void> Write() {
    auto writing = stream.WriteBody({}, true);
    auto written = co_await watch.Wait(writing, Duration(100));
    done = written.has_value();
  }
  void Start() {
    scope.Start(Write());
    ReadyQueue::Drain();
  }
  void At(TimePoint now) {
    wheel.Advance(now);
    ReadyQueue::Drain();
  }

  TimerWheel wheel{0};
  SlowStream stream;
  int stalls = 0;
  bool done = false;
  WriteWatch watch{wheel, Bind<&WriteWatchTest::OnStall>(this)};
  TaskScope scope;
};

TEST_F(WriteWatchTest, WhatIsWrittenAtOnceArmsNothing) {
  stream.status = Stream::WriteStatus::kDone;
  Start();
  EXPECT_TRUE(done);
  EXPECT_EQ(wheel.NextTick(), TimerWheel::kNothing);
}

TEST_F(WriteWatchTest, APeerThatTakesNothingStalls) {
  Start();
  At(99);
  EXPECT_EQ(stalls, 0);
  At(300);
  EXPECT_EQ(stalls, 1);
  EXPECT_TRUE(done);
}

TEST_F(WriteWatchTest, APeerThatTakesAnOctetAnIntervalIsWaitedFor) {
  Start();
  for (TimePoint now = 150; now < 1500; now += 150) {
    --stream.left;
    At(now);
    EXPECT_EQ(stalls, 0) << now;
  }
  At(2000);
  EXPECT_EQ(stalls, 1);
}

TEST_F(WriteWatchTest, NothingFiresAfterTheWrite) {
  Start();
  stream.Finish();
  ReadyQueue::Drain();
  At(1000);
  EXPECT_TRUE(done);
  EXPECT_EQ(stalls, 0);
}

}  // namespace
}  // namespace tidegate
