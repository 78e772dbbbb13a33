// What clients see while a proxy replaces itself: keep-alive connections (keep_alive.h) and
// WebSocket tunnels (tunnels.h), one thread on epoll.
//
//   bench_torture PORT CONNECTIONS REQUESTS_A_SECOND TUNNELS MESSAGES_A_SECOND
//       opens all, asks each connection once, says "ready", and obeys the lines that come then:
//         quiet, upgrade, between
//                   latency counts as that of a window of this kind from here; it begins quiet
//         wake      the idle connections that are woken often send a request at once
//         wake late those that are woken rarely
//         stop      (or the end of the input) no more is sent; what is under way is waited for
//       The last line is one JSON object.
//   bench_torture check
//       whether the check of the echo finds what it is there for
//
// Nothing is waited for longer than kPatience.

#include <algorithm>
#include <csignal>
#include <initializer_list>
#include <string>
#include <string_view>

#include "keep_alive.h"
#include "tunnels.h"

namespace bench {
namespace {

class Torture {
 public:
  Torture(std::uint16_t port, std::size_t connections, std::size_t requests, std::size_t tunnels,
          std::size_t messages)
      : poll_(::epoll_create1(EPOLL_CLOEXEC)),
        keep_alive_(port, poll_, phase_, connections, requests),
        tunnels_(port, poll_, tunnels, messages) {}

  // False: it did not even get ready.
  bool Run() {
    Clock::time_point deadline = Clock::now() + 3 * kPatience;
    while (!keep_alive_.IsReady() || !tunnels_.IsReady()) {
      if (Clock::now() > deadline) {
        std::fputs("not all connections and tunnels were answered\n", stderr);
        return false;
      }
      Turn();
    }
    std::puts("ready");
    std::fflush(stdout);
    Clock::time_point begun = Clock::now();
    keep_alive_.Start();
    tunnels_.Start();
    ::fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    Watch(poll_, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, nullptr);
    while (!stopped_) {
      Turn();
    }
    keep_alive_.Stop();
    tunnels_.Stop();
    double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    Watch(poll_, EPOLL_CTL_DEL, STDIN_FILENO, 0, nullptr);
    deadline = Clock::now() + kPatience + std::chrono::seconds(2);
    while ((!keep_alive_.IsOver() || !tunnels_.IsOver()) && Clock::now() < deadline) {
      Turn();
    }
    std::putchar('{');
    keep_alive_.Print();
    tunnels_.Print();
    std::printf("\"wake_ups\": %zu, \"seconds\": %.3f}\n", phase_.wake_ups, seconds);
    return true;
  }

 private:
  void Turn() {
    Clock::time_point now = Clock::now();
    if (now >= next_look_) {
      keep_alive_.GiveUpStuck(now);
      tunnels_.GiveUpStuck(now);
      next_look_ = now + std::chrono::milliseconds(250);
    }
    keep_alive_.RunTimers(now);
    tunnels_.RunTimers(now);
    Clock::time_point first =
        std::min({next_look_, keep_alive_.FirstTimer(), tunnels_.FirstTimer()});
    auto wait = std::max(Clock::duration::zero(), first - Clock::now());
    timespec limit{};
    limit.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(wait).count();
    limit.tv_nsec = (wait % std::chrono::seconds(1)).count();
    epoll_event events[256];
    int count = ::epoll_pwait2(poll_, events, 256, &limit, nullptr);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.ptr == nullptr) {
        ReadCommands();
      } else {
        static_cast<Watched*>(events[i].data.ptr)->OnEvents(events[i].events);
      }
    }
  }

  void ReadCommands() {
    char input[512];
    ssize_t size = ::read(STDIN_FILENO, input, sizeof(input));
    if (size < 0 && errno == EAGAIN) {
      return;
    }
    if (size <= 0) {
      stopped_ = true;
      return;
    }
    commands_.append(input, static_cast<std::size_t>(size));
    std::size_t end = 0;
    while ((end = commands_.find('\n')) != std::string::npos) {
      Obey(std::string_view(commands_).substr(0, end));
      commands_.erase(0, end + 1);
    }
  }

  void Obey(std::string_view command) {
    if (command == "wake") {
      keep_alive_.Wake(Kind::kIdle);
    } else if (command == "wake late") {
      keep_alive_.Wake(Kind::kSleepy);
    } else if (command == "upgrade") {
      phase_.window = Window::kUpgrade;
      ++phase_.upgrades_begun;
    } else if (command == "between") {
      phase_.window = Window::kBetween;
    } else if (command == "quiet") {
      phase_.window = Window::kQuiet;
    } else if (command == "stop") {
      stopped_ = true;
    } else {
      std::fprintf(stderr, "no such command: %.*s\n", static_cast<int>(command.size()),
                   command.data());
      std::exit(2);
    }
  }

  int poll_;
  Phase phase_;
  KeepAlive keep_alive_;
  Tunnels tunnels_;
  std::string commands_;
  Clock::time_point next_look_;
  bool stopped_ = false;
};

// Four messages go through `spoil`, in pieces of 1,000 octets; one line says what came of them.
template <class Spoil>
bool Finds(const char* what, Spoil spoil, const EchoCounts& expected) {
  EchoCounts counts;
  EchoCheck check(7, counts);
  std::string frames[4];
  for (std::string& frame : frames) {
    frame = check.Next();
  }
  std::string stream;
  spoil(frames, stream);
  for (std::size_t at = 0; at < stream.size(); at += 1000) {
    if (check.Take(std::string_view(stream).substr(at, 1000)) != EchoCheck::Verdict::kGoOn) {
      break;
    }
  }
  check.GiveUp();
  bool found = counts.echoed == expected.echoed && counts.lost == expected.lost &&
               counts.doubled == expected.doubled && counts.out_of_order == expected.out_of_order &&
               counts.corrupted == expected.corrupted;
  std::printf("%s %s\n", what, found ? "found" : "NOT FOUND");
  return found;
}

bool CheckTheCheck() {
  auto all = [](std::string(&frames)[4], std::string& to, std::initializer_list<int> order) {
    for (int at : order) {
      to += frames[at];
    }
  };
  using Frames = std::string(&)[4];
  auto in_order = [&](std::initializer_list<int> order) {
    return [&all, order](Frames frames, std::string& to) { all(frames, to, order); };
  };
  auto counts = [](std::size_t echoed, std::size_t lost, std::size_t doubled,
                   std::size_t out_of_order, std::size_t corrupted) {
    EchoCounts out;
    out.echoed = echoed;
    out.lost = lost;
    out.doubled = doubled;
    out.out_of_order = out_of_order;
    out.corrupted = corrupted;
    return out;
  };
  bool good = Finds("nothing wrong", in_order({0, 1, 2, 3}), counts(4, 0, 0, 0, 0));
  good &= Finds("a lost message", in_order({0, 2, 3}), counts(3, 1, 0, 0, 0));
  good &= Finds("a doubled message", in_order({0, 1, 1, 2, 3}), counts(4, 0, 1, 0, 0));
  good &= Finds("a late message", in_order({0, 2, 3, 1}), counts(4, 0, 0, 1, 0));
  good &= Finds("messages that never came", in_order({0, 1}), counts(2, 2, 0, 0, 0));
  good &= Finds(
      "a changed octet",
      [&](Frames frames, std::string& to) {
        frames[1].back() = static_cast<char>(frames[1].back() ^ 1);
        all(frames, to, {0, 1, 2, 3});
      },
      counts(1, 3, 0, 0, 1));
  good &= Finds(
      "a lost octet",
      [&](Frames frames, std::string& to) {
        frames[1].erase(frames[1].size() / 2, 1);
        all(frames, to, {0, 1, 2, 3});
      },
      counts(1, 3, 0, 0, 1));
  good &= Finds(
      "a doubled octet",
      [&](Frames frames, std::string& to) {
        frames[1].insert(frames[1].size() / 2, 1, frames[1][frames[1].size() / 2]);
        all(frames, to, {0, 1, 2, 3});
      },
      counts(1, 3, 0, 0, 1));
  good &= Finds(
      "another tunnel's message",
      [&](Frames frames, std::string& to) {
        EchoCounts others;
        all(frames, to, {0});
        to += EchoCheck(8, others).Next();
      },
      counts(1, 3, 0, 0, 1));
  return good;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  if (argc == 2 && std::string_view(argv[1]) == "check") {
    return bench::CheckTheCheck() ? 0 : 1;
  }
  if (argc != 6) {
    std::fputs("usage: see the head of torture.cpp\n", stderr);
    return 2;
  }
  bench::RaiseDescriptorLimit();
  auto number = [&](int at) { return bench::Number(argv[at]); };
  bench::Torture torture(static_cast<std::uint16_t>(number(1)), number(2), number(3), number(4),
                         number(5));
  return torture.Run() ? 0 : 1;
}
