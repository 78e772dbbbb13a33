#include "proxy/net/ticket_keys.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/tls_rig.h"

namespace tidegate {
namespace {

struct SessionDeleter {
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};
using OwnedSession = std::unique_ptr<SSL_SESSION, SessionDeleter>;

// With a context of its own for each connection, as another worker would have.
class TicketKeysTest : public TlsRig {
 protected:
  void ConnectWith(SSL_SESSION* session, int version) {
    UseProfile(TlsProfile::kIntermediate);
    ConnectAndShake({.newest = version, .session = session});
  }
  // What the client may resume later. OpenSSL resumes no session whose connection did not end well.
  OwnedSession TakeSession() {
    client->Read();
    OwnedSession session(SSL_get1_session(client->ssl()));
    client->CloseNotify();
    return session;
  }
  OwnedSession MakeSession(int version) {
    ConnectWith(nullptr, version);
    EXPECT_FALSE(stream->info().resumed);
    return TakeSession();
  }
  // The name in front of its ticket.
  static std::vector<unsigned char> NameOf(const OwnedSession& session) {
    const unsigned char* ticket = nullptr;
    std::size_t size = 0;
    SSL_SESSION_get0_ticket(session.get(), &ticket, &size);
    TG_CHECK(size > 16);
    return {ticket, ticket + 16};
  }
  static bool IsSealedWith(const OwnedSession& session, const TicketKey& key) {
    return std::ranges::equal(NameOf(session), key.name);
  }
  TicketRing Copy() const { return *TicketRing::Unpack(keys.ring().Pack()->get()); }
  void Rotate() {
    TicketRing ring = Copy();
    ring.Rotate(0);
    keys.Install(std::move(ring));
  }
};

constexpr int kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

TEST_F(TicketKeysTest, ResumeInEveryContextThatHasThem) {
  for (int version : kVersions) {
    OwnedSession session = MakeSession(version);
    EXPECT_TRUE(IsSealedWith(session, keys.ring().current()));
    ConnectWith(session.get(), version);
    EXPECT_TRUE(stream->info().resumed) << version;
    EXPECT_EQ(stream->info().server_name, "example.org");
  }
}

TEST_F(TicketKeysTest, OfOtherWorkersDoNotOpen) {
  for (int version : kVersions) {
    OwnedSession session = MakeSession(version);
    keys.Install(TicketRing(0));
    ConnectWith(session.get(), version);
    EXPECT_FALSE(stream->info().resumed) << version;
    OwnedSession fresh = TakeSession();
    EXPECT_TRUE(IsSealedWith(fresh, keys.ring().current()));
  }
}

TEST_F(TicketKeysTest, ResumeAndRenewAfterOneRotationAndNotAfterTwo) {
  for (int version : kVersions) {
    OwnedSession session = MakeSession(version);
    Rotate();
    EXPECT_TRUE(IsSealedWith(session, keys.ring().previous()));
    ConnectWith(session.get(), version);
    EXPECT_TRUE(stream->info().resumed) << version;
    OwnedSession renewed = TakeSession();
    EXPECT_TRUE(IsSealedWith(renewed, keys.ring().current())) << version;
    Rotate();
    ConnectWith(session.get(), version);
    EXPECT_FALSE(stream->info().resumed) << "two rotations: " << version;
    ConnectWith(renewed.get(), version);
    EXPECT_TRUE(stream->info().resumed) << version;
  }
}

TEST_F(TicketKeysTest, OfAWorkerThatHasRotatedBeforeUsOpen) {
  for (int version : kVersions) {
    TicketRing ours = Copy();
    Rotate();
    OwnedSession session = MakeSession(version);
    keys.Install(std::move(ours));
    EXPECT_TRUE(IsSealedWith(session, keys.ring().next()));
    ConnectWith(session.get(), version);
    EXPECT_TRUE(stream->info().resumed) << version;
  }
}

TEST_F(TicketKeysTest, CountFromTheNextTicketOnInAContextThatIsThereAlready) {
  ConnectAndShake();
  Rotate();
  // Of a handshake in the context of before.
  ConnectAndShake();
  OwnedSession session = TakeSession();
  EXPECT_TRUE(IsSealedWith(session, keys.ring().current()));
}

TEST_F(TicketKeysTest, ADamagedTicketIsAFullHandshake) {
  for (int version : kVersions) {
    OwnedSession session = MakeSession(version);
    const unsigned char* ticket = nullptr;
    std::size_t size = 0;
    SSL_SESSION_get0_ticket(session.get(), &ticket, &size);
    for (std::size_t at : {std::size_t{0}, std::size_t{17}, size / 2, size - 1}) {
      auto* octet = const_cast<unsigned char*>(ticket) + at;
      *octet ^= 1;
      ConnectWith(session.get(), version);
      EXPECT_FALSE(stream->info().resumed) << "octet " << at;
      client->CloseNotify();
      *octet ^= 1;
    }
    ConnectWith(session.get(), version);
    EXPECT_TRUE(stream->info().resumed);
  }
}

TEST_F(TicketKeysTest, ATicketLivesAsLongAsItsKeyAndAWeekAtMost) {
  using std::chrono::hours;
  using std::chrono::minutes;
  struct Case {
    Duration rotation;
    unsigned long seconds;
  };
  for (const Case& each :
       {Case{hours(12), 86400}, Case{minutes(1), 120}, Case{hours(168), 604800}}) {
    for (int version : kVersions) {
      rotation = each.rotation;
      OwnedSession session = MakeSession(version);
      EXPECT_EQ(SSL_SESSION_get_ticket_lifetime_hint(session.get()), each.seconds);
    }
  }
}

}  // namespace
}  // namespace tidegate
