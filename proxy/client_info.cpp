#include "proxy/client_info.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <ranges>
#include <set>
#include <vector>

#include "common/check.h"

namespace tidegate {
namespace {

constexpr std::size_t kMaxIdLength = 128;

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

// "[::1]:80" -> "::1", "192.0.2.1:80" -> "192.0.2.1"; anything else as it is.
std::string_view WithoutPort(std::string_view text) {
  if (text.starts_with('[')) {
    std::size_t end = text.find(']');
    return end == std::string_view::npos ? text : text.substr(1, end - 1);
  }
  std::size_t colon = text.find(':');
  bool only_one = colon != std::string_view::npos && colon == text.rfind(':');
  return only_one ? text.substr(0, colon) : text;
}

std::optional<sockaddr_storage> ParseIp(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  if (text.empty() || text.size() >= buffer.size()) {
    return std::nullopt;
  }
  std::memcpy(buffer.data(), text.data(), text.size());
  sockaddr_storage storage{};
  auto* ipv4 = reinterpret_cast<sockaddr_in*>(&storage);
  if (inet_pton(AF_INET, buffer.data(), &ipv4->sin_addr) == 1) {
    storage.ss_family = AF_INET;
    return storage;
  }
  auto* ipv6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (inet_pton(AF_INET6, buffer.data(), &ipv6->sin6_addr) == 1) {
    storage.ss_family = AF_INET6;
    return storage;
  }
  return std::nullopt;
}

bool IsTrusted(const sockaddr* address, std::span<const Network> trusted) {
  return std::ranges::any_of(
      trusted, [address](const Network& network) { return network.Contains(address); });
}

// See ClientInfo::network. No /64 that is routed looks like the number of an IPv4 address.
std::uint64_t NetworkOf(const sockaddr* address) {
  constexpr std::uint64_t kIpv4 = std::uint64_t{1} << 32U;
  if (address->sa_family == AF_INET) {
    return kIpv4 | ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr);
  }
  const in6_addr& ipv6 = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  std::uint64_t number = 0;
  if (IN6_IS_ADDR_V4MAPPED(&ipv6)) {
    std::uint32_t ipv4 = 0;
    std::memcpy(&ipv4, &ipv6.s6_addr[12], sizeof(ipv4));
    return kIpv4 | ntohl(ipv4);
  }
  for (int i = 0; i < 8; ++i) {
    number = number << 8U | ipv6.s6_addr[i];
  }
  // ::1 and its neighbours.
  return number == 0 ? 1 : number;
}

bool IsSaneId(std::string_view id) {
  static constexpr std::string_view kMarks = "-_.:/+=@~";
  return !id.empty() && id.size() <= kMaxIdLength && std::ranges::all_of(id, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

// There are as many as a configuration ever named.
std::string_view Interned(std::string_view name) {
  static std::set<std::string, std::less<>> names;
  auto found = names.find(name);
  return found != names.end() ? *found : *names.emplace(name).first;
}

void FillRandom(std::span<unsigned char> out) {
  std::size_t filled = 0;
  while (filled < out.size()) {
    ssize_t got = getrandom(out.data() + filled, out.size() - filled, 0);
    TG_CHECK(got > 0 || errno == EINTR);
    filled += got > 0 ? static_cast<std::size_t>(got) : 0;
  }
}

}  // namespace

std::string PortOf(const sockaddr* local, socklen_t local_length) {
  if (local->sa_family != AF_INET && local->sa_family != AF_INET6) {
    return {};
  }
  std::string text = SockaddrToString(local, local_length);
  return text.substr(text.rfind(':') + 1);
}

ClientInfo MakeClientInfo(const sockaddr* peer, socklen_t peer_length, std::string_view port,
                          const ListenerConfig& listener) {
  ClientInfo client;
  client.has_ip = peer->sa_family == AF_INET || peer->sa_family == AF_INET6;
  if (client.has_ip) {
    client.peer = SockaddrToString(peer, peer_length);
    client.ip = WithoutPort(client.peer);
  } else {
    // Its path, if it has one, is chosen by the peer and tells nothing.
    client.peer = "unix";
    client.ip = "unix";
  }
  client.port = port;
  client.listener = Interned(listener.name);
  client.trusted = IsTrusted(peer, listener.trusted_proxies);
  client.network = client.has_ip && !client.trusted ? NetworkOf(peer) : 0;
  client.proto = listener.tls ? "https" : "http";
  client.speaks = 0;
  for (Protocol protocol : listener.Protocols()) {
    client.speaks |= ClientInfo::SpeaksBit(protocol);
  }
  return client;
}

ServedClient::ServedClient(const ClientInfo& client) : ClientInfo(client) {
  if (has_ip) {
    Add(FieldId::kXForwardedFor, "X-Forwarded-For", ip);
  }
  Add(FieldId::kXForwardedProto, "X-Forwarded-Proto", proto);
  if (!port.empty()) {
    Add(FieldId::kXForwardedPort, "X-Forwarded-Port", port);
  }
}

void ServedClient::Add(FieldId id, std::string_view name, std::string_view value) {
  char* line = text_.data() + size_;
  char* end = line;
  for (std::string_view part : {name, std::string_view(": "), value, std::string_view("\r\n")}) {
    TG_CHECK(part.size() <= static_cast<std::size_t>(text_.data() + kMaxText - end));
    end = std::ranges::copy(part, end).out;
  }
  size_ = static_cast<std::size_t>(end - text_.data());
  fields_[count_++] = Field::OfLine(id, {line, end}, name.size());
}

std::string_view ClientIpOf(const RequestHead& head, const ClientInfo& client,
                            std::span<const Network> trusted_proxies) {
  std::string_view best = client.ip;
  if (!client.trusted) {
    return best;
  }
  for (const Field& field : std::views::reverse(head.fields)) {
    std::string_view rest = field.id == FieldId::kXForwardedFor ? field.value : "";
    while (!rest.empty()) {
      std::size_t comma = rest.rfind(',');
      std::string_view element =
          Trimmed(comma == std::string_view::npos ? rest : rest.substr(comma + 1));
      rest = comma == std::string_view::npos ? "" : rest.substr(0, comma);
      if (element.empty()) {
        continue;  // RFC 9110 section 5.6.1: empty elements of lists are skipped
      }
      std::string_view text = WithoutPort(element);
      std::optional<sockaddr_storage> address = ParseIp(text);
      if (!address) {
        return best;
      }
      best = text;
      if (!IsTrusted(reinterpret_cast<const sockaddr*>(&*address), trusted_proxies)) {
        return best;
      }
    }
  }
  return best;
}

std::string_view ClientIpOf(const RequestHead& head, const ClientInfo& client,
                            const Config& config) {
  if (!client.trusted) [[likely]] {
    return client.ip;
  }
  // A reload may have taken the listener away; its connections go on.
  auto listener = std::ranges::find(config.listeners, client.listener, &ListenerConfig::name);
  return ClientIpOf(
      head, client,
      listener == config.listeners.end() ? config.trusted_proxies : listener->trusted_proxies);
}

Field RequestIds::Next(Arena& arena) {
  if (used_ == kBatch) {
    MakeBatch();
  }
  const Line& line = lines_[used_++];
  char* copy = arena.Allocate(line.size());
  std::memcpy(copy, line.data(), line.size());
  return Field::OfLine(FieldId::kXRequestId, {copy, line.size()}, kStart.find(':'));
}

void RequestIds::MakeBatch() {
  constexpr std::size_t kDigits = 2 * kIdBytes;
  std::array<unsigned char, kIdBytes * kBatch> random;
  FillRandom(random);
  // Two loops that the compiler makes vector instructions of, 16 digits at a time.
  std::array<char, kDigits * kBatch> digits;
  for (std::size_t i = 0; i < random.size(); ++i) {
    digits[2 * i] = static_cast<char>(random[i] >> 4);
    digits[2 * i + 1] = static_cast<char>(random[i] & 15);
  }
  for (char& digit : digits) {
    digit = static_cast<char>(digit + '0' + (digit > 9 ? 'a' - '9' - 1 : 0));
  }
  for (std::size_t i = 0; i < kBatch; ++i) {
    char* out = std::ranges::copy(kStart, lines_[i].data()).out;
    std::memcpy(out, &digits[i * kDigits], kDigits);
    std::ranges::copy(kLineEnd, out + kDigits);
  }
  used_ = 0;
}

Field ChooseRequestId(RequestHead& head, const ClientInfo& client, RequestIds& ids) {
  if (client.trusted) {
    const Field* found = nullptr;
    std::size_t count = 0;
    for (const Field& field : head.fields) {
      if (field.id == FieldId::kXRequestId) {
        found = &field;
        ++count;
      }
    }
    if (count == 1 && IsSaneId(found->value)) {
      return {"X-Request-Id", found->value, FieldId::kXRequestId};
    }
  }
  return ids.Next(head.arena);
}

}  // namespace tidegate
