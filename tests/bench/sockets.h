#pragma once

// What the benchmark's own programs share: sockets on 127.0.0.1, epoll, and words on the command
// line. They depend on nothing, not even on Tidegate: what measures must not change with it.
// Whatever fails here ends the program, because a benchmark that goes on would measure something
// else.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

[[noreturn]] inline void Die(const char* doing) {
  std::fprintf(stderr, "%s: %s\n", doing, std::strerror(errno));
  std::exit(1);
}

// Every descriptor that the system lets us have.
inline void RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

inline sockaddr_in Loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

inline void SetNoDelay(int fd) {
  int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

// A listening socket on 127.0.0.1; accepted ones inherit TCP_NODELAY. Port 0: any free one.
inline int Listen(std::uint16_t port) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  SetNoDelay(fd);
  sockaddr_in address = Loopback(port);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(fd, 4096) != 0) {
    Die("listen on 127.0.0.1");
  }
  return fd;
}

inline unsigned PortOf(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

// A connection to 127.0.0.1 that does not block; on loopback connecting itself does not take long
// enough to be worth a state. -1 when it was refused.
inline int Connect(std::uint16_t port) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    Die("make a socket");
  }
  sockaddr_in address = Loopback(port);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    ::close(fd);
    return -1;
  }
  SetNoDelay(fd);
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

// The same without waiting: EPOLLOUT says that it is over, StateOfConnect() how. -1 when it failed
// at once.
inline int StartConnect(std::uint16_t port) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    Die("make a socket");
  }
  sockaddr_in address = Loopback(port);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 &&
      errno != EINPROGRESS) {
    ::close(fd);
    return -1;
  }
  SetNoDelay(fd);
  return fd;
}

enum class Connecting { kGoesOn, kDone, kFailed };

inline Connecting StateOfConnect(int fd) {
  int error = 0;
  socklen_t size = sizeof(error);
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
    return Connecting::kFailed;
  }
  sockaddr_in peer{};
  size = sizeof(peer);
  return ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 ? Connecting::kDone
                                                                           : Connecting::kGoesOn;
}

inline void Watch(int poll, int operation, int fd, std::uint32_t events, void* owner) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = owner;
  if (::epoll_ctl(poll, operation, fd, &event) != 0) {
    Die("watch a socket");
  }
}

inline unsigned long Number(const char* word) {
  char* end = nullptr;
  unsigned long value = std::strtoul(word, &end, 10);
  if (end == word || *end != '\0') {
    std::fprintf(stderr, "not a number: %s\n", word);
    std::exit(2);
  }
  return value;
}

}  // namespace bench
