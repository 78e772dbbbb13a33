// Load that wrk cannot make; one thread on epoll. Each step of it is told on a line of standard
// output, and what has "(waits)" here goes on at a line of standard input.
//
//   bench_client requests PORT CONNECTIONS COUNT PATH keep|close
//       one request on each connection, "ready" (waits), then exactly COUNT requests
//   bench_client idle PORT COUNT PATH
//       COUNT connections, "open" (waits), one request on each, "asked" (waits); failed are those
//       that are no longer open then
//   bench_client echo PORT CONNECTIONS SECONDS OCTETS
//       tunnels by Upgrade; on each one piece of OCTETS goes out when the last has come back
//
// The last line is one JSON object: requests, failed, octets, seconds, and percentiles of the time
// that one took, in microseconds.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <string>
#include <string_view>
#include <vector>

#include "sockets.h"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kUpgrade =
    "GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

struct Connection {
  int fd = -1;
  bool in_tunnel = false;
  bool waits = false;    // for an answer
  std::string head;      // of the answer, until it is whole
  std::size_t left = 0;  // octets of the body, or of the echo, that have not come
  Clock::time_point begun;
};

enum class Answer { kPartial, kWhole, kFailed };

class Client {
 public:
  explicit Client(std::uint16_t port)
      : port_(port), poll_(::epoll_create1(EPOLL_CLOEXEC)), input_(256U * 1024U) {}

  void Requests(std::size_t connections, std::size_t count, const std::string& path, bool keep) {
    request_ = Get(path, keep);
    Open(connections);
    AskEach(connections);
    Step("ready");
    Start();
    if (keep) {
      Repeat(count, &Client::Ask);
    } else {
      Repeat(count, &Client::AskAnew);
    }
    Report();
  }

  void Idle(std::size_t count, const std::string& path) {
    request_ = Get(path, true);
    Open(count);
    Step("open");
    AskEach(64);
    Step("asked");
    Start();
    for (const Connection& connection : connections_) {
      char octet = 0;
      if (::recv(connection.fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN) {
        ++failed_;
      }
    }
    Report();
  }

  void Echo(std::size_t connections, std::size_t seconds, std::size_t octets) {
    request_ = kUpgrade;
    piece_.assign(octets, 'e');
    Open(connections);
    AskEach(connections);
    for (Connection& connection : connections_) {
      connection.in_tunnel = true;
    }
    Start();
    until_ = begun_ + std::chrono::seconds(seconds);
    Repeat(~std::size_t{0}, &Client::SendPiece);
    Report();
  }

 private:
  using Begin = bool (Client::*)(Connection&);

  static std::string Get(const std::string& path, bool keep) {
    return "GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" +
           (keep ? "" : "Connection: close\r\n") + "\r\n";
  }

  // Says where we are and waits for a line.
  static void Step(const char* name) {
    std::puts(name);
    std::fflush(stdout);
    int octet = 0;
    while ((octet = std::getchar()) != '\n' && octet != EOF) {
    }
  }

  void Start() {
    micros_.clear();
    failed_before_ = failed_;
    octets_ = 0;
    begun_ = Clock::now();
  }

  void Open(std::size_t count) {
    connections_.resize(count);
    for (Connection& connection : connections_) {
      OpenOne(connection);
    }
  }

  void OpenOne(Connection& connection) {
    connection.fd = Connect(port_);
    if (connection.fd < 0) {
      ++failed_;
    } else {
      Watch(poll_, EPOLL_CTL_ADD, connection.fd, EPOLLIN, &connection);
    }
  }

  // One request on every connection, `at_once` of them at a time. A connection that closes behind
  // its answer is left closed.
  void AskEach(std::size_t at_once) {
    std::size_t next = 0;
    std::size_t running = 0;
    auto begin = [&] {
      while (running < at_once && next < connections_.size()) {
        if (Ask(connections_[next++])) {
          ++running;
        }
      }
    };
    begin();
    auto ended = [&](Connection&) {
      --running;
      begin();
    };
    while (running > 0 && WaitForAnswers(ended)) {
    }
  }

  // `count` rounds over all connections, each beginning its next as soon as its last is over.
  void Repeat(std::size_t count, Begin begin) {
    std::size_t started = 0;
    std::size_t running = 0;
    auto next = [&](Connection& connection) {
      while (started < count && (until_ == Clock::time_point{} || Clock::now() < until_)) {
        ++started;
        if ((this->*begin)(connection)) {
          ++running;
          return;
        }
      }
    };
    for (Connection& connection : connections_) {
      next(connection);
    }
    auto ended = [&](Connection& connection) {
      --running;
      next(connection);
    };
    while (running > 0 && WaitForAnswers(ended)) {
    }
    failed_ += running;
  }

  bool Ask(Connection& connection) { return Send(connection, request_); }

  bool AskAnew(Connection& connection) {
    Close(connection);
    OpenOne(connection);
    return Send(connection, request_);
  }

  bool SendPiece(Connection& connection) {
    connection.left = piece_.size();
    return Send(connection, piece_);
  }

  // What is sent is small: a socket that does not take it at once has failed.
  bool Send(Connection& connection, std::string_view text) {
    connection.begun = Clock::now();
    if (connection.fd >= 0 && ::send(connection.fd, text.data(), text.size(), MSG_NOSIGNAL) ==
                                  static_cast<ssize_t>(text.size())) {
      connection.waits = true;
      return true;
    }
    ++failed_;
    Close(connection);
    return false;
  }

  static void Close(Connection& connection) {
    if (connection.fd >= 0) {
      ::close(connection.fd);
    }
    connection.fd = -1;
    connection.waits = false;
    connection.head.clear();
    connection.left = 0;
  }

  // One turn of the loop. False: nothing came for 10 s.
  template <class Ended>
  bool WaitForAnswers(Ended ended) {
    epoll_event events[256];
    int count = ::epoll_wait(poll_, events, 256, 10'000);
    for (int i = 0; i < count; ++i) {
      auto& connection = *static_cast<Connection*>(events[i].data.ptr);
      if (!connection.waits) {
        Close(connection);
        continue;
      }
      Answer answer = Read(connection);
      if (answer == Answer::kPartial) {
        continue;
      }
      connection.waits = false;
      if (answer == Answer::kFailed) {
        ++failed_;
        Close(connection);
      } else {
        auto took =
            std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - connection.begun);
        micros_.push_back(static_cast<std::uint32_t>(took.count()));
      }
      ended(connection);
    }
    return count > 0;
  }

  Answer Read(Connection& connection) {
    ssize_t size = ::read(connection.fd, input_.data(), input_.size());
    if (size <= 0) {
      return size < 0 && errno == EAGAIN ? Answer::kPartial : Answer::kFailed;
    }
    auto count = static_cast<std::size_t>(size);
    octets_ += count;
    if (connection.in_tunnel || connection.left > 0) {
      return Count(connection, count);
    }
    connection.head.append(input_.data(), count);
    std::size_t end = connection.head.find("\r\n\r\n");
    if (end == std::string::npos) {
      return Answer::kPartial;
    }
    std::string_view head(connection.head.data(), end);
    if (head.starts_with("HTTP/1.1 101 ")) {
      connection.head.clear();
      return Answer::kWhole;
    }
    std::size_t field = FindField(head, "\r\ncontent-length:");
    if (!head.starts_with("HTTP/1.1 200 ") || field == std::string_view::npos) {
      return Answer::kFailed;
    }
    connection.left = std::strtoul(head.data() + field, nullptr, 10);
    std::size_t of_body = connection.head.size() - end - 4;
    connection.head.clear();
    return Count(connection, of_body);
  }

  static Answer Count(Connection& connection, std::size_t count) {
    if (count > connection.left) {
      return Answer::kFailed;
    }
    connection.left -= count;
    return connection.left == 0 ? Answer::kWhole : Answer::kPartial;
  }

  // Where the value begins.
  static std::size_t FindField(std::string_view head, std::string_view name) {
    auto found = std::search(head.begin(), head.end(), name.begin(), name.end(),
                             [](char a, char b) { return (a | 0x20) == (b | 0x20); });
    return found == head.end() ? std::string_view::npos
                               : static_cast<std::size_t>(found - head.begin()) + name.size();
  }

  void Report() {
    double seconds = std::chrono::duration<double>(Clock::now() - begun_).count();
    std::sort(micros_.begin(), micros_.end());
    auto percentile = [&](double share) {
      auto index = static_cast<std::size_t>(share * static_cast<double>(micros_.size()));
      return micros_.empty() ? 0U : micros_[std::min(index, micros_.size() - 1)];
    };
    std::printf(
        "{\"requests\": %zu, \"failed\": %zu, \"failed_before\": %zu, \"octets\": %zu, "
        "\"seconds\": %.6f, \"p50_us\": %u, \"p99_us\": %u, \"p999_us\": %u}\n",
        micros_.size(), failed_ - failed_before_, failed_before_, octets_, seconds, percentile(0.5),
        percentile(0.99), percentile(0.999));
  }

  std::uint16_t port_;
  int poll_;
  std::vector<char> input_;
  std::vector<Connection> connections_;
  std::string request_;
  std::string piece_;
  std::vector<std::uint32_t> micros_;
  std::size_t failed_ = 0;
  std::size_t failed_before_ = 0;  // before what is counted began
  std::size_t octets_ = 0;
  Clock::time_point begun_;
  Clock::time_point until_;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using std::string_view;
  bench::RaiseDescriptorLimit();
  std::signal(SIGPIPE, SIG_IGN);
  string_view mode = argc > 1 ? argv[1] : "";
  auto number = [&](int at) { return bench::Number(argv[at]); };
  if (argc > 2) {
    bench::Client client(static_cast<std::uint16_t>(number(2)));
    if (mode == "requests" && argc == 7) {
      client.Requests(number(3), number(4), argv[5], argv[6] == string_view("keep"));
      return 0;
    }
    if (mode == "idle" && argc == 5) {
      client.Idle(number(3), argv[4]);
      return 0;
    }
    if (mode == "echo" && argc == 6) {
      client.Echo(number(3), number(4), number(5));
      return 0;
    }
  }
  std::fputs("usage: see the head of client.cpp\n", stderr);
  return 2;
}
