#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/slabs.h"
#include "common/unique_fd.h"
#include "proxy/exchange_supply.h"
#include "proxy/h2_session.h"
#include "proxy/http/h1_connection.h"
#include "proxy/moving.h"
#include "proxy/net/tls_stream.h"
#include "proxy/parking.h"
#include "proxy/services.h"

namespace tidegate {

class SessionList;

// One downstream connection. Over HTTP/1.1: one request after the other until one side has enough,
// or until it has been quiet for 5 s and is parked. Between requests
// it holds no buffer and no exchange. Its own deadlines are the head of a request, keep-alive, and
// the lingering close. A client that speaks HTTP/2, by ALPN or by its preface, is left to an
// H2Session.
class Session : public InSlab {
 public:
  // A new connection: `fd` is a connected, non-blocking socket; `tls` is null where clients speak
  // without TLS. Part of `list` while it lives.
  Session(Services& services, SessionList& list, UniqueFd fd, ClientInfo client,
          const std::shared_ptr<const ServerTls>& tls);
  // Goes on with one that was parked, or has moved.
  Session(Services& services, SessionList& list, IdleConnection connection);
  Session(Services& services, SessionList& list, MovingConnection connection);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  // Serves the connection until it ends, is parked or moves; then the session may go.
  Task<void> Run();

  // The answer to the next request, or to the running one if its head is not written yet, ends the
  // connection.
  void CloseAfterExchange();
  // Like that, and a connection without a request ends at once: a stop. Of HTTP/2 the client is
  // asked first whether one is on its way, which takes no longer than its answer.
  void CloseNow();
  // Ends it now: an idle connection with a clean close, a running exchange visibly. The task ends
  // soon after. Of the two deadlines of a drain each ends its own: says how many exchanges.
  std::uint64_t ForceEnd(Error why, Ending what = Ending::kAll);

  // Asks a session that can move, and waits between two requests or is a tunnel, to leave: the
  // list's mover hears from it soon. False: it cannot, or not now.
  bool Leave();

  // kParked: no part of the list any more, also if it was taken by a mover.
  enum class State : std::uint8_t {
    kHandshake,
    kIdle,
    kRequest,
    kResponse,
    kTunnel,
    kClosing,
    kParked
  };
  State state() const;
  std::uint64_t id() const { return id_; }
  const ClientInfo& client() const { return client_; }
  TimePoint opened() const { return opened_; }
  // How many times it has moved to another process.
  std::uint16_t hand_overs() const { return hand_overs_; }
  std::uint64_t octets_in() const {
    return octets_in_ + (h2_ != nullptr ? h2_->octets_in() : connection_.octets_in());
  }
  std::uint64_t octets_out() const {
    return octets_out_ + (h2_ != nullptr ? h2_->octets_out() : connection_.octets_out());
  }

 private:
  friend class SessionList;
  Session(Services& services, SessionList& list, IdleConnection connection,
          const std::shared_ptr<const ServerTls>& tls, std::string_view unread);
  // `tls` is null but for a new connection with TLS.
  std::unique_ptr<Stream> MakeStream(IdleConnection& connection,
                                     const std::shared_ptr<const ServerTls>& tls,
                                     std::string_view unread);
  // Another process can go on with it.
  bool movable() const { return tls_ == nullptr && h2_ == nullptr && !stays_; }
  // Until the connection ends or is parked, or the client has shown that it speaks HTTP/2: true.
  Task<bool> ServeRequests();
  Task<void> ServeHttp2();
  // One that has moved here.
  Task<void> ServeTunnel();
  // After an exchange: false if it is the last, or a tunnel that is moving.
  bool EndExchange();
  // The first octets are there: are they the preface of HTTP/2?
  Task<bool> SeesPreface();
  // Until the handshake is over, one way or the other: its own deadline is the stream's. True if
  // HTTP/2 was agreed on.
  Task<bool> AwaitHandshake();
  void KeepCertificate();
  Task<void> Linger();
  bool Park();
  // What there is of it between two requests, but its descriptor and TLS.
  IdleConnection Description() const;
  // Between two requests: how long it may still be quiet.
  Duration PatienceLeft() const;
  // How long a stop waits for who is quiet: for a moment, unless it has connected, or ended its
  // handshake, just now.
  Duration PatienceAtStop() const;
  // Between two requests: to the mover, octets that were read along. False: it cannot be now.
  bool MoveIdle();
  void MoveTunnel();
  // Into `idle`; false if something is under way.
  bool Detach(IdleConnection& idle);
  void OnDeadline();

  Services& services_;
  SessionList& list_;
  ServedClient client_;
  // The stream of connection_, if it is one; null without TLS.
  TlsStream* tls_ = nullptr;
  H1ServerConnection connection_;
  Deadline deadline_;
  std::unique_ptr<Exchange> exchange_;
  // Null: HTTP/1.1, as far as we know.
  std::unique_ptr<H2Session> h2_;
  std::uint64_t id_ = 0;
  TimePoint opened_;
  // Its first request could come: it was accepted, or its handshake has ended here. One that was
  // parked has been quiet for longer than a stop would wait.
  TimePoint may_ask_since_;
  // Of the exchanges that ended.
  std::uint64_t octets_in_ = 0;
  std::uint64_t octets_out_ = 0;
  // How long the connection may be quiet from the last arming of its deadline on.
  Duration patience_;
  State state_ = State::kIdle;
  bool closing_ = false;
  // See IdleConnection.
  bool stays_ = false;
  bool shared_ = false;
  std::uint16_t hand_overs_ = 0;
  // Leave was called.
  bool leaving_ = false;
  // A tunnel that comes; and what is left of one that goes.
  std::unique_ptr<MovingTunnel> tunnel_;
  std::unique_ptr<Exchange::TunnelEnds> ends_;
  Session* next_ = nullptr;
  Session* previous_ = nullptr;
};

// Every downstream connection of a worker, as a session or parked, and the exchanges that the
// sessions take turns in using.
class SessionList {
 public:
  // `resumer` outlives this.
  SessionList(Services& services, SessionResumer& resumer)
      : exchanges_(services), parking_(services.loop, resumer) {}
  SessionList(const SessionList&) = delete;
  SessionList& operator=(const SessionList&) = delete;
  ~SessionList() { TG_CHECK(first_ == nullptr); }

  // Connections.
  std::size_t size() const { return session_count_ + parking_.size() + moving_; }
  // For a connection that comes from another process.
  std::uint64_t NextId() { return next_id_++; }
  // Those that are not parked.
  std::size_t session_count() const { return session_count_; }
  Parking& parking() { return parking_; }
  // `visit` must not end sessions itself; ForceEnd only posts.
  template <class Visit>
  void ForEach(Visit visit) {
    for (Session* each = first_; each != nullptr; each = each->next_) {
      visit(*each);
    }
  }
  // From now on every session is told to end after its exchange, also those to come, and none is
  // parked.
  void CloseAfterExchange();
  bool closing() const { return closing_; }
  // The same, but those that can move do not end: `mover`, which outlives this, takes them. Until
  // CloseAfterExchange.
  void CloseOrMove(SessionMover& mover);
  // A session between two requests may leave now.
  bool MoverHasRoom() const { return mover_ != nullptr && mover_->HasRoom(); }
  // Connections that somebody holds and that are no sessions.
  void AddMoving() { ++moving_; }
  void RemoveMoving() { --moving_; }
  bool closes_idle() const { return closes_idle_; }
  // At a stop: from now on a connection that becomes idle is closed, whoever it was announced to.
  // After a handshake it is given 2 s for its first request.
  void CloseIdle();
  // Frees the exchanges that nobody uses now.
  void ReleaseUnused() { exchanges_.Release(); }

 private:
  friend class Session;
  void Add(Session& session);
  void Remove(Session& session);

  ExchangeSupply exchanges_;
  Parking parking_;
  Session* first_ = nullptr;
  std::size_t session_count_ = 0;
  std::uint64_t next_id_ = 1;
  std::size_t moving_ = 0;
  // Null before CloseOrMove; it stays.
  SessionMover* mover_ = nullptr;
  bool moves_ = false;
  bool closing_ = false;
  bool closes_idle_ = false;
};

}  // namespace tidegate
