// The floor: octets from one socket to another and back, without HTTP.
//
//   bench_relay UPSTREAM_PORT READ_BYTES
//
// One read and one write each way, one upstream connection for each client connection, one thread.
// Whatever speaks HTTP between two sockets costs at least this. Prints the port that it listens on.

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "sockets.h"

namespace bench {
namespace {

// One socket of a pair. What its other side could not take waits in `pending`, and meanwhile this
// side is not read.
struct Side {
  int fd = -1;
  Side* other = nullptr;
  std::string pending;  // read from `other`, not yet written here
  std::size_t written = 0;
  bool at_end = false;  // has sent its FIN
};

class Relay {
 public:
  Relay(std::uint16_t upstream_port, std::size_t read_bytes)
      : upstream_port_(upstream_port), buffer_(read_bytes), poll_(::epoll_create1(EPOLL_CLOEXEC)) {
    listener_.fd = Listen(0);
    Watch(poll_, EPOLL_CTL_ADD, listener_.fd, EPOLLIN, &listener_);
  }

  unsigned port() const { return PortOf(listener_.fd); }

  [[noreturn]] void Run() {
    epoll_event events[256];
    for (;;) {
      int count = ::epoll_wait(poll_, events, 256, -1);
      for (int i = 0; i < count; ++i) {
        Side& side = *static_cast<Side*>(events[i].data.ptr);
        if (&side == &listener_) {
          Accept();
        } else if (side.fd >= 0) {
          OnEvent(side, events[i].events);
        }
      }
      // Only now: events of this turn may still name them.
      for (Side* side : closed_) {
        delete side;
      }
      closed_.clear();
    }
  }

 private:
  void Accept() {
    int fd = -1;
    while ((fd = ::accept4(listener_.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
      int upstream = Connect(upstream_port_);
      if (upstream < 0) {
        ::close(fd);
        continue;
      }
      auto client = std::make_unique<Side>();
      auto server = std::make_unique<Side>();
      client->fd = fd;
      server->fd = upstream;
      client->other = server.get();
      server->other = client.get();
      Watch(poll_, EPOLL_CTL_ADD, fd, EPOLLIN, client.release());
      Watch(poll_, EPOLL_CTL_ADD, upstream, EPOLLIN, server.release());
    }
  }

  void OnEvent(Side& side, std::uint32_t events) {
    if ((events & EPOLLOUT) != 0 && !WritePending(side)) {
      return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && side.other->pending.empty()) {
      Move(side);
    }
  }

  // One read, one write; what the other side does not take waits for it.
  void Move(Side& from) {
    Side& to = *from.other;
    ssize_t size = ::read(from.fd, buffer_.data(), buffer_.size());
    if (size < 0) {
      if (errno != EAGAIN) {
        Close(from);
      }
      return;
    }
    if (size == 0) {
      from.at_end = true;
      ::shutdown(to.fd, SHUT_WR);
      if (to.at_end) {
        Close(from);
      } else {
        SetEvents(from);
      }
      return;
    }
    ssize_t taken = ::write(to.fd, buffer_.data(), static_cast<std::size_t>(size));
    if (taken < 0 && errno != EAGAIN) {
      Close(from);
      return;
    }
    auto done = static_cast<std::size_t>(taken < 0 ? 0 : taken);
    if (done < static_cast<std::size_t>(size)) {
      to.pending.assign(buffer_.data() + done, static_cast<std::size_t>(size) - done);
      to.written = 0;
      SetEvents(from);
      SetEvents(to);
    }
  }

  bool WritePending(Side& side) {
    ssize_t taken =
        ::write(side.fd, side.pending.data() + side.written, side.pending.size() - side.written);
    if (taken < 0) {
      if (errno != EAGAIN) {
        Close(side);
        return false;
      }
      return true;
    }
    side.written += static_cast<std::size_t>(taken);
    if (side.written == side.pending.size()) {
      side.pending.clear();
      SetEvents(side);
      SetEvents(*side.other);
    }
    return true;
  }

  void SetEvents(Side& side) {
    std::uint32_t events = 0;
    if (!side.at_end && side.other->pending.empty()) {
      events |= EPOLLIN;
    }
    if (!side.pending.empty()) {
      events |= EPOLLOUT;
    }
    Watch(poll_, EPOLL_CTL_MOD, side.fd, events, &side);
  }

  void Close(Side& side) {
    for (Side* one : {&side, side.other}) {
      ::close(one->fd);
      one->fd = -1;
      closed_.push_back(one);
    }
  }

  std::uint16_t upstream_port_;
  std::vector<char> buffer_;
  int poll_;
  Side listener_;
  std::vector<Side*> closed_;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: bench_relay UPSTREAM_PORT READ_BYTES\n", stderr);
    return 2;
  }
  bench::RaiseDescriptorLimit();
  std::signal(SIGPIPE, SIG_IGN);
  bench::Relay relay(static_cast<std::uint16_t>(bench::Number(argv[1])), bench::Number(argv[2]));
  std::printf("%u\n", relay.port());
  std::fflush(stdout);
  relay.Run();
}
