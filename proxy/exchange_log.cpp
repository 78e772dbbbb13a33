#include "proxy/exchange_log.h"

#include <time.h>

#include <utility>

namespace tidegate {

std::chrono::milliseconds WallClock() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::milliseconds(now.tv_nsec / 1'000'000);
}

void ExchangeLog::Begin(const Snapshot& snapshot, RequestHead& request, const ClientInfo& client) {
  std::vector<std::string_view> headers = std::move(record_.request_headers);
  headers.clear();
  record_ = {};
  record_.request_headers = std::move(headers);
  started_ = services_.loop.now();
  request_id_ = ChooseRequestId(request, client, services_.request_ids);
  record_.id = request_id_.value;
  record_.target = request.target;
  AccessFormatter* formatter = snapshot.access_formatter();
  if (formatter == nullptr || services_.access_log == nullptr) {
    return;
  }
  record_.timestamp = WallClock();
  record_.client = &client;
  record_.client_ip = ClientIpOf(request, client, snapshot.config());
  record_.method = request.method_name;
  record_.host = request.host();
  if (!request.method_name.empty()) {
    record_.protocol = request.is_http2             ? "HTTP/2.0"
                       : request.minor_version == 0 ? "HTTP/1.0"
                                                    : "HTTP/1.1";
  }
  formatter->CaptureHeaders(request, record_);
}

void ExchangeLog::AnswerCame(int upstream_status) {
  record_.upstream_status = upstream_status;
  record_.time_first_byte = Duration(services_.loop.now() - started_);
}

void ExchangeLog::Finish(const Snapshot& snapshot, const Outcome& outcome) {
  Counters& counters = services_.counters;
  counters.Add(CounterId::kRequests);
  counters.Add(CounterId::kBytesIn, outcome.octets_in);
  counters.Add(CounterId::kBytesOut, outcome.octets_out);
  if (record_.status != 0) {
    counters.Add(CounterOfStatus(record_.status));
  }
  if (outcome.failure != nullptr) {
    counters.Add(CounterOf(outcome.failure->kind()));
  }
  AccessFormatter* formatter = snapshot.access_formatter();
  if (formatter == nullptr || services_.access_log == nullptr) {
    return;
  }
  Fill(snapshot, outcome);
  services_.log_line.clear();
  formatter->Format(record_, services_.log_line);
  // A line that is taken may be lost later, on a full disk: the log itself knows.
  services_.access_log->CountDropsIn(counters);
  services_.access_log->Append(services_.log_line);
}

void ExchangeLog::FinishConnection(const Snapshot& snapshot, const ClientInfo& client,
                                   std::string_view protocol, const Error& why) {
  services_.counters.Add(CounterOf(why.kind()));
  AccessFormatter* formatter = snapshot.access_formatter();
  if (formatter == nullptr || services_.access_log == nullptr) {
    return;
  }
  record_ = {};
  record_.timestamp = WallClock();
  record_.client = &client;
  record_.protocol = protocol;
  record_.error = &why;
  record_.generation = services_.generation;
  services_.log_line.clear();
  formatter->Format(record_, services_.log_line);
  services_.access_log->CountDropsIn(services_.counters);
  services_.access_log->Append(services_.log_line);
}

void ExchangeLog::LeaveClient(Arena& arena) {
  record_.client = nullptr;
  record_.client_ip = arena.Copy(record_.client_ip);
}

ExchangeAccount ExchangeLog::Describe(const Snapshot& snapshot, const RouteConfig& route,
                                      const LeaseRequest& lease) const {
  Upstream& upstream = snapshot.UpstreamOf(route);
  ExchangeAccount account{.timestamp = record_.timestamp,
                          .id = std::string(record_.id),
                          .client_ip = std::string(record_.client_ip),
                          .method = std::string(record_.method),
                          .host = std::string(record_.host),
                          .target = std::string(record_.target),
                          .protocol = std::string(record_.protocol),
                          .route = route.name,
                          .upstream = upstream.config().name,
                          .endpoint = upstream.endpoint_name(*lease.endpoint),
                          .upstream_status = record_.upstream_status,
                          .attempts = record_.attempts,
                          .reused = record_.reused,
                          .headers = {},
                          .age = Duration(services_.loop.now() - started_),
                          .queued = lease.queued,
                          .connecting = lease.connecting,
                          .first_byte = record_.time_first_byte};
  if (const AccessFormatter* formatter = snapshot.access_formatter()) {
    account.headers = formatter->NamedHeaders(record_);
  }
  return account;
}

void ExchangeLog::Restore(const Snapshot& snapshot, const ExchangeAccount& account, Arena& arena) {
  record_ = {};
  record_.timestamp = account.timestamp;
  record_.id = arena.Copy(account.id);
  record_.client_ip = arena.Copy(account.client_ip);
  record_.method = arena.Copy(account.method);
  record_.host = arena.Copy(account.host);
  record_.target = arena.Copy(account.target);
  record_.protocol = arena.Copy(account.protocol);
  record_.status = 101;
  record_.upstream_status = account.upstream_status;
  record_.attempts = account.attempts;
  record_.reused = account.reused;
  record_.time_first_byte = account.first_byte;
  const TimePoint now = services_.loop.now();
  const auto age = static_cast<TimePoint>(account.age.count());
  started_ = now > age ? now - age : 0;
  if (record_.timestamp.count() == 0) {
    record_.timestamp = WallClock() - account.age;
  }
  if (const AccessFormatter* formatter = snapshot.access_formatter()) {
    formatter->RestoreHeaders(account.headers, arena, record_);
  }
}

void ExchangeLog::Fill(const Snapshot& snapshot, const Outcome& outcome) {
  record_.bytes_in = outcome.octets_in;
  record_.bytes_out = outcome.octets_out;
  if (outcome.route != nullptr) {
    record_.route = outcome.route->name;
  }
  if (record_.attempts > 0) {
    Upstream& upstream = snapshot.UpstreamOf(*outcome.route);
    record_.upstream = upstream.config().name;
    if (outcome.lease->endpoint) {
      record_.endpoint = upstream.endpoint_name(*outcome.lease->endpoint);
    }
    record_.time_queue = outcome.lease->queued;
    if (!record_.reused) {
      record_.time_connect = outcome.lease->connecting;
    }
  }
  record_.time_total = Duration(services_.loop.now() - started_);
  record_.error = outcome.failure;
  record_.generation = services_.generation;
}

}  // namespace tidegate
