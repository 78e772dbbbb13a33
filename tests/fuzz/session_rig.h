#pragma once

// Octets of a client through a whole session, exchange and pool to an origin in this process.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "common/config_load.h"
#include "common/unique_fd.h"
#include "proxy/services.h"
#include "proxy/session.h"
#include "tests/fuzz/h1_fuzz.h"
#include "tests/fuzz/h1_strict_reader.h"

namespace tidegate::session_fuzz {

inline constexpr int kMostTurns = 2000;
inline constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// One connection that the proxy has opened.
struct OriginConnection {
  UniqueFd fd;
  std::string received;
  std::size_t answered = 0;
};

class Rig final : public SessionResumer {
 public:
  explicit Rig(std::uint8_t speaks)
      : speaks_(speaks),
        services_{.loop = loop_, .buffers = buffers_, .counters = counters_},
        list_(services_, *this) {
    std::signal(SIGPIPE, SIG_IGN);
    const char* folder = std::getenv("TMPDIR");
    std::string path = std::string(folder == nullptr ? "/tmp" : folder) + "/tidegate-fuzz-" +
                       std::to_string(::getpid()) + ".sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    TG_CHECK(path.size() < sizeof(address.sun_path));
    std::memcpy(address.sun_path, path.data(), path.size());
    listener_.Reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    ::unlink(path.c_str());
    TG_CHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    TG_CHECK(::listen(listener_.get(), 64) == 0);
    std::string text = R"({"listen": ":0", "upstream": "unix:)" + path + R"("})";
    auto loaded = LoadConfigText("fuzz.json", text, [](std::string_view) { return std::nullopt; });
    TG_CHECK(loaded.has_value());
    Snapshot::Parts parts{.loop = loop_,
                          .buffers = buffers_,
                          .resolver = resolver_,
                          .counters = counters_,
                          .workers = 1};
    services_.snapshot =
        std::make_shared<const Snapshot>(parts, std::move(loaded->config), nullptr);
    services_.snapshot->PutInForce();
  }

  // What the origin received, connection by connection.
  std::vector<std::string> Play(std::string_view sent, const std::string_view* script) {
    int ends[2];
    TG_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    UniqueFd client(ends[1]);
    heard_.clear();
    scope_.Start(Run(UniqueFd(ends[0])));
    bool ended = false;
    // Until nothing moves any more: what waits then waits for somebody who will not come.
    for (int quiet = 0; quiet < 3;) {
      bool moved = Push(client, sent, ended);
      loop_.RunNoWait();
      moved = Serve(script) || moved;
      moved = Drop(client) || moved;
      quiet = moved ? 0 : quiet + 1;
    }
    client.Reset();
    std::vector<std::string> received;
    for (int turn = 0; scope_.count() > 0; ++turn) {
      TG_CHECK(turn < kMostTurns);
      Serve(script);
      if (turn > 3) {
        Part(received);
      }
      loop_.RunNoWait();
    }
    Part(received);
    // Connections in the pool notice that they have ended.
    for (int turn = 0; turn < 3; ++turn) {
      loop_.RunNoWait();
    }
    Serve(script);
    Part(received);
    return received;
  }

  // What the client has got in the last Play.
  const std::string& heard() const { return heard_; }

 private:
  Task<void> Run(UniqueFd fd) {
    ClientInfo client{.peer = "192.0.2.1:5000",
                      .ip = "192.0.2.1",
                      .has_ip = true,
                      .speaks = speaks_,
                      .listener = "default",
                      .port = "80"};
    Session session(services_, list_, std::move(fd), client, nullptr);
    co_await session.Run();
  }

  // Only a machine that stands still for seconds parks anything.
  void ResumeSession(IdleConnection connection) override {
    scope_.Start(RunResumed(std::make_unique<Session>(services_, list_, std::move(connection))));
  }
  Task<void> RunResumed(std::unique_ptr<Session> session) { co_await session->Run(); }

  static bool Push(const UniqueFd& client, std::string_view& sent, bool& ended) {
    if (!sent.empty()) {
      ssize_t size = ::write(client.get(), sent.data(), sent.size());
      sent.remove_prefix(size > 0 ? static_cast<std::size_t>(size) : 0);
      if (size < 0 && errno == EPIPE) {
        sent = {};
      }
      return size > 0;
    }
    return !std::exchange(ended, true) && ::shutdown(client.get(), SHUT_WR) == 0;
  }

  bool Drop(const UniqueFd& client) {
    char buffer[65536];
    ssize_t size = ::read(client.get(), buffer, sizeof(buffer));
    heard_.append(buffer, size > 0 ? static_cast<std::size_t>(size) : 0);
    return size > 0;
  }

  bool Serve(const std::string_view* script) {
    bool moved = false;
    while (true) {
      UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd) {
        break;
      }
      moved = true;
      if (script != nullptr) {
        (void)!::write(fd.get(), script->data(), script->size());
      }
      connections_.push_back(OriginConnection{.fd = std::move(fd), .received = {}});
    }
    for (OriginConnection& connection : connections_) {
      char buffer[65536];
      ssize_t size = ::read(connection.fd.get(), buffer, sizeof(buffer));
      if (size <= 0) {
        continue;
      }
      moved = true;
      connection.received.append(buffer, static_cast<std::size_t>(size));
      if (script == nullptr) {
        std::size_t whole =
            h1_fuzz::StrictReader(connection.received, h1_fuzz::StrictReader::Kind::kRequests, {})
                .Bodies()
                .size();
        for (; connection.answered < whole; ++connection.answered) {
          (void)!::write(connection.fd.get(), kAnswer.data(), kAnswer.size());
        }
      }
    }
    return moved;
  }

  void Part(std::vector<std::string>& received) {
    for (OriginConnection& connection : connections_) {
      received.push_back(std::move(connection.received));
    }
    connections_.clear();
  }

  const std::uint8_t speaks_;
  std::string heard_;
  Loop loop_;
  BufferPool buffers_;
  Counters counters_;
  Resolver resolver_{loop_};
  Services services_;
  SessionList list_;
  TaskScope scope_;
  UniqueFd listener_;
  std::vector<OriginConnection> connections_;
};

}  // namespace tidegate::session_fuzz
