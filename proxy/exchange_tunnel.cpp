// What an exchange is after a 101 (RFC 9110 section 7.8): octets both ways until both sides have
// ended.

#include <utility>

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
  state_ = State::kTunnel;
  services_.counters.Add(CounterId::kTunnelsActive);
  downstream_->BecomeTunnel();
  upstream_->BecomeTunnel();
  tunnel_deadline_.Arm(timeouts_->tunnel_idle);
  std::optional<Error> lost;
  scope.Start(RelayTunnel(*downstream_, *upstream_, lost));
  co_await RelayTunnel(*upstream_, *downstream_, lost);
  co_await scope.Join();
  if (lost) {
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

void Exchange::OnTunnelTimeout() {
  FailWith(Error(ErrorKind::kTunnelIdleTimeout, "nothing either way within tunnel_idle"));
}

}  // namespace tidegate
