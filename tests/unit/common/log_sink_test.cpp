#include "common/log_sink.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>

#include <gtest/gtest.h>
#include <uv.h>

namespace tidegate {
namespace {

// A loop, and a folder for files.
class LogSinkTest : public testing::Test {
 public:
  ~LogSinkTest() override {
    for (std::string_view name : {"a", "b"}) {
      ::unlink(PathOf(name).c_str());
    }
    ::rmdir(folder_.c_str());
    loop_.RunUntilClosed();
  }

 protected:
  LogSinkTest() {
    // As the processes do: a closed pipe is an error of write, not the end.
    std::signal(SIGPIPE, SIG_IGN);
    folder_ = testing::TempDir() + "log_sink_XXXXXX";
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
  }

  std::string PathOf(std::string_view name) const { return folder_ + "/" + std::string(name); }
  UniqueFd OpenFile(std::string_view name) const {
    return UniqueFd(::open(PathOf(name).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  }
  std::string ContentOf(std::string_view name) const {
    UniqueFd fd(::open(PathOf(name).c_str(), O_RDONLY | O_CLOEXEC));
    std::string content;
    char buffer[4096];
    for (ssize_t size = 0; (size = ::read(fd.get(), buffer, sizeof(buffer))) > 0;) {
      content.append(buffer, static_cast<std::size_t>(size));
    }
    return content;
  }

  // Turns the loop until `done`, at most 10 s. False: it never was.
  bool TurnUntil(const std::function<bool()>& done) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    // Keeps the loop turning while nothing but deadlines is there.
    uv_timer_t tick;
    uv_timer_init(loop_.uv(), &tick);
    uv_timer_start(&tick, [](uv_timer_t*) {}, 1, 1);
    bool is_done = done();
    while (!is_done && std::chrono::steady_clock::now() < deadline) {
      uv_run(loop_.uv(), UV_RUN_ONCE);
      is_done = done();
    }
    uv_close(reinterpret_cast<uv_handle_t*>(&tick), nullptr);
    uv_run(loop_.uv(), UV_RUN_NOWAIT);
    return is_done;
  }

  Loop loop_;
  std::string folder_;
};

struct Pipe {
  UniqueFd reader;
  UniqueFd writer;
};

// Holds few octets and blocks its writer when it is full; never blocks its reader.
Pipe SmallPipe() {
  int fds[2];
  EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  EXPECT_GT(::fcntl(fds[1], F_SETPIPE_SZ, 4096), 0);
  EXPECT_EQ(::fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// The octets read; 0 if nothing is there.
std::size_t ReadSome(const UniqueFd& fd) {
  char buffer[65536];
  ssize_t size = ::read(fd.get(), buffer, sizeof(buffer));
  return size > 0 ? static_cast<std::size_t>(size) : 0;
}

bool IsAtEnd(const UniqueFd& fd) {
  char octet = 0;
  return ::read(fd.get(), &octet, 1) == 0;
}

TEST_F(LogSinkTest, WritesAfterTheFlushInterval) {
  LogSink sink(loop_, OpenFile("a"), "test log");
  TimePoint start = uv_hrtime() / 1000000;
  EXPECT_TRUE(sink.Append("one\n"));
  EXPECT_TRUE(sink.Append("two\n"));
  EXPECT_EQ(sink.buffered(), 8u);
  EXPECT_EQ(ContentOf("a"), "");
  EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
  EXPECT_EQ(ContentOf("a"), "one\ntwo\n");
  EXPECT_GE(uv_hrtime() / 1000000 - start, 150u);

  EXPECT_TRUE(sink.Append("three\n"));
  EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
  EXPECT_EQ(ContentOf("a"), "one\ntwo\nthree\n");
}

TEST_F(LogSinkTest, WritesAtOnceWhenThereIsEnoughOrWhenTold) {
  LogSink sink(loop_, OpenFile("a"), "test log");
  sink.Append("urgent\n");
  sink.Flush();
  EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
  std::string line(1023, 'x');
  line += '\n';
  for (std::size_t i = 0; i < LogSink::kFlushBytes / line.size(); ++i) {
    sink.Append(line);
  }
  // Not by the deadline, which cannot fire here: the clock of the loop stands still.
  EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
  EXPECT_EQ(ContentOf("a").size(), 7 + LogSink::kFlushBytes);
}

TEST_F(LogSinkTest, Invariant1DropsAndCountsWhatThereIsNoRoomFor) {
  Pipe pipe = SmallPipe();
  testing::internal::CaptureStderr();
  LogSink sink(loop_, std::move(pipe.writer), "test log");
  std::string line(1023, 'x');
  line += '\n';
  std::uint64_t refused = 0;
  for (int i = 0; i < 3000; ++i) {
    refused += sink.Append(line) ? 0 : 1;
    EXPECT_LE(sink.buffered(), LogSink::kCapacity);
  }
  EXPECT_EQ(refused, 3000 - LogSink::kCapacity / line.size());
  EXPECT_EQ(sink.dropped(), refused);

  std::size_t read = 0;
  EXPECT_TRUE(TurnUntil([&] {
    read += ReadSome(pipe.reader);
    return sink.buffered() == 0;
  }));
  // The pipe is empty but for what the last write left.
  EXPECT_GE(read + 4096, LogSink::kCapacity);
  EXPECT_TRUE(sink.Append("again\n"));
  sink.Flush();
  EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
  std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("test log: lines are dropped: it is too slow\n"), std::string::npos) << said;
  EXPECT_NE(said.find("test log: writing again; 1976 lines were dropped\n"), std::string::npos)
      << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2) << said;
}

TEST_F(LogSinkTest, Invariant1NeverWaitsForASlowReader) {
  Pipe pipe = SmallPipe();
  LogSink sink(loop_, std::move(pipe.writer), "test log");
  sink.Append(std::string(100000, 'x') + "\n");
  sink.Flush();
  auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    sink.Append("more\n");
    uv_run(loop_.uv(), UV_RUN_NOWAIT);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_TRUE(TurnUntil([&] {
    ReadSome(pipe.reader);
    return sink.buffered() == 0;
  }));
}

TEST_F(LogSinkTest, Invariant2KeepsTheOrderWhenTheFileIsReplaced) {
  LogSink sink(loop_, OpenFile("a"), "test log");
  sink.Append("old 1\n");
  sink.Flush();
  sink.Append("old 2\n");
  sink.Replace(OpenFile("b"));
  sink.Append("new 1\n");
  EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
  EXPECT_EQ(ContentOf("a"), "old 1\nold 2\n");
  EXPECT_EQ(ContentOf("b"), "new 1\n");
}

TEST_F(LogSinkTest, Invariant2ClosesTheOldFile) {
  Pipe first = SmallPipe();
  Pipe second = SmallPipe();
  Pipe third = SmallPipe();
  LogSink sink(loop_, std::move(first.writer), "test log");
  sink.Append("1\n");
  sink.Replace(std::move(second.writer));
  sink.Replace(std::move(third.writer));
  sink.Append("3\n");
  EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
  EXPECT_EQ(ReadSome(first.reader), 2u);
  EXPECT_TRUE(IsAtEnd(first.reader));
  EXPECT_TRUE(IsAtEnd(second.reader));
  EXPECT_EQ(ReadSome(third.reader), 2u);
}

TEST_F(LogSinkTest, Invariant3SaysOnceThatTheDiskIsFull) {
  testing::internal::CaptureStderr();
  LogSink sink(loop_, UniqueFd(::open("/dev/full", O_WRONLY | O_CLOEXEC)), "test log");
  for (int i = 0; i < 3; ++i) {
    sink.Append("lost\nlost\n");
    sink.Flush();
    EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
  }
  EXPECT_EQ(sink.dropped(), 6u);
  sink.Replace(OpenFile("a"));
  sink.Append("kept\n");
  sink.Flush();
  EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
  EXPECT_EQ(ContentOf("a"), "kept\n");
  std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("error "), std::string::npos) << said;
  EXPECT_NE(said.find(": test log: lines are dropped: No space left on device\n"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find(": test log: writing again; 6 lines were dropped\n"), std::string::npos)
      << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2) << said;
}

// While it lives, no file grows over `octets`: like a disk that is full from there on.
class FileLimit {
 public:
  explicit FileLimit(rlim_t octets) {
    std::signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before_), 0);
    rlimit limit{.rlim_cur = octets, .rlim_max = before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;
  ~FileLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(LogSinkTest, Invariant3CountsALineOnceAlsoIfAPartOfItIsInTheFile) {
  testing::internal::CaptureStderr();
  Counters counters;
  const std::string line = std::string(999, 'x') + "\n";
  LogSink sink(loop_, OpenFile("a"), "test log");
  sink.CountDropsIn(counters);
  {
    FileLimit limit(4500);
    // Four whole lines and a half; then nothing at all, twice.
    for (int lines : {6, 1, 1}) {
      for (int i = 0; i < lines; ++i) {
        sink.Append(line);
      }
      sink.Flush();
      EXPECT_TRUE(TurnUntil([&] { return sink.buffered() == 0; }));
    }
  }
  EXPECT_EQ(sink.dropped(), 4u);
  sink.Append("kept\n");
  sink.FlushNow();
  EXPECT_EQ(ContentOf("a"), line + line + line + line + std::string(500, 'x') + "\nkept\n");
  EXPECT_EQ(sink.dropped(), 4u);
  EXPECT_EQ(counters.Get(CounterId::kLogLinesDropped), 4u);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("writing again; 4 lines were dropped\n"),
            std::string::npos);
}

TEST_F(LogSinkTest, CountsWhatItRefusesInTheCounterToo) {
  Pipe pipe = SmallPipe();
  testing::internal::CaptureStderr();
  Counters counters;
  LogSink sink(loop_, std::move(pipe.writer), "test log");
  sink.CountDropsIn(counters);
  EXPECT_TRUE(sink.Append(std::string(LogSink::kCapacity - 1, 'x') + "\n"));
  EXPECT_FALSE(sink.Append("1\n2\n"));
  EXPECT_EQ(counters.Get(CounterId::kLogLinesDropped), 2u);
  EXPECT_TRUE(TurnUntil([&] {
    ReadSome(pipe.reader);
    return sink.buffered() == 0;
  }));
  EXPECT_EQ(counters.Get(CounterId::kLogLinesDropped), 2u);
  testing::internal::GetCapturedStderr();
}

TEST_F(LogSinkTest, FlushNowWritesEverythingWithoutTheLoop) {
  LogSink sink(loop_, OpenFile("a"), "test log");
  sink.Append("1\n");
  sink.Flush();
  sink.Append("2\n");
  sink.Replace(OpenFile("b"));
  sink.Append("3\n");
  sink.FlushNow();
  EXPECT_EQ(sink.buffered(), 0u);
  EXPECT_EQ(ContentOf("a"), "1\n2\n");
  EXPECT_EQ(ContentOf("b"), "3\n");
  sink.Append("4\n");
  sink.FlushNow();
  EXPECT_EQ(ContentOf("b"), "3\n4\n");
}

TEST_F(LogSinkTest, WritesWhatIsLeftWhenItEnds) {
  {
    LogSink sink(loop_, OpenFile("a"), "test log");
    sink.Append("1\n");
    sink.Flush();
    sink.Append("2\n");
  }
  EXPECT_EQ(ContentOf("a"), "1\n2\n");
}

TEST_F(LogSinkTest, LeavesAHangingWriteBehind) {
  Pipe pipe = SmallPipe();
  {
    LogSink sink(loop_, std::move(pipe.writer), "test log");
    sink.Append(std::string(100000, 'x') + "\n");
    sink.Flush();
    // So that a thread has it.
    pollfd readable{.fd = pipe.reader.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&readable, 1, 10000), 1);
  }
  // The thread has the descriptor still; when the reader goes, it ends.
  pipe.reader.Reset();
  loop_.RunUntilClosed();
}

}  // namespace
}  // namespace tidegate
