#include "proxy/net/session_note.h"

#include <memory>
#include <string>
#include <vector>

#include "tests/support/tls_rig.h"

namespace tidegate {
namespace {

struct SessionDeleter {
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};
using OwnedSession = std::unique_ptr<SSL_SESSION, SessionDeleter>;

constexpr int kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

class SessionNoteTest : public TlsRig {
 protected:
  // Gets a session for `name`, then comes with it as `wish` says.
  bool Resumes(const std::string& name, TlsClientWish wish) {
    ConnectAndShake({.server_name = name, .newest = wish.newest});
    OwnedSession session = TakeSession();
    return ResumesWith(session, std::move(wish));
  }
  bool ResumesWith(const OwnedSession& session, TlsClientWish wish) {
    wish.session = session.get();
    ConnectAndShake(wish);
    bool resumed = stream->info().resumed;
    // Also after a refusal the client gets something that it can resume.
    last = TakeSession();
    EXPECT_TRUE(SSL_SESSION_is_resumable(last.get()));
    return resumed;
  }
  OwnedSession TakeSession() {
    client->Read();
    OwnedSession session(SSL_get1_session(client->ssl()));
    client->CloseNotify();
    return session;
  }
  void UseCertificates(const std::vector<CertificateMaterial>& materials) {
    auto store = CertificateStore::Make(materials);
    ASSERT_TRUE(store.has_value()) << store.error().ToString();
    tls = *ServerTls::Make(TlsProfile::kIntermediate, *store, {}, keys, rotation);
  }

  OwnedSession last;
};

TEST_F(SessionNoteTest, ASessionIsForItsNameOnly) {
  for (int version : kVersions) {
    EXPECT_TRUE(Resumes("example.org", {.newest = version}));
    EXPECT_TRUE(Resumes("example.org", {.server_name = "EXAMPLE.org", .newest = version}));
    EXPECT_FALSE(Resumes("example.org", {.server_name = "a.wild.example", .newest = version}));
    EXPECT_FALSE(Resumes("a.wild.example", {.server_name = "example.org", .newest = version}));
    // One certificate is for both: RFC 6066 section 3.
    EXPECT_FALSE(Resumes("a.wild.example", {.server_name = "b.wild.example", .newest = version}));
    EXPECT_FALSE(Resumes("example.org", {.server_name = "", .newest = version}));
    EXPECT_FALSE(Resumes("", {.server_name = "example.org", .newest = version}));
    EXPECT_TRUE(Resumes("", {.server_name = "", .newest = version}));
  }
}

TEST_F(SessionNoteTest, ARefusedClientGetsTheOtherNamesCertificateAndSession) {
  for (int version : kVersions) {
    EXPECT_FALSE(Resumes("example.org", {.server_name = "a.wild.example", .newest = version}));
    EXPECT_EQ(stream->info().server_name, "a.wild.example");
    OwnedSession session = std::move(last);
    EXPECT_TRUE(ResumesWith(session, {.server_name = "a.wild.example", .newest = version}));
    EXPECT_EQ(stream->info().server_name, "a.wild.example");
  }
}

TEST_F(SessionNoteTest, ASessionEndsWithItsCertificate) {
  const CertificateMaterial first = TestMaterial({.hosts = {"example.org"}, .key = "P-256"});
  const CertificateMaterial second = TestMaterial({.hosts = {"example.org"}, .key = "P-256"});
  const CertificateMaterial rsa = TestMaterial({.hosts = {"example.org"}, .key = "RSA-2048"});
  const CertificateMaterial other = TestMaterial({.hosts = {"other.example"}, .key = "P-256"});
  for (int version : kVersions) {
    UseCertificates({first});
    ConnectAndShake({.newest = version});
    OwnedSession session = TakeSession();
    // Others come and go.
    UseCertificates({other, first});
    EXPECT_TRUE(ResumesWith(session, {.newest = version}));
    UseCertificates({first, rsa});
    EXPECT_TRUE(ResumesWith(session, {.newest = version}));
    // What it has resumed is no better than what it had.
    OwnedSession renewed = std::move(last);
    UseCertificates({rsa, other});
    EXPECT_FALSE(ResumesWith(renewed, {.newest = version}));
    UseCertificates({second});
    EXPECT_FALSE(ResumesWith(session, {.newest = version}));
    EXPECT_FALSE(ResumesWith(renewed, {.newest = version}));
    UseCertificates({first});
    EXPECT_TRUE(ResumesWith(renewed, {.newest = version}));
  }
}

TEST_F(SessionNoteTest, ASessionIsForTheProfileThatItWasMadeIn) {
  ConnectAndShake();
  OwnedSession session = TakeSession();
  UseProfile(TlsProfile::kModern);
  EXPECT_FALSE(ResumesWith(session, {}));
  OwnedSession modern = std::move(last);
  EXPECT_TRUE(ResumesWith(modern, {}));
}

// A server that holds our keys and marks its sessions as `note` says, in every other way like us.
TEST_F(SessionNoteTest, ASessionWithoutANoteOrOfLongAgoIsOver) {
  static std::string note;
  struct Age {
    std::int64_t seconds;
    bool resumes;
  };
  constexpr std::int64_t kWeek = std::int64_t{7} * 86400;
  for (int version : kVersions) {
    for (const Age& age : {Age{kWeek - 60, true}, Age{kWeek + 60, false}}) {
      UseProfile(TlsProfile::kIntermediate);
      const auto& fingerprint = tls->certificates().Find("example.org").front()->fingerprint;
      std::int64_t began = std::time(nullptr) - age.seconds;
      note.assign(fingerprint.begin(), fingerprint.end());
      note.append(reinterpret_cast<const char*>(&began), sizeof(began));
      SSL_CTX_set_session_ticket_cb(
          tls->context(),
          [](SSL* ssl, void*) {
            return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), note.data(), note.size());
          },
          nullptr, nullptr);
      ConnectAndShake({.newest = version});
      OwnedSession session = TakeSession();
      UseProfile(TlsProfile::kIntermediate);
      EXPECT_EQ(ResumesWith(session, {.newest = version}), age.resumes) << age.seconds;
    }
    for (const char* other : {"", "from a version to come, which writes more than this one"}) {
      UseProfile(TlsProfile::kIntermediate);
      note = other;
      SSL_CTX_set_session_ticket_cb(
          tls->context(),
          [](SSL* ssl, void*) {
            return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), note.data(), note.size());
          },
          nullptr, nullptr);
      ConnectAndShake({.newest = version});
      OwnedSession session = TakeSession();
      UseProfile(TlsProfile::kIntermediate);
      EXPECT_FALSE(ResumesWith(session, {.newest = version})) << other;
    }
  }
}

}  // namespace
}  // namespace tidegate
