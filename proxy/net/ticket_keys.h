#pragma once

// Session tickets sealed with keys that all workers have (common/ticket_ring.h). OpenSSL asks for a
// key for each ticket (SSL_CTX_set_tlsext_ticket_key_evp_cb), so a rotation counts from the next
// ticket on, for every context and whatever connections are under way.
//
// What OpenSSL derives of a key for one ticket lies on the heap until that is done and is wiped
// then: in a core dump it can be found only if the crash happened within those microseconds.

#include <memory>

#include "common/ticket_ring.h"
#include "proxy/net/openssl.h"

namespace tidegate {

class TicketKeys {
 public:
  // Keys of our own, until Install.
  TicketKeys();
  TicketKeys(const TicketKeys&) = delete;
  TicketKeys& operator=(const TicketKeys&) = delete;

  // What comes from now on is sealed with `ring`. Tickets sealed with keys that are not in it are
  // not opened any more; their clients shake hands in full.
  void Install(TicketRing ring) { ring_ = std::move(ring); }
  const TicketRing& ring() const { return ring_; }

  // Tickets of `context` are sealed and opened with these keys. We outlive it and its connections.
  void Use(SSL_CTX* context) const;

 private:
  struct CipherDeleter {
    void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
  };

  static int OnTicket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                      EVP_MAC_CTX* mac, int seal);
  int Seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac) const;
  int Open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher,
           EVP_MAC_CTX* mac) const;

  TicketRing ring_;
  // Looked up once: OpenSSL would do it for each ticket.
  std::unique_ptr<EVP_CIPHER, CipherDeleter> aes_;
};

}  // namespace tidegate
