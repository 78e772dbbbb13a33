#include "proxy/net/client_tls.h"

#include <arpa/inet.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "common/check.h"

namespace tidegate {
namespace {

// 112 bits, of the certificates too.
constexpr int kSecurityLevel = 2;
// As ALPN has it (RFC 7301 section 3.1).
constexpr std::string_view kProtocol = "\x08http/1.1";
// Of a certificate, in a log line.
constexpr std::size_t kMostNamesTold = 5;

// Called where the peer gives something to resume: at the end of a handshake of TLS 1.2, and for
// each ticket of 1.3. 1: the session is ours now.
int OnNewSession(SSL* ssl, SSL_SESSION* session) {
  TlsPeer* peer = TlsPeer::Of(ssl);
  if (peer == nullptr) {
    return 0;
  }
  peer->Keep(OwnedSslSession(session));
  return 1;
}

std::string WithoutBrackets(std::string host) {
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  }
  return host;
}

bool IsAddress(const std::string& host) {
  in6_addr ignored;
  return inet_pton(AF_INET, host.c_str(), &ignored) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &ignored) == 1;
}

}  // namespace

SharedRoots ReadRoots(std::string_view pem, const std::string& name,
                      std::vector<std::string>& faults) {
  StartOpenSsl();
  std::vector<std::string> found;
  std::vector<OwnedX509> certificates = ReadCertificates(pem, found);
  SharedRoots roots(X509_STORE_new(), &X509_STORE_free);
  TG_CHECK(roots != nullptr);
  for (const OwnedX509& certificate : certificates) {
    // One that is there twice is there.
    X509_STORE_add_cert(roots.get(), certificate.get());
  }
  ERR_clear_error();
  X509_STORE_set_flags(roots.get(), X509_V_FLAG_PARTIAL_CHAIN);
  for (const std::string& fault : found) {
    faults.push_back(fmt::format("{}: {}", name, fault));
  }
  return found.empty() ? roots : nullptr;
}

ClientTls::ClientTls(ClientTlsSettings settings) : settings_(std::move(settings)) {}

Result<std::shared_ptr<ClientTls>> ClientTls::Make(ClientTlsSettings settings) {
  StartOpenSsl();
  ERR_clear_error();
  std::shared_ptr<ClientTls> tls(new ClientTls(std::move(settings)));
  tls->context_.reset(SSL_CTX_new(TLS_client_method()));
  TG_CHECK(tls->context_ != nullptr);
  if (!tls->Configure()) {
    return Fail(ErrorKind::kConfig, "OpenSSL refuses TLS towards upstreams: " +
                                        TakeOpenSslError("it does not say why"));
  }
  return tls;
}

bool ClientTls::Configure() {
  SSL_CTX* context = context_.get();
  SSL_CTX_set_security_level(context, kSecurityLevel);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // No buffers for a connection that is idle. What we show is sent as it was given.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, &OnNewSession);
  SSL_CTX_set_verify(context, verifies() ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  if (verifies()) {
    SSL_CTX_set1_cert_store(context, settings_.roots.get());
  }
  const Certificate* shown = certificate();
  if (shown != nullptr && SSL_CTX_use_cert_and_key(context, shown->leaf.get(), shown->key.get(),
                                                   shown->chain.get(), 1) != 1) {
    return false;
  }
  // Of the last one 0 is the success.
  return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(kProtocol.data()),
                                 static_cast<unsigned>(kProtocol.size())) == 0;
}

std::shared_ptr<TlsPeer> ClientTls::PeerOf(const Address& endpoint) {
  std::weak_ptr<TlsPeer>& known = peers_[endpoint.ToString()];
  std::shared_ptr<TlsPeer> peer = known.lock();
  if (peer == nullptr) {
    std::string host = settings_.server_name.empty() ? endpoint.host : settings_.server_name;
    peer = std::make_shared<TlsPeer>(shared_from_this(), std::move(host));
    known = peer;
    std::erase_if(peers_, [](const auto& each) { return each.second.expired(); });
  }
  return peer;
}

TlsPeer::TlsPeer(std::shared_ptr<const ClientTls> tls, std::string host)
    : tls_(std::move(tls)),
      host_(CanonicalHost(WithoutBrackets(std::move(host)))),
      is_address_(IsAddress(host_)) {}

TlsPeer* TlsPeer::Of(const SSL* ssl) {
  return static_cast<TlsPeer*>(SSL_get_app_data(ssl));
}

OwnedSsl TlsPeer::Open() {
  OwnedSsl ssl(SSL_new(tls_->context()));
  TG_CHECK(ssl != nullptr);
  SSL_set_app_data(ssl.get(), this);
  SSL_set_connect_state(ssl.get());
  // An address is not a name to ask for (RFC 6066 section 3).
  if (!is_address_ && !host_.empty()) {
    SSL_set_tlsext_host_name(ssl.get(), host_.c_str());
  }
  if (tls_->verifies()) {
    X509_VERIFY_PARAM* wanted = SSL_get0_param(ssl.get());
    // The names of the subjectAltName only (RFC 9525 section 2), a wildcard for one whole label.
    X509_VERIFY_PARAM_set_hostflags(
        wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    // A certificate for nobody in particular would be anybody's.
    TG_CHECK(!host_.empty());
    int set = is_address_ ? X509_VERIFY_PARAM_set1_ip_asc(wanted, host_.c_str())
                          : X509_VERIFY_PARAM_set1_host(wanted, host_.data(), host_.size());
    TG_CHECK(set == 1);
  }
  OwnedSslSession session = TakeSession();
  if (session != nullptr) {
    SSL_set_session(ssl.get(), session.get());
  }
  ERR_clear_error();
  return ssl;
}

std::time_t MadeAt(const SSL_SESSION* session) {
#if OPENSSL_VERSION_NUMBER >= \
    0x30300000L  // The other one is deprecated: it ends in 2038 on some systems.
  return SSL_SESSION_get_time_ex(session);
#else
  return SSL_SESSION_get_time(session);
#endif
}

bool MayResume(SSL_SESSION* session, std::time_t now) {
  X509* certificate = SSL_SESSION_get0_peer(session);
  bool valid = certificate == nullptr || X509_cmp_time(X509_get0_notAfter(certificate), &now) > 0;
  return valid && SSL_SESSION_is_resumable(session) == 1 &&
         MadeAt(session) + SSL_SESSION_get_timeout(session) > now;
}

OwnedSslSession TlsPeer::TakeSession() {
  std::time_t now = std::time(nullptr);
  std::erase_if(sessions_,
                [&](const OwnedSslSession& session) { return !MayResume(session.get(), now); });
  if (sessions_.empty()) {
    return nullptr;
  }
  if (SSL_SESSION_get_protocol_version(sessions_.back().get()) < TLS1_3_VERSION) {
    SSL_SESSION_up_ref(sessions_.back().get());
    return OwnedSslSession(sessions_.back().get());
  }
  OwnedSslSession session = std::move(sessions_.back());
  sessions_.pop_back();
  return session;
}

void TlsPeer::Keep(OwnedSslSession session) {
  if (sessions_.size() == kMostSessions) {
    sessions_.erase(sessions_.begin());
  }
  sessions_.push_back(std::move(session));
}

// A server that chooses nothing speaks HTTP/1.1.
std::string TlsPeer::FaultOf(const SSL* ssl) const {
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl, &chosen, &size);
  std::string_view protocol(reinterpret_cast<const char*>(chosen), size);
  if (size > 0 && protocol != kProtocol.substr(1)) {
    return "the server chose a protocol that was not offered";
  }
  return {};
}

Error TlsPeer::TakeError(const SSL* ssl, const char* otherwise) const {
  unsigned long last = ERR_peek_last_error();
  int reason = ERR_GET_LIB(last) == ERR_LIB_SSL ? ERR_GET_REASON(last) : 0;
  bool is_verification = reason == SSL_R_CERTIFICATE_VERIFY_FAILED;
  bool is_alert = reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256;
  std::string text = TakeOpenSslError(otherwise);
  if (is_verification) {
    return Error(ErrorKind::kUpstreamTlsVerify, FaultOfCertificate(ssl));
  }
  return Error(is_alert ? ErrorKind::kUpstreamTlsAlert : ErrorKind::kUpstreamTlsHandshake,
               std::move(text));
}

std::string TlsPeer::FaultOfCertificate(const SSL* ssl) const {
  long fault = SSL_get_verify_result(ssl);
  std::string text = X509_verify_cert_error_string(fault);
  STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl);
  bool other_name =
      fault == X509_V_ERR_HOSTNAME_MISMATCH || fault == X509_V_ERR_IP_ADDRESS_MISMATCH;
  if (!other_name || sk_X509_num(chain) <= 0) {
    return text;
  }
  std::vector<std::string> names = NamesOf(sk_X509_value(chain, 0));
  std::string listed = "nobody by name";
  if (!names.empty()) {
    bool more = names.size() > kMostNamesTold;
    names.resize(std::min(names.size(), kMostNamesTold));
    listed = fmt::format("{}{}", fmt::join(names, ", "), more ? ", ..." : "");
  }
  return fmt::format("{}: the certificate is for {}, not for {}", text, listed, host_);
}

}  // namespace tidegate
