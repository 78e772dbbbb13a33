// The origin of the benchmark: one thread on epoll, fast enough not to be what is measured.
//
//   bench_origin [LISTENERS]
//
// GET /N is answered with N octets. The body of any other request (Content-Length or chunked) is
// swallowed and answered with a few octets. A request with Upgrade gets 101, then its octets come
// back. Prints the ports that it listens on, one line.

#include <sys/uio.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sockets.h"

namespace bench {
namespace {

constexpr std::size_t kReadBytes = 256U * 1024U;
constexpr std::size_t kMostBytes = 16U * 1024U * 1024U;
// The answer to the key of RFC 6455 section 1.3, which the benchmark's client sends.
constexpr std::string_view kSwitching =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

enum class State { kHead, kBody, kChunkSize, kChunkData, kTrailers, kTunnel };

struct Connection {
  int fd = -1;
  bool is_listener = false;
  State state = State::kHead;
  bool close_after = false;
  bool waits_to_write = false;
  std::size_t left = 0;  // of the body, or of the chunk and the CRLF behind it
  std::string unread;    // the beginning of a head, chunk size or trailer
  std::string head;      // to write: first this, then `body_left` octets of the filler
  std::size_t body_left = 0;
};

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// The value of a field in `head`, or an empty view.
std::string_view Field(std::string_view head, std::string_view name) {
  std::size_t line = head.find("\r\n");
  while (line != std::string_view::npos && line + 2 < head.size()) {
    std::size_t start = line + 2;
    std::size_t end = head.find("\r\n", start);
    std::string_view text = head.substr(start, end - start);
    if (text.size() > name.size() && text[name.size()] == ':' &&
        EqualsIgnoringCase(text.substr(0, name.size()), name)) {
      std::string_view value = text.substr(name.size() + 1);
      value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
      return value;
    }
    line = end;
  }
  return {};
}

std::size_t Decimal(std::string_view text) {
  std::size_t value = 0;
  for (char digit : text) {
    if (digit < '0' || digit > '9') {
      break;
    }
    value = std::min(value * 10 + static_cast<std::size_t>(digit - '0'), kMostBytes * 1024);
  }
  return value;
}

class Origin {
 public:
  explicit Origin(unsigned long listeners)
      : poll_(::epoll_create1(EPOLL_CLOEXEC)), filler_(kMostBytes, 'x'), input_(kReadBytes) {
    for (unsigned long i = 0; i < listeners; ++i) {
      auto listener = std::make_unique<Connection>();
      listener->fd = Listen(0);
      listener->is_listener = true;
      std::printf("%s%u", i == 0 ? "" : " ", PortOf(listener->fd));
      Watch(poll_, EPOLL_CTL_ADD, listener->fd, EPOLLIN, listener.get());
      listeners_.push_back(std::move(listener));
    }
    std::puts("");
    std::fflush(stdout);
  }

  [[noreturn]] void Run() {
    epoll_event events[256];
    for (;;) {
      int count = ::epoll_wait(poll_, events, 256, -1);
      UpdateDate();
      for (int i = 0; i < count; ++i) {
        auto& connection = *static_cast<Connection*>(events[i].data.ptr);
        if (connection.is_listener) {
          Accept(connection.fd);
        } else if (!Serve(connection, events[i].events)) {
          ::close(connection.fd);
          delete &connection;
        }
      }
    }
  }

 private:
  void UpdateDate() {
    std::time_t now = std::time(nullptr);
    if (now != date_of_) {
      date_of_ = now;
      std::tm parts{};
      ::gmtime_r(&now, &parts);
      std::strftime(date_, sizeof(date_), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    }
  }

  void Accept(int listener) {
    int fd = -1;
    while ((fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
      auto connection = std::make_unique<Connection>();
      connection->fd = fd;
      Watch(poll_, EPOLL_CTL_ADD, fd, EPOLLIN, connection.release());
    }
  }

  // False: the connection is over.
  bool Serve(Connection& connection, std::uint32_t events) {
    if (connection.waits_to_write) {
      // Nothing is read until the answer is out.
      return (events & EPOLLOUT) == 0 ? (events & (EPOLLHUP | EPOLLERR)) == 0 : Write(connection);
    }
    ssize_t size = ::read(connection.fd, input_.data(), input_.size());
    if (size <= 0) {
      return size < 0 && errno == EAGAIN;
    }
    return Take(connection, {input_.data(), static_cast<std::size_t>(size)});
  }

  bool Take(Connection& connection, std::string_view input) {
    while (!input.empty()) {
      switch (connection.state) {
        case State::kHead: {
          if (!TakeUntil(connection, input, "\r\n\r\n")) {
            return true;
          }
          std::string head = std::move(connection.unread);
          connection.unread.clear();
          if (!OnHead(connection, head)) {
            return false;
          }
          break;
        }
        case State::kBody:
        case State::kChunkData: {
          std::size_t taken = std::min(connection.left, input.size());
          connection.left -= taken;
          input.remove_prefix(taken);
          if (connection.left > 0) {
            break;
          }
          if (connection.state == State::kChunkData) {
            connection.state = State::kChunkSize;
          } else if (!AnswerUpload(connection)) {
            return false;
          }
          break;
        }
        case State::kChunkSize:
          if (!TakeUntil(connection, input, "\r\n")) {
            return true;
          }
          connection.left = std::strtoul(connection.unread.c_str(), nullptr, 16);
          connection.state = connection.left == 0 ? State::kTrailers : State::kChunkData;
          connection.left += 2;
          connection.unread.clear();
          break;
        case State::kTrailers: {
          if (!TakeUntil(connection, input, "\r\n")) {
            return true;
          }
          bool is_last = connection.unread == "\r\n";
          connection.unread.clear();
          if (is_last && !AnswerUpload(connection)) {
            return false;
          }
          break;
        }
        case State::kTunnel:
          connection.head.append(input);
          return Write(connection);
      }
    }
    return true;
  }

  // Moves input into `unread` up to and with `end`; false: it has not come yet.
  static bool TakeUntil(Connection& connection, std::string_view& input, std::string_view end) {
    std::size_t searched = connection.unread.size();
    connection.unread.append(input);
    std::size_t found =
        connection.unread.find(end, searched < end.size() ? 0 : searched - end.size());
    if (found == std::string::npos) {
      input = {};
      return false;
    }
    std::size_t size = found + end.size();
    input.remove_prefix(size - searched);
    connection.unread.resize(size);
    return true;
  }

  bool OnHead(Connection& connection, std::string_view head) {
    if (!Field(head, "Upgrade").empty()) {
      connection.state = State::kTunnel;
      connection.head += kSwitching;
      return Write(connection);
    }
    connection.close_after = EqualsIgnoringCase(Field(head, "Connection"), "close");
    if (head.starts_with("GET /")) {
      return Answer(connection, Decimal(head.substr(5)));
    }
    if (EqualsIgnoringCase(Field(head, "Expect"), "100-continue")) {
      connection.head += "HTTP/1.1 100 Continue\r\n\r\n";
      if (!Write(connection)) {
        return false;
      }
    }
    if (EqualsIgnoringCase(Field(head, "Transfer-Encoding"), "chunked")) {
      connection.state = State::kChunkSize;
      return true;
    }
    connection.left = Decimal(Field(head, "Content-Length"));
    connection.state = State::kBody;
    return connection.left > 0 || AnswerUpload(connection);
  }

  bool AnswerUpload(Connection& connection) {
    connection.state = State::kHead;
    return Answer(connection, 3);
  }

  bool Answer(Connection& connection, std::size_t size) {
    char text[256];
    int length = std::snprintf(text, sizeof(text),
                               "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: %s\r\n"
                               "Content-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n",
                               date_, size, connection.close_after ? "Connection: close\r\n" : "");
    connection.head.append(text, static_cast<std::size_t>(length));
    connection.body_left = std::min(size, kMostBytes);
    return Write(connection);
  }

  bool Write(Connection& connection) {
    while (connection.head.size() + connection.body_left > 0) {
      iovec parts[2] = {{connection.head.data(), connection.head.size()},
                        {filler_.data(), connection.body_left}};
      ssize_t size = ::writev(connection.fd, parts, 2);
      if (size < 0) {
        if (errno != EAGAIN) {
          return false;
        }
        if (!connection.waits_to_write) {
          connection.waits_to_write = true;
          Watch(poll_, EPOLL_CTL_MOD, connection.fd, EPOLLOUT, &connection);
        }
        return true;
      }
      auto done = static_cast<std::size_t>(size);
      std::size_t of_head = std::min(done, connection.head.size());
      connection.head.erase(0, of_head);
      connection.body_left -= done - of_head;
    }
    if (connection.waits_to_write) {
      connection.waits_to_write = false;
      Watch(poll_, EPOLL_CTL_MOD, connection.fd, EPOLLIN, &connection);
    }
    return !connection.close_after || connection.state != State::kHead;
  }

  int poll_;
  std::string filler_;
  std::vector<char> input_;
  std::vector<std::unique_ptr<Connection>> listeners_;
  std::time_t date_of_ = 0;
  char date_[64] = {};
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  bench::RaiseDescriptorLimit();
  std::signal(SIGPIPE, SIG_IGN);
  bench::Origin origin(argc > 1 ? bench::Number(argv[1]) : 1);
  origin.Run();
}
