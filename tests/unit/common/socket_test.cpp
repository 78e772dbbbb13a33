#include "common/socket.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

struct Owner final : StreamOwner {
  void OnReadable() override { ++readable; }
  void OnWritten() override { ++written; }
  int readable = 0;
  int written = 0;
};

// A stream over one end of a socket pair; the test holds the other end.
class SocketStreamTest : public ::testing::Test {
 protected:
  SocketStreamTest() {
    std::signal(SIGPIPE, SIG_IGN);
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    peer.Reset(ends[1]);
    stream = SocketStream::Adopt(loop, pool, UniqueFd(ends[0]));
    stream->SetOwner(&owner);
  }
  ~SocketStreamTest() override { stream.reset(); }

  void TurnUntil(const std::function<bool()>& done) {
    for (int i = 0; i < 1000 && !done(); ++i) {
      loop.RunNoWait();
    }
    EXPECT_TRUE(done());
  }
  std::string Readable() {
    std::span<char> octets = stream->readable();
    return {octets.data(), octets.size()};
  }
  void Send(const std::string& text) {
    EXPECT_EQ(::write(peer.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  Loop loop;
  BufferPool pool;
  Owner owner;
  UniqueFd peer;
  std::unique_ptr<SocketStream> stream;
};

TEST_F(SocketStreamTest, ReadsAppendUntilConsumed) {
  Send("one");
  TurnUntil([&] { return Readable() == "one"; });
  Send("two");
  TurnUntil([&] { return Readable() == "onetwo"; });
  stream->Consume(4);
  EXPECT_EQ(Readable(), "wo");
  stream->Consume(2);
  EXPECT_TRUE(stream->readable().empty());
}

TEST_F(SocketStreamTest, AFullBufferStopsReadingAndConsumingResumesIt) {
  std::string block(8192, 'x');
  std::size_t sent = 0;
  ssize_t size = 0;
  while ((size = ::write(peer.get(), block.data(), block.size())) > 0) {
    sent += static_cast<std::size_t>(size);
  }
  for (int i = 0; i < 50; ++i) {
    loop.RunNoWait();
  }
  EXPECT_LE(stream->readable().size(), BytesOf(BufferSize::kSmall));
  std::size_t got = 0;
  TurnUntil([&] {
    got += stream->readable().size();
    stream->Consume(stream->readable().size());
    return got == sent;
  });
}

TEST_F(SocketStreamTest, TheEndIsSeenWhileNobodyAsks) {
  Send("last words");
  peer.Reset();
  TurnUntil([&] { return stream->read_state() == Stream::ReadState::kEnded; });
  EXPECT_EQ(Readable(), "last words");
}

TEST_F(SocketStreamTest, DetachLeavesTheConnectionToADuplicate) {
  TurnUntil([&] { return true; });
  UniqueFd fd = stream->Detach();
  ASSERT_TRUE(fd);
  for (int i = 0; i < 10; ++i) {
    loop.RunNoWait();
  }
  Send("hello");
  char octets[8];
  EXPECT_EQ(::read(fd.get(), octets, sizeof(octets)), 5);
  EXPECT_EQ(::write(fd.get(), "back", 4), 4);
  EXPECT_EQ(::read(peer.get(), octets, sizeof(octets)), 4);
  EXPECT_FALSE(stream->Detach()) << "once";
  stream.reset();
  stream = SocketStream::Adopt(loop, pool, std::move(fd));
  stream->SetOwner(&owner);
  Send("again");
  TurnUntil([&] { return Readable() == "again"; });
}

TEST_F(SocketStreamTest, DetachRefusesWhatIsNotInTheKernel) {
  Send("octets");
  TurnUntil([&] { return Readable() == "octets"; });
  EXPECT_FALSE(stream->Detach());
  stream->Consume(6);
  std::string big(4 << 20, 'y');
  uv_buf_t buffer = uv_buf_init(big.data(), static_cast<unsigned>(big.size()));
  ASSERT_EQ(stream->Write({&buffer, 1}), Stream::WriteStatus::kPending);
  EXPECT_FALSE(stream->Detach());
  peer.Reset();
  TurnUntil([&] { return stream->read_state() != Stream::ReadState::kOpen; });
  EXPECT_FALSE(stream->Detach());
}

TEST_F(SocketStreamTest, DuplicatesWhateverIsUnderWayAndGoesOnWithWhatWasRead) {
  Send("octets");
  TurnUntil([&] { return Readable() == "octets"; });
  UniqueFd fd = stream->Duplicate();
  ASSERT_TRUE(fd);
  std::string unread = Readable();
  stream->Close(false);
  EXPECT_EQ(Readable(), "octets") << "stays where it is";
  EXPECT_FALSE(stream->Duplicate());
  stream = SocketStream::Adopt(loop, pool, std::move(fd), unread);
  EXPECT_EQ(Readable(), "octets");
  stream->SetOwner(&owner);
  Send(" and more");
  TurnUntil([&] { return Readable() == "octets and more"; });
}

TEST_F(SocketStreamTest, GoesOnWithAsMuchAsTheLargestBufferHolds) {
  UniqueFd fd = stream->Duplicate();
  stream->Close(false);
  const std::string unread(SocketStream::kMostUnread, 'u');
  stream = SocketStream::Adopt(loop, pool, std::move(fd), unread);
  stream->SetOwner(&owner);
  Send("more");
  for (int i = 0; i < 50; ++i) {
    loop.RunNoWait();
  }
  EXPECT_EQ(Readable(), unread);
  stream->Consume(unread.size());
  TurnUntil([&] { return Readable() == "more"; });
}

TEST_F(SocketStreamTest, AWriteThatDoesNotFitGoesOnAndTellsItsProgress) {
  std::string big(4 << 20, 'y');
  uv_buf_t buffer = uv_buf_init(big.data(), static_cast<unsigned>(big.size()));
  ASSERT_EQ(stream->Write({&buffer, 1}), Stream::WriteStatus::kPending);
  std::size_t before = stream->unwritten();
  EXPECT_GT(before, 0U);
  std::size_t got = 0;
  std::string sink(65536, 0);
  TurnUntil([&] {
    ssize_t size = ::read(peer.get(), sink.data(), sink.size());
    got += size > 0 ? static_cast<std::size_t>(size) : 0;
    return got == big.size() && owner.written == 1;
  });
  EXPECT_EQ(stream->unwritten(), 0U);
  EXPECT_FALSE(stream->write_error().has_value());
}

TEST_F(SocketStreamTest, WritingToAPeerThatIsGoneFails) {
  peer.Reset();
  std::string text = "hello";
  uv_buf_t buffer = uv_buf_init(text.data(), 5);
  EXPECT_EQ(stream->Write({&buffer, 1}), Stream::WriteStatus::kFailed);
  ASSERT_TRUE(stream->write_error().has_value());
  EXPECT_EQ(stream->write_error()->kind(), ErrorKind::kClosed);
}

TEST_F(SocketStreamTest, CloseKeepsWhatWasReadAndWakesNobody) {
  Send("kept");
  TurnUntil([&] { return Readable() == "kept"; });
  int before = owner.readable;
  stream->Close(true);
  stream->Close(false);
  for (int i = 0; i < 5; ++i) {
    loop.RunNoWait();
  }
  EXPECT_EQ(Readable(), "kept");
  EXPECT_EQ(owner.readable, before);
  uv_buf_t buffer = uv_buf_init(nullptr, 0);
  EXPECT_EQ(stream->Write({&buffer, 1}), Stream::WriteStatus::kFailed);
}

TEST_F(SocketStreamTest, ShutdownEndsOneSideOnly) {
  stream->ShutdownWrite();
  stream->ShutdownWrite();
  char octet = 0;
  TurnUntil([&] { return ::read(peer.get(), &octet, 1) == 0; });
  Send("still");
  TurnUntil([&] { return Readable() == "still"; });
}

struct Flag {
  bool set = false;
  void Set() { set = true; }
};

TEST(SocketConnector, ReportsARefusedConnection) {
  Loop loop;
  BufferPool pool;
  // A port that was ours a moment ago and that nobody listens on.
  UniqueFd holder(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  ASSERT_EQ(::bind(holder.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::getsockname(holder.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  Flag done;
  SocketConnector connector(loop, pool, Bind<&Flag::Set>(&done));
  if (!connector.Start(reinterpret_cast<sockaddr*>(&address), length)) {
    while (!done.set) {
      loop.RunNoWait();
    }
  }
  auto stream = connector.Take();
  ASSERT_FALSE(stream.has_value());
  EXPECT_EQ(stream.error().system_errno(), ECONNREFUSED);
}

TEST(SocketConnector, ReportsAMissingUnixSocketAtOnce) {
  Loop loop;
  BufferPool pool;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string("/nonexistent/socket").copy(address.sun_path, sizeof(address.sun_path) - 1);
  SocketConnector connector(loop, pool, {});
  ASSERT_TRUE(connector.Start(reinterpret_cast<sockaddr*>(&address), sizeof(address)));
  auto stream = connector.Take();
  ASSERT_FALSE(stream.has_value());
  EXPECT_EQ(stream.error().system_errno(), ENOENT);
}

}  // namespace
}  // namespace tidegate
