#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "proxy/access_log.h"
#include "proxy/services.h"

namespace tidegate {

// The wall clock, which may jump: for dates and log lines, never for deadlines.
std::chrono::milliseconds WallClock();

// What there is to tell of an exchange that another process is to end. Owns its texts; those of the
// request are whatever octets the client sent.
struct ExchangeAccount {
  // As in AccessRecord.
  std::chrono::milliseconds timestamp{0};
  std::string id;
  std::string client_ip;
  std::string method;
  std::string host;
  std::string target;
  std::string protocol;
  std::string route;
  std::string upstream;
  std::string endpoint;
  int upstream_status = 0;
  std::uint64_t attempts = 0;
  bool reused = false;
  // By their names in the configuration; the request has these.
  std::vector<std::pair<std::string, std::string>> headers;
  // Since it began, and for what.
  Duration age{};
  Duration queued{};
  Duration connecting{};
  AccessRecord::Time first_byte = AccessRecord::kNoTime;
  // So far.
  std::uint64_t octets_in = 0;
  std::uint64_t octets_out = 0;
};

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

  // Of a tunnel: its client's object goes, and what is known of it stays in `arena`; and another
  // one comes.
  void LeaveClient(Arena& arena);
  void MeetClient(const ClientInfo& client) { record_.client = &client; }
  // What another process is to know, but octets.
  ExchangeAccount Describe(const Snapshot& snapshot, const RouteConfig& route,
                           const LeaseRequest& lease) const;
  // There, instead of Begin and AnswerCame: texts go to `arena`.
  void Restore(const Snapshot& snapshot, const ExchangeAccount& account, Arena& arena);

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
