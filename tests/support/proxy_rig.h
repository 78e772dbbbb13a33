#pragma once

// The parts of a worker without a supervisor: a loop, services with a configuration, and an origin
// whose sockets the test holds.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "common/config_load.h"
#include "proxy/services.h"
#include "proxy/session.h"

namespace tidegate {

class ProxyRig : public ::testing::Test, public SessionResumer {
 protected:
  ProxyRig()
      : services{.loop = loop, .buffers = buffers, .counters = counters},
        sessions(services, *this) {
    std::signal(SIGPIPE, SIG_IGN);
    origin.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(::bind(origin.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::listen(origin.get(), 16), 0);
    EXPECT_EQ(::getsockname(origin.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    origin_address = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }

  // Puts a configuration in force; "ORIGIN" in it becomes the origin's address.
  void Configure(std::string text) {
    for (std::size_t at = text.find("ORIGIN"); at != std::string::npos; at = text.find("ORIGIN")) {
      text.replace(at, 6, origin_address);
    }
    auto loaded = LoadConfigText("test.json", text, [](std::string_view) { return std::nullopt; });
    ASSERT_TRUE(loaded.has_value()) << FormatDiagnostics(loaded.error());
    const Snapshot* before = services.snapshot.get();
    auto client_tls = ClientTlsContexts::Make(loaded->config,
                                              before != nullptr ? &before->client_tls() : nullptr);
    ASSERT_TRUE(client_tls.has_value()) << client_tls.error().ToString();
    ForgetFileContents(loaded->config);
    Snapshot::Parts parts{.loop = loop,
                          .buffers = buffers,
                          .resolver = resolver,
                          .counters = counters,
                          .workers = 1,
                          .client_tls = std::move(*client_tls)};
    services.snapshot =
        std::make_shared<const Snapshot>(parts, std::move(loaded->config), services.snapshot.get());
    services.snapshot->PutInForce();
  }

  void Turn() {
    for (int i = 0; i < 30; ++i) {
      loop.RunNoWait();
    }
  }
  // Turns until `done`, at most some seconds.
  void TurnUntil(const std::function<bool()>& done) {
    TimePoint end = loop.now() + 5000;
    bool is_done = done();
    while (!is_done && loop.now() < end) {
      loop.RunNoWait();
      is_done = done();
    }
    EXPECT_TRUE(is_done);
  }

  // A connection that the proxy has opened to the origin.
  UniqueFd AcceptAtOrigin() {
    UniqueFd fd;
    TurnUntil([&] {
      fd.Reset(::accept4(origin.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      return static_cast<bool>(fd);
    });
    return fd;
  }
  bool NobodyAtOrigin() {
    Turn();
    return !UniqueFd(::accept4(origin.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  }
  void Send(const UniqueFd& fd, std::string_view text) {
    EXPECT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    Turn();
  }
  // Octets that have come, until `end` is at their end.
  std::string ReceiveUntil(const UniqueFd& fd, std::string_view end) {
    std::string out;
    TurnUntil([&] {
      char buffer[4096];
      ssize_t size = ::read(fd.get(), buffer, sizeof(buffer));
      if (size > 0) {
        out.append(buffer, static_cast<std::size_t>(size));
      }
      return out.ends_with(end);
    });
    return out;
  }
  // True once the other side has closed and nothing is left to read.
  bool Closed(const UniqueFd& fd) {
    bool closed = false;
    TurnUntil([&] {
      char buffer[4096];
      ssize_t size = ::read(fd.get(), buffer, sizeof(buffer));
      closed = size == 0 || (size < 0 && errno != EAGAIN);
      return closed;
    });
    return closed;
  }

  // A client of a session of its own.
  UniqueFd Connect() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    scope.Start(RunSession(UniqueFd(ends[0])));
    Turn();
    return UniqueFd(ends[1]);
  }
  Task<void> RunSession(UniqueFd fd) {
    ClientInfo client{.peer = "192.0.2.1:5000",
                      .ip = "192.0.2.1",
                      .has_ip = true,
                      .speaks = speaks,
                      .listener = "default",
                      .port = "80"};
    Session session(services, sessions, std::move(fd), client, tls);
    co_await session.Run();
  }
  void ResumeSession(IdleConnection connection) override {
    scope.Start(RunResumed(std::make_unique<Session>(services, sessions, std::move(connection))));
  }
  Task<void> RunResumed(std::unique_ptr<Session> session) { co_await session->Run(); }

  // What clients of sessions to come may speak.
  std::uint8_t speaks = ClientInfo::SpeaksBit(Protocol::kH1);
  // How they speak; null: without TLS.
  std::shared_ptr<const ServerTls> tls;
  Loop loop;
  BufferPool buffers;
  Counters counters;
  Resolver resolver{loop};
  Services services;
  SessionList sessions;
  TaskScope scope;
  UniqueFd origin;
  std::string origin_address;
};

}  // namespace tidegate
