#include "proxy/net/session_note.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <optional>
#include <string_view>

#include <openssl/tls1.h>

namespace tidegate {
namespace {

constexpr std::int64_t kLongestSession = std::int64_t{7} * 24 * 3600;

// In each ticket. Its size tells it from what another version writes.
struct Note {
  CertificateFingerprint certificate;
  // Unix time in seconds.
  std::int64_t began;
};
static_assert(sizeof(Note) == 24);

std::optional<Note> NoteOf(SSL_SESSION* session) {
  void* data = nullptr;
  std::size_t size = 0;
  if (SSL_SESSION_get0_ticket_appdata(session, &data, &size) != 1 || size != sizeof(Note)) {
    return std::nullopt;
  }
  Note note;
  std::memcpy(&note, data, sizeof(note));
  return note;
}

// The name in the ClientHello: empty if there is none; nothing if it is malformed, which OpenSSL
// will say to the client a little later. OpenSSL itself has not looked at it when it reads a
// ticket.
std::optional<std::string_view> AskedName(SSL* ssl) {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size) != 1) {
    return "";
  }
  // A list with one host name (RFC 6066 section 3): the length of the list, the type, the length of
  // the name, the name.
  constexpr std::size_t kHead = 5;
  if (size < kHead) {
    return std::nullopt;
  }
  auto list = static_cast<std::size_t>(data[0] << 8 | data[1]);
  auto name = static_cast<std::size_t>(data[3] << 8 | data[4]);
  if (list != size - 2 || data[2] != TLSEXT_NAMETYPE_host_name || name != size - kHead) {
    return std::nullopt;
  }
  return std::string_view(reinterpret_cast<const char*>(data) + kHead, name);
}

bool MayResume(SSL* ssl, SSL_SESSION* session, const CertificateStore& certificates) {
  std::optional<Note> note = NoteOf(session);
  std::optional<std::string_view> asked = AskedName(ssl);
  if (!note || !asked || std::time(nullptr) - note->began > kLongestSession) {
    return false;
  }
  const char* made_for = SSL_SESSION_get0_hostname(session);
  if (CanonicalHost(made_for != nullptr ? made_for : "") != CanonicalHost(*asked)) {
    return false;
  }
  return std::ranges::any_of(certificates.Find(*asked), [&](const Certificate* each) {
    return each->fingerprint == note->certificate;
  });
}

// A ticket is about to be written. 0 ends the handshake.
int OnTicketWritten(SSL* ssl, void* store) {
  SSL_SESSION* session = SSL_get_session(ssl);
  if (NoteOf(session)) {
    // Resumed: it goes on with what was true in the full handshake.
    return 1;
  }
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  const X509* served = SSL_get_certificate(ssl);
  const auto& certificates = *static_cast<const CertificateStore*>(store);
  for (const Certificate* each : certificates.Find(name != nullptr ? name : "")) {
    if (each->leaf.get() == served) {
      Note note{.certificate = each->fingerprint, .began = std::time(nullptr)};
      return SSL_SESSION_set1_ticket_appdata(session, &note, sizeof(note));
    }
  }
  // Without a note nobody resumes it.
  return 1;
}

// A ticket was read, or could not be.
SSL_TICKET_RETURN OnTicketRead(SSL* ssl, SSL_SESSION* session, const unsigned char*, std::size_t,
                               SSL_TICKET_STATUS status, void* store) {
  bool opened = status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW;
  if (!opened || !MayResume(ssl, session, *static_cast<const CertificateStore*>(store))) {
    return SSL_TICKET_RETURN_IGNORE_RENEW;
  }
  return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

}  // namespace

void JudgeSessions(SSL_CTX* context, const CertificateStore& certificates) {
  SSL_CTX_set_session_ticket_cb(context, &OnTicketWritten, &OnTicketRead,
                                const_cast<CertificateStore*>(&certificates));
}

}  // namespace tidegate
