// Both ends of a tunnel that is hardly ever silent: pseudo-random octets both ways at the same
// time, in WebSocket frames, compared octet by octet where they come in, and hashed where they go
// out and where they come in.
//
//   bench_bulk origin
//       prints the port that it listens on, one line
//   bench_bulk client PORT LEAST_MIB MIB_A_SECOND
//       through the proxy at PORT; says "ready" when the tunnel is open. A line of standard input
//       (or its end) lets it stop, once LEAST_MIB have come each way; the last line is one JSON
//       object. Both ends send MIB_A_SECOND, in bursts, twenty a second: the tunnel has to live
//       through many upgrades without eating the machine, and yet fill every buffer on the way.
//
// The end: the client sends a text frame behind its last octet, the origin answers it behind its
// own last with what it has sent and received, and the client compares.

#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "frames.h"
#include "sockets.h"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kFrameBytes = 64U * 1024U;
constexpr std::size_t kMiB = 1024U * 1024U;
constexpr auto kBurstEvery = std::chrono::milliseconds(50);
constexpr auto kPatience = std::chrono::seconds(10);
constexpr std::string_view kEnd = "end";

// FNV-1a over the octets of one direction, in their order.
struct Passed {
  std::size_t octets = 0;
  std::uint64_t hash = 0xcbf29ce484222325U;

  void Add(std::string_view more) {
    octets += more.size();
    for (char octet : more) {
      hash = (hash ^ static_cast<unsigned char>(octet)) * 0x100000001b3U;
    }
  }

  std::string Text() const {
    char text[64];
    std::snprintf(text, sizeof(text), "%zu %016llx", octets, static_cast<unsigned long long>(hash));
    return text;
  }
};

// One end. It takes `fd` over; the HTTP handshake is behind it.
class End {
 public:
  End(int fd, bool is_client, std::size_t mib_a_second)
      : fd_(fd),
        is_client_(is_client),
        burst_bytes_(std::max<std::size_t>(mib_a_second * kMiB / 20, kFrameBytes)),
        outgoing_(is_client ? 1 : 2),
        incoming_(is_client ? 2 : 1),
        input_(256U * 1024U, '\0') {}
  End(const End&) = delete;
  End& operator=(const End&) = delete;
  ~End() { ::close(fd_); }

  int fd() const { return fd_; }
  const Passed& sent() const { return sent_; }
  const Passed& received() const { return received_; }
  const std::string& last_words() const { return last_words_; }
  std::size_t corrupted_at() const { return corrupted_at_; }
  bool wants_to_write() const { return !unsent_.empty() || burst_left_ > 0; }
  bool has_ended() const { return has_ended_; }
  // When the last octet came.
  Clock::time_point heard() const { return heard_; }

  // The next burst, if its time has come; the last one's rest comes first.
  void OnTime(Clock::time_point now) {
    if (!says_goodbye_ && now >= next_burst_) {
      burst_left_ = std::max(burst_left_, burst_bytes_);
      next_burst_ = now + kBurstEvery;
    }
  }

  // The client's last word.
  void SayGoodbye() {
    says_goodbye_ = true;
    burst_left_ = 0;
    Frame(kTextFrame, std::string(kEnd));
  }

  // Why the tunnel is over, or null.
  const char* Write() {
    while (wants_to_write()) {
      if (unsent_.empty()) {
        std::string payload(kFrameBytes, '\0');
        outgoing_.Fill(payload.data(), payload.size());
        sent_.Add(payload);
        burst_left_ -= std::min(burst_left_, payload.size());
        Frame(kBinaryFrame, payload);
      }
      ssize_t size = ::send(fd_, unsent_.data() + done_, unsent_.size() - done_, MSG_NOSIGNAL);
      if (size < 0) {
        return errno == EAGAIN ? nullptr : std::strerror(errno);
      }
      done_ += static_cast<std::size_t>(size);
      if (done_ == unsent_.size()) {
        unsent_.clear();
        done_ = 0;
      }
    }
    return nullptr;
  }

  const char* Read() {
    ssize_t size = ::read(fd_, input_.data(), input_.size());
    if (size < 0) {
      return errno == EAGAIN ? nullptr : std::strerror(errno);
    }
    if (size == 0) {
      return "closed";
    }
    return Take({input_.data(), static_cast<std::size_t>(size)});
  }

  // Octets that came; also those that came with the handshake.
  const char* Take(std::string_view more) {
    heard_ = Clock::now();
    unread_ += more;
    std::size_t begin = 0;
    const char* fault = nullptr;
    while (fault == nullptr) {
      std::string_view rest = std::string_view(unread_).substr(begin);
      FrameHead head;
      Parsed parsed = ParseFrameHead(rest, kFrameBytes, head);
      if (parsed == Parsed::kBroken) {
        fault = Corrupted();
      }
      std::size_t size = head.head_bytes + head.payload_bytes;
      if (parsed != Parsed::kWhole || rest.size() < size) {
        break;
      }
      fault = OnFrame(head, std::string(rest.substr(head.head_bytes, head.payload_bytes)));
      begin += size;
    }
    unread_.erase(0, begin);
    return fault;
  }

 private:
  const char* Corrupted() {
    corrupted_at_ = received_.octets + 1;
    return "corrupted";
  }

  const char* OnFrame(const FrameHead& head, std::string payload) {
    if (head.opcode == kCloseFrame) {
      return "close frame";
    }
    if (head.is_masked == is_client_) {
      return Corrupted();
    }
    if (head.is_masked) {
      Mask(payload.data(), payload.size(), head.mask);
    }
    if (head.opcode == kTextFrame) {
      last_words_ = payload;
      has_ended_ = true;
      if (!is_client_) {
        says_goodbye_ = true;
        burst_left_ = 0;
        Frame(kTextFrame, sent_.Text() + " " + received_.Text());
      }
      return nullptr;
    }
    std::string expected(payload.size(), '\0');
    incoming_.Fill(expected.data(), expected.size());
    if (head.opcode != kBinaryFrame || payload != expected) {
      return Corrupted();
    }
    received_.Add(payload);
    return nullptr;
  }

  void Frame(std::uint8_t opcode, const std::string& payload) {
    unsigned char mask[4];
    mask_.Fill(reinterpret_cast<char*>(mask), sizeof(mask));
    AppendFrame(unsent_, opcode, payload, is_client_ ? &mask : nullptr);
  }

  int fd_;
  bool is_client_;
  std::size_t burst_bytes_;
  Random outgoing_;
  Random incoming_;
  Random mask_{3};
  std::vector<char> input_;
  Passed sent_;
  Passed received_;
  std::string unread_;
  std::string unsent_;
  std::size_t done_ = 0;  // octets of `unsent_` that are out
  std::size_t burst_left_ = 0;
  std::size_t corrupted_at_ = 0;
  std::string last_words_;
  bool says_goodbye_ = false;
  bool has_ended_ = false;
  Clock::time_point next_burst_;
  Clock::time_point heard_ = Clock::now();
};

// Reads a head, octet by octet: what follows belongs to the tunnel. Empty: there is none.
std::string ReadHead(int fd) {
  std::string head;
  char octet = 0;
  while (!head.ends_with("\r\n\r\n") && head.size() < 65536) {
    if (::recv(fd, &octet, 1, 0) != 1) {
      return {};
    }
    head += octet;
  }
  return head;
}

// Blocking, with a limit.
void SetBlocking(int fd) {
  timeval limit{10, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::fcntl(fd, F_SETFL, 0);
}

// Until the tunnel has ended; `may_stop` is asked meanwhile, at the client.
template <class Stop>
const char* Converse(End& end, int poll, Stop stop) {
  Watch(poll, EPOLL_CTL_ADD, end.fd(), EPOLLIN, nullptr);
  bool watches_writing = false;
  for (;;) {
    Clock::time_point now = Clock::now();
    end.OnTime(now);
    stop(end);
    if (const char* fault = end.Write(); fault != nullptr) {
      return fault;
    }
    if (end.has_ended() && !end.wants_to_write()) {
      return nullptr;
    }
    if (now - end.heard() > kPatience) {
      return "stuck";
    }
    if (end.wants_to_write() != watches_writing) {
      watches_writing = !watches_writing;
      Watch(poll, EPOLL_CTL_MOD, end.fd(), watches_writing ? EPOLLIN | EPOLLOUT : EPOLLIN, nullptr);
    }
    epoll_event event{};
    if (::epoll_wait(poll, &event, 1, 5) == 1 && (event.events & ~std::uint32_t{EPOLLOUT}) != 0) {
      if (const char* fault = end.Read(); fault != nullptr) {
        return fault;
      }
    }
  }
}

// One tunnel after the other: nobody opens two. A connection that a proxy or a probe opens and does
// not use is left behind at its end.
[[noreturn]] void Serve() {
  int listener = Listen(0);
  ::fcntl(listener, F_SETFL, 0);
  std::printf("%u\n", PortOf(listener));
  std::fflush(stdout);
  for (;;) {
    int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      continue;
    }
    SetBlocking(fd);
    std::string head = ReadHead(fd);
    std::size_t at = head.find("GET /");
    if (at != 0 || ::send(fd, kUpgradeAnswer.data(), kUpgradeAnswer.size(), MSG_NOSIGNAL) < 0) {
      ::close(fd);
      continue;
    }
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
    int poll = ::epoll_create1(EPOLL_CLOEXEC);
    End end(fd, false, std::strtoul(head.c_str() + 5, nullptr, 10));
    Converse(end, poll, [](End&) {});
    ::close(poll);
  }
}

int Ask(std::uint16_t port, std::size_t least_mib, std::size_t mib_a_second) {
  int fd = Connect(port);
  if (fd < 0) {
    Die("connect to the proxy");
  }
  SetBlocking(fd);
  std::string head(kUpgradeHead);
  head.replace(head.find("/echo"), 5, "/" + std::to_string(mib_a_second));
  if (::send(fd, head.data(), head.size(), MSG_NOSIGNAL) < 0 ||
      !ReadHead(fd).starts_with("HTTP/1.1 101 ")) {
    Die("open the tunnel");
  }
  std::puts("ready");
  std::fflush(stdout);
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  ::fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
  int poll = ::epoll_create1(EPOLL_CLOEXEC);
  End end(fd, true, mib_a_second);
  Clock::time_point begun = Clock::now();
  bool told = false;
  bool stopped = false;
  auto stop = [&](End& self) {
    char input[64];
    told = told || ::read(STDIN_FILENO, input, sizeof(input)) >= 0;
    std::size_t least = std::min(self.sent().octets, self.received().octets);
    if (told && !stopped && least >= least_mib * kMiB) {
      stopped = true;
      self.SayGoodbye();
    }
  };
  const char* fault = Converse(end, poll, stop);
  std::string both = end.received().Text() + " " + end.sent().Text();
  if (fault == nullptr && end.last_words() != both) {
    fault = "the ends differ";
  }
  std::printf(
      "{\"survived\": %s, \"fault\": \"%s\", \"sent\": \"%s\", \"received\": \"%s\", "
      "\"origin\": \"%s\", \"mib_out\": %.1f, \"mib_in\": %.1f, \"corrupted_at\": %zu, "
      "\"seconds\": %.1f}\n",
      fault == nullptr ? "true" : "false", fault == nullptr ? "" : fault, end.sent().Text().c_str(),
      end.received().Text().c_str(), end.last_words().c_str(),
      static_cast<double>(end.sent().octets) / static_cast<double>(kMiB),
      static_cast<double>(end.received().octets) / static_cast<double>(kMiB), end.corrupted_at(),
      std::chrono::duration<double>(Clock::now() - begun).count());
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "origin" && argc == 2) {
    bench::Serve();
  }
  if (mode == "client" && argc == 5) {
    auto number = [&](int at) { return bench::Number(argv[at]); };
    return bench::Ask(static_cast<std::uint16_t>(number(2)), number(3), number(4));
  }
  std::fputs("usage: see the head of bulk.cpp\n", stderr);
  return 2;
}
