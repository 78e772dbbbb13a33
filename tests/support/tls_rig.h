#pragma once

// A TlsStream over a socket pair or over a stream that the test plays, and a client at the other
// end.

#include <sys/socket.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/socket.h"
#include "proxy/net/tls_stream.h"
#include "tests/support/played_stream.h"
#include "tests/support/test_certificates.h"
#include "tests/support/tls_client.h"

namespace tidegate {

class TlsRig : public ::testing::Test, protected StreamOwner {
 protected:
  // "example.org" in ECDSA and RSA, "*.wild.example" in ECDSA; made once a process.
  static const std::shared_ptr<const CertificateStore>& Certificates() {
    static const std::shared_ptr<const CertificateStore> store = [] {
      std::vector<CertificateMaterial> materials;
      materials.push_back(TestMaterial({.hosts = {"example.org"}, .key = "P-256"}));
      materials.push_back(TestMaterial({.hosts = {"example.org"}, .key = "RSA-2048"}));
      materials.push_back(TestMaterial({.hosts = {"*.wild.example"}, .key = "P-256"}));
      auto made = CertificateStore::Make(materials);
      TG_CHECK(made.has_value());
      return *made;
    }();
    return store;
  }

  TlsRig() {
    std::signal(SIGPIPE, SIG_IGN);
    UseProfile(TlsProfile::kIntermediate);
  }
  ~TlsRig() override {
    stream.reset();
    EXPECT_EQ(ERR_peek_error(), 0UL) << "invariant 6 of TlsStream, after every test";
  }

  void UseProfile(TlsProfile profile, std::vector<std::string> protocols = {"http/1.1"}) {
    auto made = ServerTls::Make(profile, Certificates(), protocols, keys, rotation);
    TG_CHECK(made.has_value());
    tls = *made;
  }
  // Over a socket pair; the client has the other end.
  void Connect(const TlsClientWish& wish = {}) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    client = std::make_unique<TlsClient>(wish, UniqueFd(ends[1]));
    Start(SocketStream::Adopt(loop, pool, UniqueFd(ends[0])));
  }
  // Over a stream that the test plays.
  void Play(const TlsClientWish& wish = {}) {
    client = std::make_unique<TlsClient>(wish);
    auto below = std::make_unique<PlayedStream>();
    played = below.get();
    Start(std::move(below));
  }
  void Start(std::unique_ptr<Stream> below) {
    stream.reset();
    stream =
        TlsStream::Accept(loop, pool, handshakes, std::move(below), tls, std::chrono::seconds(10));
    Call([&] { stream->SetOwner(this); });
  }
  // The handshake of both sides; true when both are done.
  bool Shake() {
    for (int i = 0; i < 100 && !(stream->handshake_done() && client->Handshake()); ++i) {
      client->Handshake();
      Carry();
    }
    bool done = stream->handshake_done() && client->Handshake();
    Carry();
    return done;
  }
  void ConnectAndShake(const TlsClientWish& wish = {}) {
    Connect(wish);
    ASSERT_TRUE(Shake());
    readable = 0;
  }
  void PlayAndShake(const TlsClientWish& wish = {}) {
    Play(wish);
    ASSERT_TRUE(Shake());
    readable = 0;
    played->writes = 0;
  }
  // What either side has goes to the other.
  void Carry() {
    if (client->fd) {
      client->Carry();
      loop.RunNoWait();
      client->Carry();
    } else {
      if (std::string octets = client->TakeOctets(); !octets.empty()) {
        played->Come(octets);
      }
      loop.RunNoWait();
      client->GiveOctets(played->TakeWritten());
    }
  }
  void TurnUntil(const std::function<bool()>& done) {
    // Not a number of turns: what waits for its own turn has a timer, and turns may be short.
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done() && std::chrono::steady_clock::now() < until) {
      Carry();
    }
    EXPECT_TRUE(done());
  }
  void Turn() {
    for (int i = 0; i < 20; ++i) {
      Carry();
    }
  }

  // Octets that tell a shift or a gap.
  static std::string Text(std::size_t size) {
    std::string text(size, 0);
    for (std::size_t i = 0; i < size; ++i) {
      text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
    }
    return text;
  }

  // Around every call of the stream: no callback may come from within.
  void Call(const std::function<void()>& call) {
    calling = true;
    call();
    calling = false;
  }
  Stream::WriteStatus Write(std::vector<std::string>& parts) {
    std::vector<uv_buf_t> buffers;
    for (std::string& part : parts) {
      buffers.push_back({.base = part.data(), .len = part.size()});
    }
    Stream::WriteStatus status{};
    Call([&] { status = stream->Write(buffers); });
    return status;
  }
  std::string Readable() {
    std::span<char> octets = stream->readable();
    return {octets.data(), octets.size()};
  }
  std::string TakeReadable() {
    std::string octets = Readable();
    Call([&] { stream->Consume(octets.size()); });
    return octets;
  }

  void OnReadable() override {
    EXPECT_FALSE(calling);
    ++readable;
    if (on_readable) {
      on_readable();
    }
  }
  void OnWritten() override {
    EXPECT_FALSE(calling);
    ++written;
    if (on_written) {
      on_written();
    }
  }

  Loop loop;
  BufferPool pool;
  // By the test's clock: no handshake waits in line unless the test lets time pass.
  Handshakes handshakes{loop, [] { return clock_of_handshakes; }};
  static inline std::uint64_t clock_of_handshakes = 0;
  TicketKeys keys;
  Duration rotation = std::chrono::hours(12);
  std::shared_ptr<const ServerTls> tls;
  std::unique_ptr<TlsStream> stream;
  std::unique_ptr<TlsClient> client;
  PlayedStream* played = nullptr;
  bool calling = false;
  int readable = 0;
  int written = 0;
  std::function<void()> on_readable;
  std::function<void()> on_written;
};

}  // namespace tidegate
