#pragma once

// A downstream connection that speaks HTTP/2: every stream is an exchange, and they run beside each
// other. Its own deadlines are the preface and the first request, a head, idleness, a client that
// takes nothing, the steps of a drain, and the lingering close.

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "proxy/exchange_supply.h"
#include "proxy/http/h2_connection.h"
#include "proxy/services.h"

namespace tidegate {

// What of a session a deadline of the drain ends.
enum class Ending : std::uint8_t { kAll, kExchanges, kTunnels };

class H2Session final : private H2Handler {
 public:
  // `stream` has no owner; what it has read is the client's preface. `first_request`: for the rest
  // of the preface, SETTINGS and the first request; kNever: any time. The others outlive this.
  H2Session(Services& services, ExchangeSupply& exchanges, std::unique_ptr<Stream> stream,
            const ServedClient& client, Duration first_request);
  H2Session(const H2Session&) = delete;
  H2Session& operator=(const H2Session&) = delete;
  ~H2Session();

  // Serves the connection until it has ended; once.
  Task<void> Run();

  // RFC 9113 section 6.8, in two steps: a GOAWAY that only announces, with a PING behind it; when
  // that is answered, or too late, the one that says which streams are served. They are, and then
  // the connection ends.
  void CloseAfterExchanges();
  // Ends what is running, with `why` as the reason; says how many that was. Of kAll, or if nothing
  // else is left, the connection too.
  std::uint64_t ForceEnd(const Error& why, Ending what);

  bool idle() const { return running_count_ == 0 && phase_ <= Phase::kRefusing; }
  bool has_tunnel() const;
  bool closing() const { return phase_ > Phase::kRefusing; }
  std::uint64_t octets_in() const { return connection_.octets_in(); }
  std::uint64_t octets_out() const { return connection_.octets_out(); }

 private:
  // In this order.
  enum class Phase : std::uint8_t {
    kServing,
    kAnnounced,  // the first GOAWAY is on its way
    kRefusing,   // no new streams
    kEnding,     // nothing more is read
    kLingering,
  };
  // One exchange; lives in the frame of its task.
  struct Running {
    Exchange& exchange;
    Running* next = nullptr;
    Running* previous = nullptr;
  };

  RequestHead* NextHead() override;
  const DecoderLimits& HeadLimits() override { return services_.snapshot->limits(); }
  void OnRequest(std::unique_ptr<H2ServerStream> stream, std::optional<Error> refused) override;
  void OnClientReset() override { services_.counters.Add(CounterId::kH2StreamsReset); }
  void OnChange() override;

  Task<void> Serve(std::unique_ptr<Exchange> exchange, std::unique_ptr<H2ServerStream> stream,
                   std::optional<Error> refused);
  Task<void> Linger();
  // One more exchange is running, and one less.
  void CountBegin();
  void CountEnd();
  // The second step.
  void RefuseNew();
  void LogEnd();
  const TimeoutsConfig& timeouts() const { return services_.snapshot->config().timeouts; }

  void OnIdle();
  void OnHeadTimeout();
  void OnWriteTimeout();
  void OnStepTimeout();

  Services& services_;
  ExchangeSupply& exchanges_;
  const ServedClient& client_;
  H2Connection connection_;
  TaskScope scope_;
  // Nothing more can be served; the client has gone, or has been waited for long enough.
  Event finished_;
  Event linger_over_;

  Deadline idle_deadline_;
  Deadline head_deadline_;
  Deadline write_deadline_;
  // Of the answer to the PING of a drain, and of the end itself.
  Deadline step_deadline_;

  // Whose head is being read, or will be.
  std::unique_ptr<Exchange> next_exchange_;
  Running* first_ = nullptr;
  std::size_t running_count_ = 0;
  std::uint64_t requests_ = 0;
  // Whose time head_deadline_ counts: H2Connection::open_head().
  std::uint64_t timed_head_ = 0;
  // octets_written() when write_deadline_ was armed.
  std::uint64_t written_ = 0;
  std::uint64_t linger_from_ = 0;
  // Why exchanges that have not begun must not.
  std::optional<Error> forced_;
  // A deadline of ours that has ended the connection.
  std::optional<Error> timed_out_;
  Phase phase_ = Phase::kServing;
};

}  // namespace tidegate
