#include "proxy/net/ticket_keys.h"

#include <algorithm>
#include <span>

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "common/check.h"

namespace tidegate {
namespace {

constexpr std::size_t kNameSize = sizeof(TicketKey::name);
constexpr int kIvSize = 16;

// What the callback answers (SSL_CTX_set_tlsext_ticket_key_cb(3)).
constexpr int kFailed = -1;
constexpr int kNoKey = 0;
constexpr int kUse = 1;
constexpr int kUseAndRenew = 2;

// Where a context keeps its TicketKeys.
int ContextIndex() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  TG_CHECK(index >= 0);
  return index;
}

bool UseMacKey(EVP_MAC_CTX* mac, const TicketKey& key) {
  char digest[] = "SHA256";
  // OpenSSL copies both, and changes neither.
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY,
                                        const_cast<unsigned char*>(key.mac.data()), key.mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  return EVP_MAC_CTX_set_params(mac, params) == 1;
}

}  // namespace

TicketKeys::TicketKeys() : ring_(0), aes_(EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr)) {
  TG_CHECK(aes_ != nullptr);
}

void TicketKeys::Use(SSL_CTX* context) const {
  TG_CHECK(SSL_CTX_set_ex_data(context, ContextIndex(), const_cast<TicketKeys*>(this)) == 1);
  TG_CHECK(SSL_CTX_set_tlsext_ticket_key_evp_cb(context, &TicketKeys::OnTicket) == 1);
}

int TicketKeys::OnTicket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                         EVP_MAC_CTX* mac, int seal) {
  const auto* keys =
      static_cast<const TicketKeys*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ContextIndex()));
  return seal == 1 ? keys->Seal(name, iv, cipher, mac) : keys->Open(name, iv, cipher, mac);
}

int TicketKeys::Seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                     EVP_MAC_CTX* mac) const {
  const TicketKey& key = ring_.current();
  std::ranges::copy(key.name, name);
  bool done = RAND_bytes(iv, kIvSize) == 1 &&
              EVP_EncryptInit_ex2(cipher, aes_.get(), key.cipher.data(), iv, nullptr) == 1 &&
              UseMacKey(mac, key);
  return done ? kUse : kFailed;
}

int TicketKeys::Open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher,
                     EVP_MAC_CTX* mac) const {
  const std::span<const unsigned char> wanted(name, kNameSize);
  for (const TicketKey* key : {&ring_.current(), &ring_.previous(), &ring_.next()}) {
    // The names are public: it does not matter how long this takes.
    if (!std::ranges::equal(key->name, wanted)) {
      continue;
    }
    if (!UseMacKey(mac, *key) ||
        EVP_DecryptInit_ex2(cipher, aes_.get(), key->cipher.data(), iv, nullptr) != 1) {
      return kFailed;
    }
    // One of `next` is newer than what we would give for it.
    return key == &ring_.previous() ? kUseAndRenew : kUse;
  }
  return kNoKey;
}

}  // namespace tidegate
