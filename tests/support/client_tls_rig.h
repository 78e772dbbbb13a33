#pragma once

// A TlsStream as the client over a stream that the test plays, and a server at the other end.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "proxy/net/client_tls.h"
#include "proxy/net/tls_stream.h"
#include "tests/support/played_stream.h"
#include "tests/support/tls_server.h"

namespace tidegate {

class ClientTlsRig : public ::testing::Test, protected StreamOwner {
 protected:
  // Who signs; its key is nobody else's.
  static const TestCertificate& Authority() {
    static const TestCertificate made =
        MakeTestCertificate({.hosts = {"authority"}, .is_authority = true}, true);
    return made;
  }
  static TestCertificate Signed(TestCertificateWish wish) {
    wish.issuer = &Authority();
    return MakeTestCertificate(wish);
  }
  static SharedRoots Roots(const std::string& pem) {
    std::vector<std::string> faults;
    SharedRoots roots = ReadRoots(pem, "ca.pem", faults);
    EXPECT_TRUE(faults.empty()) << faults.front();
    return roots;
  }
  static std::shared_ptr<ClientTls> Tls(std::string server_name,
                                        SharedRoots roots = Roots(PemOf(Authority()))) {
    auto made = ClientTls::Make({.roots = std::move(roots), .server_name = std::move(server_name)});
    TG_CHECK(made.has_value());
    return *made;
  }

  ~ClientTlsRig() override {
    stream.reset();
    peer.reset();
    EXPECT_EQ(ERR_peek_error(), 0UL) << "invariant 6 of TlsStream, after every test";
  }

  void Serve(const TlsServerWish& wish) { server_context = MakeTestServer(wish); }
  void Connect(const std::shared_ptr<ClientTls>& tls,
               const std::string& address = "192.0.2.1:443") {
    // Held by the last connection, too: sessions are its endpoint's.
    std::shared_ptr<TlsPeer> next = tls->PeerOf(*ParseAddress(address));
    stream.reset();
    peer = std::move(next);
    server = std::make_unique<TlsServer>(server_context.get());
    auto below = std::make_unique<PlayedStream>();
    played = below.get();
    readable = 0;
    stream = TlsStream::Connect(loop, pool, std::move(below), peer, std::chrono::seconds(10));
    stream->SetOwner(this);
  }
  bool Shake() {
    for (int i = 0; i < 50; ++i) {
      Carry();
    }
    return stream->handshake_done();
  }
  bool ConnectAndShake(const std::shared_ptr<ClientTls>& tls,
                       const std::string& address = "192.0.2.1:443") {
    Connect(tls, address);
    return Shake();
  }
  // Both ways, and the server goes on with its handshake.
  void Carry() {
    loop.RunNoWait();
    server->GiveOctets(played->TakeWritten());
    server->Handshake();
    if (SSL_is_init_finished(server->ssl()) == 1) {
      server->Read();
    }
    if (std::string octets = server->TakeOctets();
        !octets.empty() && stream->read_state() == Stream::ReadState::kOpen) {
      played->Come(octets);
    }
  }
  std::string Fault() const {
    return stream->handshake_error() ? stream->handshake_error()->detail() : "";
  }
  std::string Readable() {
    std::span<char> octets = stream->readable();
    return {octets.data(), octets.size()};
  }
  Stream::WriteStatus Write(std::string& text) {
    uv_buf_t buffer{.base = text.data(), .len = text.size()};
    return stream->Write({&buffer, 1});
  }

  void OnReadable() override { ++readable; }
  void OnWritten() override { ++written; }

  Loop loop;
  BufferPool pool;
  OwnedSslContext server_context;
  std::shared_ptr<TlsPeer> peer;
  std::unique_ptr<TlsStream> stream;
  std::unique_ptr<TlsServer> server;
  PlayedStream* played = nullptr;
  int readable = 0;
  int written = 0;
};

}  // namespace tidegate
