// What an exchange is after a 101 (RFC 9110 section 7.8): octets both ways until both sides have
// ended.

#include <algorithm>
#include <utility>
#include <variant>

#include "proxy/exchange.h"

namespace tidegate {

// One of the protocols that were offered. A client that is told of another would read the tunnel's
// octets as something else than their sender meant.
void Exchange::JudgeUpgrade() {
  if (request_.upgrade.empty()) {
    FailWith(Error(ErrorKind::kUpstreamUpgradeFailed, "a 101 that nobody asked for"));
  } else if (response_.upgrade.empty() || !ListHasToken(request_.upgrade, response_.upgrade)) {
    FailWith(Error(ErrorKind::kUpstreamUpgradeFailed, "a 101 to a protocol that was not offered"));
  }
}

Task<void> Exchange::RunTunnel(TaskScope& scope) {
  RewriteResponse(response_, *route_, snapshot_->config().forwarded, Date(), AnswerRules());
  log_.record().status = 101;
  const std::span<const char> no_body;
  auto writing = downstream_->WriteHead(response_, no_body, true);
  auto written = co_await write_watch_.Wait(writing, timeouts_->write_idle);
  if (!written) {
    FailWith(std::move(written).error());
    co_return;
  }
  downstream_->BecomeTunnel();
  co_await ServeTunnel(scope, timeouts_->tunnel_idle, std::nullopt);
}

Task<void> Exchange::ServeTunnel(TaskScope& scope, Duration patience,
                                 const std::optional<Error>& end) {
  state_ = State::kTunnel;
  services_.counters.Add(CounterId::kTunnelsActive);
  upstream_->BecomeTunnel();
  tunnel_deadline_.Arm(patience);
  if (end) {
    FailWith(*end);
  }
  std::optional<Error> lost;
  scope.Start(RelayTunnel(*downstream_, *upstream_, lost));
  co_await RelayTunnel(*upstream_, *downstream_, lost);
  co_await scope.Join();
  if (lost) {
    // Unless it has moved: that was no failure.
    FailWith(std::move(*lost));
  }
  tunnel_deadline_.Disarm();
  services_.counters.Subtract(CounterId::kTunnelsActive);
}

// `lost`: why octets of one direction could not be delivered. Who reads no more may have said
// something before: the other direction goes on to its end, which is near then.
Task<void> Exchange::RelayTunnel(MessageStream& from, MessageStream& to,
                                 std::optional<Error>& lost) {
  while (true) {
    auto read = co_await from.ReadBody();
    if (!read) {
      FailWith(std::move(read).error());
      co_return;
    }
    tunnel_deadline_.Arm(timeouts_->tunnel_idle);
    auto written = co_await to.WriteBody(read->data, read->last);
    if (!written) {
      if (!lost) {
        lost = std::move(written).error();
      }
      co_return;
    }
    if (read->last) {
      co_return;
    }
  }
}

std::optional<Exchange::TunnelEnds> Exchange::LeaveTunnel() {
  if (state_ != State::kTunnel || failure_) {
    return std::nullopt;
  }
  TunnelEnds ends;
  // That of the upstream first: with TLS there is none, and it costs nothing to know.
  ends.upstream = upstream_->DuplicateTunnel();
  if (ends.upstream) {
    ends.client = downstream_->DuplicateTunnel();
  }
  if (!ends.client) {
    return std::nullopt;
  }
  ends.patience = tunnel_deadline_.left();
  state_ = State::kMoving;
  const std::size_t left_of_client = downstream_->unwritten();
  ends.to_upstream = downstream_->LeaveTunnel(upstream_->unwritten());
  ends.to_client = upstream_->LeaveTunnel(left_of_client);
  octets_in_before_ += downstream_->octets_in();
  octets_out_before_ += downstream_->octets_out();
  log_.LeaveClient(request_.arena);
  client_ = nullptr;
  return ends;
}

Task<void> Exchange::ContinueTunnel(H1ServerConnection& downstream, const ServedClient& client,
                                    TunnelRest& rest) {
  downstream_ = &downstream;
  client_ = &client;
  log_.MeetClient(client);
  rules_ = snapshot_->RulesOf(client.listener);
  lease_ = snapshot_->UpstreamOf(*route_).Adopt(*lease_request_.endpoint, std::move(rest.upstream),
                                                rest.to_client, rest.shared);
  upstream_ = &lease_.stream();
  lease_.stream().BeginExchange(response_);
  downstream.ContinueTunnel(request_);
  downstream.WatchGone(Bind<&Exchange::OnClientGone>(this));
  TaskScope scope;
  co_await ServeTunnel(scope, rest.patience, rest.end);
  upstream_ = nullptr;
  lease_.GiveBack();
  if (state_ == State::kMoving) {
    co_return;
  }
  if (failure_) {
    co_await AnswerFailure();
  }
  Finish();
}

ExchangeAccount Exchange::Describe() const {
  ExchangeAccount account = log_.Describe(*snapshot_, *route_, lease_request_);
  if (account.method.empty()) {
    // Nobody logs here, but perhaps there.
    account.method = request_.method_name;
    account.host = request_.host();
    account.protocol = "HTTP/1.1";
  }
  account.octets_in = octets_in_before_;
  account.octets_out = octets_out_before_;
  return account;
}

Result<> Exchange::Restore(std::shared_ptr<const Snapshot> snapshot,
                           const ExchangeAccount& account) {
  const std::vector<RouteConfig>& routes = snapshot->config().routes;
  auto route = std::ranges::find(routes, account.route, &RouteConfig::name);
  if (route == routes.end() || !std::holds_alternative<ForwardAction>(route->action)) {
    return Fail(ErrorKind::kNoRoute, account.route);
  }
  const Upstream& upstream = snapshot->UpstreamOf(*route);
  auto endpoint = upstream.FindEndpoint(account.endpoint);
  if (upstream.config().name != account.upstream || upstream.tls() != nullptr || !endpoint) {
    return Fail(ErrorKind::kUpstreamUnavailable, account.endpoint);
  }
  snapshot_ = std::move(snapshot);
  route_ = &*route;
  timeouts_ = &route->timeouts;
  lease_request_ = {};
  lease_request_.endpoint = endpoint;
  lease_request_.queued = account.queued;
  lease_request_.connecting = account.connecting;
  failure_.reset();
  state_ = State::kMoving;
  octets_in_before_ = account.octets_in;
  octets_out_before_ = account.octets_out;
  request_.Clear();
  log_.Restore(*snapshot_, account, request_.arena);
  return {};
}

bool Exchange::has_room_upstream() const {
  return snapshot_->UpstreamOf(*route_).HasRoomAt(*lease_request_.endpoint);
}

void Exchange::OnTunnelTimeout() {
  FailWith(Error(ErrorKind::kTunnelIdleTimeout, "nothing either way within tunnel_idle"));
}

}  // namespace tidegate
