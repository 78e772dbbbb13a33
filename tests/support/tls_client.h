#pragma once

// A client, or a server, of OpenSSL whose octets the test carries: over a socket, or piece by
// piece.

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/check.h"
#include "common/unique_fd.h"
#include "proxy/net/openssl.h"

namespace tidegate {

struct TlsClientWish {
  // Empty: none is sent.
  std::string server_name = "example.org";
  int oldest = TLS1_2_VERSION;
  int newest = TLS1_3_VERSION;
  // For TLS 1.2 and older; empty: OpenSSL's own.
  std::string ciphers = {};
  std::string ciphers_of_13 = {};
  std::string signatures = {};
  // As ALPN has it: "\x08http/1.1".
  std::string alpn = {};
  SSL_SESSION* session = nullptr;
  // Its own certificate and key; null: none.
  X509* certificate = nullptr;
  EVP_PKEY* key = nullptr;
  // Ask for an OCSP response.
  bool status_request = false;
};

// What both ends are to the test.
class TlsTestPeer {
 public:
  SSL* ssl() const { return ssl_.get(); }
  // A record of TLS_AES_128_GCM_SHA256 made by hand, which OpenSSL would not send: `number` records
  // with application keys have gone before (RFC 8446 section 5.2).
  std::string SealByHand(std::string_view content, char type, std::uint64_t number) const {
    TG_CHECK(secret_.size() == 32);
    std::string key = Expand("key", 16);
    std::string nonce = Expand("iv", 12);
    for (int i = 0; i < 8; ++i) {
      char& octet = nonce[nonce.size() - 1 - static_cast<std::size_t>(i)];
      octet = static_cast<char>(octet ^ static_cast<char>(number >> (8 * i)));
    }
    std::string inner = std::string(content) + type;
    std::string head = {23, 3, 3, 0, static_cast<char>(inner.size() + 16)};
    std::string sealed(inner.size() + 16, 0);
    int size = 0;
    std::unique_ptr<EVP_CIPHER_CTX, OpenSslDeleter<&EVP_CIPHER_CTX_free>> cipher(
        EVP_CIPHER_CTX_new());
    EVP_EncryptInit_ex(cipher.get(), EVP_aes_128_gcm(), nullptr, Octets(key), Octets(nonce));
    EVP_EncryptUpdate(cipher.get(), nullptr, &size, Octets(head), 5);
    EVP_EncryptUpdate(cipher.get(), Octets(sealed), &size, Octets(inner),
                      static_cast<int>(inner.size()));
    EVP_EncryptFinal_ex(cipher.get(), Octets(sealed) + size, &size);
    EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_GET_TAG, 16, Octets(sealed) + inner.size());
    return head + sealed;
  }
  // Goes on with the handshake; true when it is done.
  bool Handshake() {
    ERR_clear_error();
    int result = SSL_do_handshake(ssl());
    Note(result);
    return result == 1;
  }
  // All of it, into the octets to be carried.
  void Write(std::string_view text) {
    ERR_clear_error();
    std::size_t written = 0;
    Note(SSL_write_ex(ssl(), text.data(), text.size(), &written));
  }
  // What has come and could be decrypted, into `received`.
  void Read() {
    char buffer[16384];
    std::size_t got = 0;
    ERR_clear_error();
    int result = 0;
    while ((result = SSL_read_ex(ssl(), buffer, sizeof(buffer), &got)) == 1) {
      received.append(buffer, got);
    }
    Note(result);
    ended = ended || (SSL_get_shutdown(ssl()) & SSL_RECEIVED_SHUTDOWN) != 0;
  }
  void CloseNotify() { SSL_shutdown(ssl()); }

  // What it wants to send.
  std::string TakeOctets() {
    std::string octets(BIO_ctrl_pending(SSL_get_wbio(ssl())), 0);
    if (!octets.empty()) {
      BIO_read(SSL_get_wbio(ssl()), octets.data(), static_cast<int>(octets.size()));
    }
    return octets;
  }
  void GiveOctets(std::string_view octets) {
    if (!octets.empty()) {
      BIO_write(SSL_get_rbio(ssl()), octets.data(), static_cast<int>(octets.size()));
    }
  }
  // Both ways over the socket, as far as it takes and has; `most` octets are read.
  void Carry(std::size_t most = std::size_t{1} << 20) {
    unsent_ += TakeOctets();
    ssize_t size = 0;
    while (!unsent_.empty() &&
           (size = ::send(fd.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL)) > 0) {
      unsent_.erase(0, static_cast<std::size_t>(size));
    }
    std::string buffer(65536, 0);
    while (most > 0 &&
           (size = ::read(fd.get(), buffer.data(), std::min(buffer.size(), most))) > 0) {
      GiveOctets({buffer.data(), static_cast<std::size_t>(size)});
      most -= static_cast<std::size_t>(size);
    }
    if (most > 0) {
      closed = closed || size == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
  }
  bool all_sent() const { return unsent_.empty(); }

  UniqueFd fd;
  std::string received;
  // The first failure, in OpenSSL's words; empty while all is well.
  std::string failure;
  // A close_notify has come.
  bool ended = false;
  // The socket has ended or failed.
  bool closed = false;

 protected:
  TlsTestPeer(OwnedSslContext context, UniqueFd socket)
      : fd(std::move(socket)), context_(std::move(context)), ssl_(SSL_new(context_.get())) {
    SSL_CTX_set_keylog_callback(context_.get(), &TlsTestPeer::OnSecret);
    SSL_set_app_data(ssl(), this);
    SSL_set_bio(ssl(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(ssl()), -1);
  }

 private:
  static unsigned char* Octets(std::string& text) {
    return reinterpret_cast<unsigned char*>(text.data());
  }
  // "CLIENT_TRAFFIC_SECRET_0", the client's random, the secret; the last two in hexadecimal.
  static void OnSecret(const SSL* ssl, const char* line) {
    std::string_view text = line;
    if (!text.starts_with("CLIENT_TRAFFIC_SECRET_0 ")) {
      return;
    }
    text.remove_prefix(text.rfind(' ') + 1);
    auto& secret = static_cast<TlsTestPeer*>(SSL_get_app_data(ssl))->secret_;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
      secret += static_cast<char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16));
    }
  }
  // RFC 8446 section 7.1; one block of HKDF is enough for it.
  std::string Expand(const std::string& label, char size) const {
    std::string info = {0, size, static_cast<char>(label.size() + 6)};
    info += "tls13 " + label + std::string{0, 1};
    std::string block(32, 0);
    unsigned block_size = 0;
    HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()), Octets(info), info.size(),
         Octets(block), &block_size);
    return block.substr(0, static_cast<std::size_t>(size));
  }

  void Note(int result) {
    if (result <= 0 && SSL_get_error(ssl(), result) == SSL_ERROR_SSL && failure.empty()) {
      failure = TakeOpenSslError("failed");
    }
    ERR_clear_error();
  }

  OwnedSslContext context_;
  OwnedSsl ssl_;
  std::string unsent_;
  // Of the application keys of TLS 1.3.
  std::string secret_;
};

class TlsClient : public TlsTestPeer {
 public:
  explicit TlsClient(const TlsClientWish& wish, UniqueFd socket = {})
      : TlsTestPeer(ContextOf(wish), std::move(socket)) {
    if (!wish.server_name.empty()) {
      SSL_set_tlsext_host_name(ssl(), wish.server_name.c_str());
    }
    if (!wish.alpn.empty()) {
      SSL_set_alpn_protos(ssl(), reinterpret_cast<const unsigned char*>(wish.alpn.data()),
                          static_cast<unsigned>(wish.alpn.size()));
    }
    if (wish.certificate != nullptr) {
      TG_CHECK(SSL_use_certificate(ssl(), wish.certificate) == 1 &&
               SSL_use_PrivateKey(ssl(), wish.key) == 1);
    }
    if (wish.status_request) {
      SSL_set_tlsext_status_type(ssl(), TLSEXT_STATUSTYPE_ocsp);
    }
    if (wish.session != nullptr) {
      SSL_set_session(ssl(), wish.session);
    }
    SSL_set_connect_state(ssl());
  }

 private:
  static OwnedSslContext ContextOf(const TlsClientWish& wish) {
    StartOpenSsl();
    OwnedSslContext made(SSL_CTX_new(TLS_client_method()));
    SSL_CTX* context = made.get();
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, wish.oldest);
    SSL_CTX_set_max_proto_version(context, wish.newest);
    TG_CHECK(wish.ciphers.empty() || SSL_CTX_set_cipher_list(context, wish.ciphers.c_str()) == 1);
    TG_CHECK(wish.ciphers_of_13.empty() ||
             SSL_CTX_set_ciphersuites(context, wish.ciphers_of_13.c_str()) == 1);
    TG_CHECK(wish.signatures.empty() ||
             SSL_CTX_set1_sigalgs_list(context, wish.signatures.c_str()) == 1);
    return made;
  }
};

}  // namespace tidegate
