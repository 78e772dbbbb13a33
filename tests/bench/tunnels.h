#pragma once

// The WebSocket tunnels of bench_torture: each sends numbered messages, up to four at a time, and
// checks what the origin returns (echo_check.h). A tunnel that ends while it is open is broken;
// what was under way in it is lost; a new one takes its place.

#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>
#include <string_view>

#include "echo_check.h"
#include "sockets.h"
#include "timers.h"

namespace bench {

class Tunnels {
 public:
  // `a_second`: messages of all tunnels together.
  Tunnels(std::uint16_t port, int poll, std::size_t count, std::size_t a_second)
      : port_(port),
        poll_(poll),
        input_(64U * 1024U, '\0'),
        period_(std::chrono::nanoseconds(1'000'000'000ULL * std::max<std::size_t>(count, 1) /
                                         std::max<std::size_t>(a_second, 1))) {
    for (std::size_t i = 0; i < count; ++i) {
      Tunnel& tunnel = tunnels_.emplace_back(static_cast<std::uint32_t>(i + 1), echoes_);
      tunnel.owner = this;
      Open(tunnel);
    }
  }

  // Whether all are open.
  bool IsReady() const { return open_ == tunnels_.size(); }

  void Start() {
    counts_ = {};
    counting_ = true;
    Random random(2);
    Clock::time_point now = Clock::now();
    for (Tunnel& tunnel : tunnels_) {
      tunnel.due = now + std::chrono::nanoseconds(random.Next() %
                                                  static_cast<std::uint64_t>(period_.count()));
      timers_.Set(tunnel, tunnel.due);
    }
  }

  // No further messages.
  void Stop() { stopping_ = true; }

  bool IsOver() const {
    for (const Tunnel& tunnel : tunnels_) {
      if (tunnel.state == State::kOpen && tunnel.check.Outstanding() > 0) {
        return false;
      }
    }
    return true;
  }

  Clock::time_point FirstTimer() const { return timers_.First(); }

  void RunTimers(Clock::time_point now) {
    timers_.Run(now, [this, now](Tunnel& tunnel) {
      if (tunnel.state == State::kClosed) {
        Open(tunnel);
      } else if (tunnel.state == State::kOpen && counting_ && !stopping_) {
        SendNext(tunnel, now);
      }
    });
  }

  void GiveUpStuck(Clock::time_point now) {
    for (Tunnel& tunnel : tunnels_) {
      if (tunnel.deadline > now) {
        continue;
      }
      if (tunnel.state == State::kOpen) {
        ++counts_.stuck;
        Reopen(tunnel);
      } else if (tunnel.state != State::kClosed) {
        OnRefused(tunnel);
      }
    }
  }

  // The last word, as members of a JSON object: what has not come back is lost.
  void Print() {
    for (Tunnel& tunnel : tunnels_) {
      tunnel.check.GiveUp();
    }
    std::printf(
        "\"tunnels_broken\": %zu, \"tunnels_stuck\": %zu, \"tunnels_refused\": %zu, "
        "\"messages\": %zu, \"echoed\": %zu, \"echoed_octets\": %zu, \"messages_lost\": %zu, "
        "\"messages_doubled\": %zu, \"messages_out_of_order\": %zu, \"messages_corrupted\": %zu, ",
        counts_.broken, counts_.stuck, counts_.refused, echoes_.sent, echoes_.echoed,
        echoes_.octets, echoes_.lost, echoes_.doubled, echoes_.out_of_order, echoes_.corrupted);
  }

 private:
  static constexpr std::size_t kMostUnderWay = 4;

  enum class State { kClosed, kConnecting, kHandshake, kOpen };

  struct Tunnel final : Watched {
    Tunnel(std::uint32_t number, EchoCounts& counts) : check(number, counts) {}
    void OnEvents(std::uint32_t events) override { owner->OnReady(*this, events); }

    Tunnels* owner = nullptr;
    int fd = -1;
    State state = State::kClosed;
    bool waits_to_write = false;
    std::string head;    // of the answer to the handshake
    std::string unsent;  // what the socket did not take
    EchoCheck check;
    Clock::time_point due;
    Clock::time_point deadline = kNever;  // for the next octet that must come
    Clock::time_point timer = kNever;
  };

  struct Counts {
    std::size_t broken = 0;
    std::size_t stuck = 0;    // no octet within kPatience while some were to come
    std::size_t refused = 0;  // connections, and handshakes that were not answered with 101
  };

  void Open(Tunnel& tunnel) {
    tunnel.fd = StartConnect(port_);
    if (tunnel.fd < 0) {
      OnRefused(tunnel);
      return;
    }
    tunnel.state = State::kConnecting;
    tunnel.deadline = Clock::now() + kPatience;
    tunnel.waits_to_write = true;
    Watch(poll_, EPOLL_CTL_ADD, tunnel.fd, EPOLLIN | EPOLLOUT, static_cast<Watched*>(&tunnel));
  }

  void Close(Tunnel& tunnel) {
    if (tunnel.fd >= 0) {
      ::close(tunnel.fd);
    }
    tunnel.fd = -1;
    open_ -= tunnel.state == State::kOpen ? 1 : 0;
    tunnel.state = State::kClosed;
    tunnel.deadline = kNever;
    tunnel.head.clear();
    tunnel.unsent.clear();
    tunnel.check.GiveUp();
  }

  void Reopen(Tunnel& tunnel) {
    Close(tunnel);
    Open(tunnel);
  }

  void OnRefused(Tunnel& tunnel) {
    ++counts_.refused;
    Close(tunnel);
    timers_.Set(tunnel, Clock::now() + kBeforeRetry);
  }

  void OnBroken(Tunnel& tunnel) {
    ++counts_.broken;
    Reopen(tunnel);
  }

  void OnReady(Tunnel& tunnel, std::uint32_t events) {
    if (tunnel.state == State::kConnecting) {
      Connecting how = StateOfConnect(tunnel.fd);
      if (how == Connecting::kFailed) {
        OnRefused(tunnel);
      } else if (how == Connecting::kDone) {
        tunnel.state = State::kHandshake;
        Send(tunnel, kUpgradeHead);
      }
      return;
    }
    if ((events & EPOLLOUT) != 0 && tunnel.state != State::kClosed && !Send(tunnel, {})) {
      return;
    }
    if ((events & ~std::uint32_t{EPOLLOUT}) != 0 && tunnel.state != State::kClosed) {
      Read(tunnel);
    }
  }

  void OnEnd(Tunnel& tunnel) {
    if (tunnel.state == State::kOpen) {
      OnBroken(tunnel);
    } else {
      OnRefused(tunnel);
    }
  }

  // False: the tunnel has ended.
  bool Send(Tunnel& tunnel, std::string_view more) {
    tunnel.unsent += more;
    while (!tunnel.unsent.empty()) {
      ssize_t size = ::send(tunnel.fd, tunnel.unsent.data(), tunnel.unsent.size(), MSG_NOSIGNAL);
      if (size < 0 && errno == EAGAIN) {
        break;
      }
      if (size < 0) {
        OnEnd(tunnel);
        return false;
      }
      tunnel.unsent.erase(0, static_cast<std::size_t>(size));
    }
    bool waits = !tunnel.unsent.empty();
    if (waits != tunnel.waits_to_write) {
      tunnel.waits_to_write = waits;
      Watch(poll_, EPOLL_CTL_MOD, tunnel.fd, waits ? EPOLLIN | EPOLLOUT : EPOLLIN,
            static_cast<Watched*>(&tunnel));
    }
    return true;
  }

  void SendNext(Tunnel& tunnel, Clock::time_point now) {
    // One that is behind does not send all of it at once.
    tunnel.due = std::max(tunnel.due + period_, now);
    timers_.Set(tunnel, tunnel.due);
    if (tunnel.check.Outstanding() < kMostUnderWay) {
      if (tunnel.check.Outstanding() == 0) {
        tunnel.deadline = now + kPatience;
      }
      Send(tunnel, tunnel.check.Next());
    }
  }

  void Read(Tunnel& tunnel) {
    ssize_t size = ::read(tunnel.fd, input_.data(), input_.size());
    if (size < 0 && errno == EAGAIN) {
      return;
    }
    if (size <= 0) {
      OnEnd(tunnel);
      return;
    }
    std::string_view input(input_.data(), static_cast<std::size_t>(size));
    if (tunnel.state == State::kHandshake && !TakeHandshake(tunnel, input)) {
      return;
    }
    if (tunnel.check.Take(input) != EchoCheck::Verdict::kGoOn) {
      OnBroken(tunnel);
      return;
    }
    tunnel.deadline = tunnel.check.Outstanding() > 0 ? Clock::now() + kPatience : kNever;
  }

  // True: the tunnel is open, and `input` is what came behind the answer.
  bool TakeHandshake(Tunnel& tunnel, std::string_view& input) {
    std::size_t before = tunnel.head.size();
    tunnel.head += input;
    std::size_t end = tunnel.head.find("\r\n\r\n");
    if (end == std::string::npos && tunnel.head.size() < 65536) {
      return false;
    }
    if (end == std::string::npos || !tunnel.head.starts_with("HTTP/1.1 101 ") ||
        tunnel.head.find("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") == std::string::npos) {
      OnRefused(tunnel);
      return false;
    }
    input.remove_prefix(end + 4 - before);
    tunnel.head.clear();
    tunnel.state = State::kOpen;
    tunnel.deadline = kNever;
    ++open_;
    if (counting_) {
      // Its time may have been taken by that of a new attempt to connect, or have passed meanwhile.
      tunnel.due = std::max(tunnel.due, Clock::now());
      timers_.Set(tunnel, tunnel.due);
    }
    return true;
  }

  std::uint16_t port_;
  int poll_;
  std::string input_;
  std::chrono::nanoseconds period_;
  std::deque<Tunnel> tunnels_;
  Timers<Tunnel> timers_;
  Counts counts_;
  EchoCounts echoes_;
  std::size_t open_ = 0;
  bool counting_ = false;
  bool stopping_ = false;
};

}  // namespace bench
