#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "proxy/access_log.h"
#include "proxy/services.h"

namespace tidegate {

// The wall clock, which may jump: for dates and log lines, never for deadlines.
std::chrono::milliseconds WallClock();

// What one exchange tells the counters and the access log. Text in the record lives in the
// request's arena, the client or the snapshot. Used again for the next exchange, for its capacity.
class ExchangeLog {
 public:
  explicit ExchangeLog(Services& services) : services_(services) {}

  // Before the request is rewritten: what the client said.
  void Begin(const Snapshot& snapshot, RequestHead& request, const ClientInfo& client);
  // The final head of the upstream has come.
  void AnswerCame(int upstream_status);

  // How the exchange ended.
  struct Outcome {
    std::uint64_t octets_in = 0;
    std::uint64_t octets_out = 0;
    // Null: none was found.
    const RouteConfig* route = nullptr;
    const LeaseRequest* lease = nullptr;
    // Null: all is well.
    const Error* failure = nullptr;
  };
  // Counts it and writes its line.
  void Finish(const Snapshot& snapshot, const Outcome& outcome);

  // Instead of all that: a connection that has ended by the fault of its client, outside of any
  // exchange. Counts the error and writes a line.
  void FinishConnection(const Snapshot& snapshot, const ClientInfo& client,
                        std::string_view protocol, const Error& why);

  AccessRecord& record() { return record_; }
  const AccessRecord& record() const { return record_; }
  // X-Request-Id as the endpoint gets it.
  const Field& request_id() const { return request_id_; }

 private:
  void Fill(const Snapshot& snapshot, const Outcome& outcome);

  Services& services_;
  AccessRecord record_;
  Field request_id_;
  TimePoint started_ = 0;
};

}  // namespace tidegate
