#include "proxy/http/h2_websocket.h"

#include <array>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "common/check.h"

namespace tidegate {
namespace {

template <std::size_t kSize>
std::string Base64(const std::array<unsigned char, kSize>& octets) {
  // OpenSSL writes a NUL behind it.
  std::array<unsigned char, 4 * ((kSize + 2) / 3) + 1> text;
  const int size = EVP_EncodeBlock(text.data(), octets.data(), kSize);
  return {reinterpret_cast<const char*>(text.data()), static_cast<std::size_t>(size)};
}

}  // namespace

std::string MakeWebSocketKey() {
  std::array<unsigned char, 16> nonce;
  TG_CHECK(RAND_bytes(nonce.data(), static_cast<int>(nonce.size())) == 1);
  return Base64(nonce);
}

std::string WebSocketAcceptOf(std::string_view key) {
  constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::string text(key);
  text += kGuid;
  std::array<unsigned char, 20> digest;
  unsigned size = 0;
  TG_CHECK(EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr) == 1 &&
           size == digest.size());
  return Base64(digest);
}

}  // namespace tidegate
