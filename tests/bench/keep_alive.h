#pragma once

// The keep-alive connections of bench_torture. The busy ones, half of them, ask again and again, at
// a rate that leaves the machine room; the idle ones ask all at the same instant, when they are
// woken: half of them often, the others, the sleepy ones, rarely, so that they have nothing to say
// while a drain goes on.
//
// A request counts as lost once it was written and its answer is not there whole when the
// connection ends; it is not sent again. A connection that the proxy closes while nothing is asked
// is a forced reconnect, also when the client finds out only just before it would have written:
// that is in the proxy's favour.
//
// Each connection asks for a size of its own, so that an answer that belongs to another is wrong;
// so is one that nobody asked for.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "frames.h"
#include "latency.h"
#include "sockets.h"
#include "timers.h"

namespace bench {

enum class Kind { kBusy, kIdle, kSleepy };

class KeepAlive {
 public:
  // `a_second`: requests of all busy connections together.
  KeepAlive(std::uint16_t port, int poll, Phase& phase, std::size_t count, std::size_t a_second)
      : port_(port),
        poll_(poll),
        phase_(phase),
        connections_(count),
        period_(std::chrono::nanoseconds(1'000'000'000ULL * std::max<std::size_t>(count / 2, 1) /
                                         std::max<std::size_t>(a_second, 1))) {
    for (std::size_t i = 0; i < count; ++i) {
      connections_[i].owner = this;
      connections_[i].kind = i % 2 == 0 ? Kind::kBusy : i % 4 == 1 ? Kind::kIdle : Kind::kSleepy;
      connections_[i].size = 64 + i;
      connections_[i].wanted = true;
      Open(connections_[i]);
    }
  }

  // Whether each connection has been answered once.
  bool IsReady() const { return ready_ == connections_.size(); }

  // From here it counts.
  void Start() {
    counts_ = {};
    counting_ = true;
    Clock::time_point now = Clock::now();
    Random random(1);
    for (Connection& connection : connections_) {
      if (connection.kind == Kind::kBusy) {
        connection.due = now + std::chrono::nanoseconds(
                                   random.Next() % static_cast<std::uint64_t>(period_.count()));
        timers_.Set(connection, connection.due);
      }
    }
  }

  // `kind` is not kBusy.
  void Wake(Kind kind) {
    ++phase_.wake_ups;
    phase_.woken = Clock::now();
    for (Connection& connection : connections_) {
      if (connection.kind == kind && !connection.wanted && connection.state != State::kWaiting) {
        connection.is_woken = true;
        ++phase_.waking;
        Want(connection, phase_.woken);
      }
    }
  }

  // No further requests.
  void Stop() { stopping_ = true; }
  bool IsOver() const { return waiting_ == 0; }

  Clock::time_point FirstTimer() const { return timers_.First(); }

  void RunTimers(Clock::time_point now) {
    timers_.Run(now, [this](Connection& connection) {
      if (connection.state == State::kClosed) {
        Open(connection);
      } else if (connection.kind == Kind::kBusy && counting_ && !stopping_) {
        Want(connection, Clock::now());
      }
    });
  }

  // To be called now and then.
  void GiveUpStuck(Clock::time_point now) {
    for (Connection& connection : connections_) {
      if (connection.deadline > now) {
        continue;
      }
      if (connection.state == State::kWaiting) {
        ++counts_.stuck;
        EndOfRequest(connection);
        Reopen(connection);
      } else if (connection.state == State::kConnecting) {
        OnRefused(connection);
      }
    }
  }

  // As members of a JSON object.
  void Print() {
    std::printf(
        "\"requests\": %zu, \"answered\": %zu, \"lost\": %zu, \"wrong\": %zu, \"stuck\": %zu, "
        "\"closed_idle\": %zu, \"closed_by_answer\": %zu, \"refused\": %zu, ",
        counts_.sent, counts_.answered, counts_.lost, counts_.wrong, counts_.stuck,
        counts_.closed_idle, counts_.closed_by_answer, counts_.refused);
    latency_.Print();
  }

 private:
  enum class State { kClosed, kConnecting, kIdle, kWaiting };

  struct Connection final : Watched {
    void OnEvents(std::uint32_t) override { owner->OnReady(*this); }

    KeepAlive* owner = nullptr;
    int fd = -1;
    State state = State::kClosed;
    Kind kind = Kind::kBusy;
    bool is_ready = false;
    bool wanted = false;    // a request goes out as soon as it can
    bool is_woken = false;  // it, or the one that waits, belongs to a wake-up
    bool closes = false;    // the answer says so
    bool has_head = false;
    std::size_t size = 0;  // of the body that we ask for
    std::size_t left = 0;  // of it
    std::string head;
    Moment moment;
    Clock::time_point begun;
    Clock::time_point due;  // of a busy one's next request
    Clock::time_point deadline = kNever;
    Clock::time_point timer = kNever;
  };

  struct Counts {
    std::size_t sent = 0;
    std::size_t answered = 0;
    std::size_t lost = 0;              // cut off behind the request
    std::size_t wrong = 0;             // not the answer that was asked for
    std::size_t stuck = 0;             // no answer within kPatience
    std::size_t closed_idle = 0;       // forced to reconnect
    std::size_t closed_by_answer = 0;  // the same, by Connection: close
    std::size_t refused = 0;           // connections
  };

  void Open(Connection& connection) {
    connection.fd = StartConnect(port_);
    if (connection.fd < 0) {
      OnRefused(connection);
      return;
    }
    connection.state = State::kConnecting;
    connection.deadline = Clock::now() + kPatience;
    Watch(poll_, EPOLL_CTL_ADD, connection.fd, EPOLLIN | EPOLLOUT,
          static_cast<Watched*>(&connection));
  }

  static void Close(Connection& connection) {
    if (connection.fd >= 0) {
      ::close(connection.fd);
    }
    connection.fd = -1;
    connection.state = State::kClosed;
    connection.deadline = kNever;
  }

  void Reopen(Connection& connection) {
    Close(connection);
    Open(connection);
  }

  void OnRefused(Connection& connection) {
    ++counts_.refused;
    Close(connection);
    timers_.Set(connection, Clock::now() + kBeforeRetry);
  }

  void OnReady(Connection& connection) {
    switch (connection.state) {
      case State::kClosed:
        break;
      case State::kConnecting:
        OnConnecting(connection);
        break;
      case State::kIdle:
        IsStillOpen(connection);
        break;
      case State::kWaiting:
        Read(connection);
        break;
    }
  }

  void OnConnecting(Connection& connection) {
    Connecting how = StateOfConnect(connection.fd);
    if (how == Connecting::kFailed) {
      OnRefused(connection);
    } else if (how == Connecting::kDone) {
      connection.state = State::kIdle;
      connection.deadline = kNever;
      Watch(poll_, EPOLL_CTL_MOD, connection.fd, EPOLLIN, static_cast<Watched*>(&connection));
      if (connection.wanted) {
        Ask(connection);
      } else if (connection.kind == Kind::kBusy && counting_) {
        // Its time may have been taken by that of a new attempt to connect.
        timers_.Set(connection, connection.due);
      }
    }
  }

  // Of an idle one; false: another one is on its way. An answer that nobody asked for is wrong.
  bool IsStillOpen(Connection& connection) {
    char octet = 0;
    ssize_t size = ::recv(connection.fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) {
      return true;
    }
    ++(size > 0 ? counts_.wrong : counts_.closed_idle);
    Reopen(connection);
    return false;
  }

  // `since`: from when on the answer is waited for.
  void Want(Connection& connection, Clock::time_point since) {
    connection.wanted = true;
    connection.begun = since;
    connection.moment = Moment::Of(phase_);
    if (connection.state == State::kIdle) {
      Ask(connection);
    }
  }

  void Ask(Connection& connection) {
    if (stopping_) {
      EndOfRequest(connection);
      return;
    }
    if (!IsStillOpen(connection)) {
      return;  // nothing was written: it is asked on the next connection
    }
    char text[128];
    int size = std::snprintf(text, sizeof(text), "GET /%zu HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                             connection.size);
    if (::send(connection.fd, text, static_cast<std::size_t>(size), MSG_NOSIGNAL) != size) {
      ++counts_.closed_idle;
      Reopen(connection);
      return;
    }
    ++counts_.sent;
    ++waiting_;
    connection.wanted = false;
    connection.state = State::kWaiting;
    connection.deadline = Clock::now() + kPatience;
    connection.closes = connection.has_head = false;
    connection.head.clear();
  }

  void Read(Connection& connection) {
    char input[16384];
    ssize_t size = ::read(connection.fd, input, sizeof(input));
    if (size < 0 && errno == EAGAIN) {
      return;
    }
    if (size <= 0) {
      ++counts_.lost;
      EndOfRequest(connection);
      Reopen(connection);
      return;
    }
    std::string_view text(input, static_cast<std::size_t>(size));
    if (!Take(connection, text)) {
      ++counts_.wrong;
      EndOfRequest(connection);
      Reopen(connection);
    } else if (connection.has_head && connection.left == 0) {
      OnAnswer(connection);
    }
  }

  // False: this is not the answer.
  static bool Take(Connection& connection, std::string_view text) {
    if (!connection.has_head) {
      connection.head += text;
      std::size_t end = connection.head.find("\r\n\r\n");
      if (end == std::string::npos) {
        return connection.head.size() < 65536;
      }
      std::string_view head(connection.head.data(), end + 2);
      std::string length = "\r\ncontent-length: " + std::to_string(connection.size) + "\r\n";
      if (!head.starts_with("HTTP/1.1 200 ") || !Contains(head, length)) {
        return false;
      }
      connection.closes = Contains(head, "\r\nconnection: close\r\n");
      connection.has_head = true;
      connection.left = connection.size;
      text = std::string_view(connection.head).substr(end + 4);
    }
    if (text.size() > connection.left || text.find_first_not_of('x') != std::string_view::npos) {
      return false;
    }
    connection.left -= text.size();
    return true;
  }

  // `what` in lower case.
  static bool Contains(std::string_view head, std::string_view what) {
    return std::search(head.begin(), head.end(), what.begin(), what.end(), [](char a, char b) {
             return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b;
           }) != head.end();
  }

  void OnAnswer(Connection& connection) {
    ++counts_.answered;
    if (!connection.is_ready) {
      connection.is_ready = true;
      ++ready_;
    }
    if (connection.kind == Kind::kBusy && counting_) {
      latency_.Add(connection.moment, phase_, Clock::now() - connection.begun);
    }
    connection.state = State::kIdle;
    connection.deadline = kNever;
    if (connection.closes) {
      ++counts_.closed_by_answer;
      Reopen(connection);
    }
    EndOfRequest(connection);
  }

  // However it ended: when a busy one asks next.
  void EndOfRequest(Connection& connection) {
    if (connection.wanted) {
      connection.wanted = false;  // stopped before it went out
    } else {
      --waiting_;
    }
    if (connection.is_woken) {
      connection.is_woken = false;
      --phase_.waking;
    }
    if (connection.kind != Kind::kBusy || !counting_ || stopping_) {
      return;
    }
    connection.due += period_;
    if (connection.due <= Clock::now() && !connection.wanted) {
      // Its time came while the last answer was waited for: waiting counts from there, or a proxy
      // that stands still would be asked little and look quick.
      Clock::time_point since = connection.due;
      Want(connection, since);
    } else {
      timers_.Set(connection, connection.due);
    }
  }

  std::uint16_t port_;
  int poll_;
  Phase& phase_;
  std::vector<Connection> connections_;
  std::chrono::nanoseconds period_;
  Timers<Connection> timers_;
  Counts counts_;
  Latency latency_;
  std::size_t ready_ = 0;
  std::size_t waiting_ = 0;
  bool counting_ = false;
  bool stopping_ = false;
};

}  // namespace bench
