#pragma once

// Which sessions may be resumed. A ticket carries, beside OpenSSL's session, for which certificate
// the client has trusted us and since when; it is good only
//
//   - for the name that it was made for: RFC 6066 section 3 forbids another one to TLS 1.2, which
//     OpenSSL does not look after, and for TLS 1.3 it would let a client mix up two hosts;
//   - as long as that name has that certificate: who replaces one, perhaps because its key is
//     known, wants no session of it any more;
//   - for a week from the full handshake on, through all renewals (RFC 8446 section 4.6.1).
//
// Everything else is a full handshake, never a failure.

#include "proxy/net/certificate_store.h"
#include "proxy/net/openssl.h"

namespace tidegate {

// For all tickets of `context`. `certificates` outlives it and its connections.
void JudgeSessions(SSL_CTX* context, const CertificateStore& certificates);

}  // namespace tidegate
