#include "proxy/handover_record.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "common/control_messages.h"
#include "common/socket.h"

namespace tidegate {
namespace {

using nlohmann::json;

// What a peer may make us keep for one exchange: more than any head that we read.
constexpr std::size_t kMostText = std::size_t{1} << 20;
constexpr std::size_t kMostHeaders = 1000;

// The texts of an account, in the order in which they follow each other.
struct TextRow {
  const char* name;
  std::string ExchangeAccount::* text;
};
constexpr std::array kTexts = {
    TextRow{"id", &ExchangeAccount::id},         TextRow{"client_ip", &ExchangeAccount::client_ip},
    TextRow{"method", &ExchangeAccount::method}, TextRow{"host", &ExchangeAccount::host},
    TextRow{"target", &ExchangeAccount::target}, TextRow{"protocol", &ExchangeAccount::protocol}};

void AddDuration(json& record, const char* name, Duration duration) {
  if (duration != kNever) {
    record[name] = duration.count();
  }
}

// Absent: for ever.
Duration DurationOf(const json& record, const char* name) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 53;
  auto found = record.find(name);
  if (found == record.end() || !found->is_number_unsigned()) {
    return kNever;
  }
  return Duration(static_cast<std::int64_t>(std::min(found->get<std::uint64_t>(), kMost)));
}

Duration PastOf(const json& record, const char* name) {
  const Duration past = DurationOf(record, name);
  return past == kNever ? Duration::zero() : past;
}

// Takes texts out of the octets, one after the other.
class TextReader {
 public:
  explicit TextReader(std::string_view octets) : rest_(octets) {}
  bool Take(const json& record, const char* name, std::size_t most, std::string& out) {
    const std::uint64_t size = NumberOf(record, name);
    if (size > rest_.size() || size > most) {
      return false;
    }
    out.assign(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return true;
  }

 private:
  std::string_view rest_;
};

bool ReadAccount(const json& record, TextReader& texts, ExchangeAccount& account) {
  auto found = record.find("exchange");
  if (found == record.end() || !found->is_object()) {
    return false;
  }
  const json& exchange = *found;
  for (const TextRow& row : kTexts) {
    if (!texts.Take(exchange, row.name, kMostText, account.*row.text)) {
      return false;
    }
  }
  const json headers = exchange.value("headers", json::array());
  if (!headers.is_array() || headers.size() > kMostHeaders) {
    return false;
  }
  for (const json& header : headers) {
    std::string value;
    if (!header.is_object() || !texts.Take(header, "size", kMostText, value)) {
      return false;
    }
    account.headers.emplace_back(TextOf(header, "name"), std::move(value));
  }
  account.route = TextOf(exchange, "route");
  account.timestamp = PastOf(exchange, "timestamp_ms");
  account.upstream_status = static_cast<int>(NumberOf(exchange, "upstream_status") % 1000);
  account.attempts = NumberOf(exchange, "attempts");
  account.reused = FlagOf(exchange, "reused");
  account.age = PastOf(exchange, "age_ms");
  account.queued = PastOf(exchange, "queued_ms");
  account.connecting = PastOf(exchange, "connecting_ms");
  account.first_byte = PastOf(exchange, "first_byte_ms");
  account.octets_in = NumberOf(exchange, "bytes_in");
  account.octets_out = NumberOf(exchange, "bytes_out");
  return true;
}

std::optional<OfferedConnection> ReadOne(const json& record, TextReader& texts,
                                         std::span<UniqueFd>& fds) {
  const std::string word = TextOf(record, "kind");
  const auto* kind = std::ranges::find(kMoveKinds, word, &MoveKindRow::word);
  const std::size_t count = kind == &RowOf(MoveKind::kTunnel) ? 2 : 1;
  if (kind == kMoveKinds.end() || fds.size() < count) {
    return std::nullopt;
  }
  OfferedConnection offered;
  offered.kind = static_cast<MoveKind>(kind - kMoveKinds.begin());
  offered.fd = std::move(fds[0]);
  if (count == 2) {
    offered.upstream_fd = std::move(fds[1]);
  }
  fds = fds.subspan(count);
  offered.patience = DurationOf(record, "patience_ms");
  offered.account.upstream = TextOf(record, "upstream");
  offered.account.endpoint = TextOf(record, "endpoint");
  if (offered.kind == MoveKind::kUpstream) {
    return offered;
  }
  offered.listener = TextOf(record, "listener");
  offered.port = TextOf(record, "port");
  offered.speaks = static_cast<std::uint8_t>(NumberOf(record, "speaks"));
  offered.age = PastOf(record, "age_ms");
  offered.octets_in = NumberOf(record, "bytes_in");
  offered.octets_out = NumberOf(record, "bytes_out");
  offered.hand_overs = static_cast<std::uint16_t>(NumberOf(record, "hand_overs"));
  offered.parked = FlagOf(record, "parked");
  constexpr std::size_t kLongestPort = 5;
  const bool is_port =
      offered.port.size() <= kLongestPort &&
      std::ranges::all_of(offered.port, [](char c) { return c >= '0' && c <= '9'; });
  if (!is_port || !texts.Take(record, "unread", SocketStream::kMostUnread, offered.unread)) {
    return std::nullopt;
  }
  if (offered.kind == MoveKind::kTunnel) {
    offered.tunnel_patience = DurationOf(record, "tunnel_patience_ms");
    if (!texts.Take(record, "to_client", SocketStream::kMostUnread, offered.to_client) ||
        !ReadAccount(record, texts, offered.account)) {
      return std::nullopt;
    }
  }
  return offered;
}

}  // namespace

Decline DeclineOf(std::string_view name) {
  const auto* row = std::ranges::find(kDeclines, name, &DeclineRow::word);
  return row == kDeclines.end() ? Decline::kRecord : static_cast<Decline>(row - kDeclines.begin());
}

MoveKind KindOf(const Moving& moving) {
  const auto* connection = std::get_if<MovingConnection>(&moving);
  if (connection == nullptr) {
    return MoveKind::kUpstream;
  }
  return connection->tunnel != nullptr ? MoveKind::kTunnel : MoveKind::kIdle;
}

std::size_t DescriptorsOf(const Moving& moving) {
  return KindOf(moving) == MoveKind::kTunnel ? 2 : 1;
}

void HandOverWriter::AddText(json& record, const char* name, std::string_view text) {
  record[name] = text.size();
  octets_ += text;
}

void HandOverWriter::AddAccount(json& record, const ExchangeAccount& account) {
  json exchange = {
      {"route", account.route},
      {"timestamp_ms", account.timestamp.count()},
      {"upstream_status", account.upstream_status},
      {"attempts", account.attempts},
      {"reused", account.reused},
      {"age_ms", account.age.count()},
      {"queued_ms", account.queued.count()},
      {"connecting_ms", account.connecting.count()},
      {"first_byte_ms",
       std::chrono::duration_cast<std::chrono::milliseconds>(account.first_byte).count()},
      {"bytes_in", account.octets_in},
      {"bytes_out", account.octets_out},
      {"headers", json::array()}};
  for (const TextRow& row : kTexts) {
    AddText(exchange, row.name, account.*row.text);
  }
  for (const auto& [name, value] : account.headers) {
    json header = {{"name", name}};
    AddText(header, "size", value);
    exchange["headers"].push_back(std::move(header));
  }
  record["exchange"] = std::move(exchange);
}

void HandOverWriter::Add(const Moving& moving, TimePoint now) {
  json record = {{"kind", RowOf(KindOf(moving)).word}};
  if (const auto* pooled = std::get_if<MovingUpstream>(&moving)) {
    record["upstream"] = pooled->upstream;
    record["endpoint"] = pooled->endpoint;
    AddDuration(record, "patience_ms", pooled->patience);
    fds_.push_back(pooled->fd.get());
    connections_.push_back(std::move(record));
    return;
  }
  const auto& connection = std::get<MovingConnection>(moving);
  const IdleConnection& idle = connection.idle;
  record["listener"] = idle.client.listener;
  record["port"] = idle.client.port.view();
  record["speaks"] = idle.client.speaks;
  record["age_ms"] = now - idle.opened;
  AddDuration(record, "patience_ms", idle.Patience(now));
  record["bytes_in"] = idle.octets_in;
  record["bytes_out"] = idle.octets_out;
  record["hand_overs"] = idle.hand_overs;
  record["parked"] = connection.parks;
  AddText(record, "unread", connection.unread);
  fds_.push_back(idle.fd.get());
  if (connection.tunnel != nullptr) {
    const MovingTunnel& tunnel = *connection.tunnel;
    const ExchangeAccount account = tunnel.exchange->Describe();
    record["upstream"] = account.upstream;
    record["endpoint"] = account.endpoint;
    AddDuration(record, "tunnel_patience_ms", tunnel.patience);
    AddText(record, "to_client", tunnel.to_client);
    AddAccount(record, account);
    fds_.push_back(tunnel.upstream.get());
  }
  connections_.push_back(std::move(record));
}

Result<std::vector<OfferedConnection>> ReadHandOver(const json& connections,
                                                    std::string_view octets,
                                                    std::vector<UniqueFd> fds) {
  const Error nonsense(ErrorKind::kProtocol, "an offer that makes no sense");
  if (!connections.is_array() || connections.size() > kMostInABatch) {
    return Fail(nonsense);
  }
  std::vector<OfferedConnection> offered;
  TextReader texts(octets);
  std::span<UniqueFd> rest(fds);
  for (const json& record : connections) {
    auto one = record.is_object() ? ReadOne(record, texts, rest) : std::nullopt;
    if (!one) {
      return Fail(nonsense);
    }
    offered.push_back(std::move(*one));
  }
  if (!rest.empty()) {
    return Fail(nonsense);
  }
  return offered;
}

}  // namespace tidegate
