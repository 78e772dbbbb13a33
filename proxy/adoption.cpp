#include "proxy/adoption.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "common/test_fault.h"

namespace tidegate {
namespace {

using nlohmann::json;

// What else it might be would end us: libuv takes only sockets.
bool IsConnection(const UniqueFd& fd) {
  int type = 0;
  int listens = 0;
  socklen_t size = sizeof(type);
  return ::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM &&
         ::getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens == 0;
}

std::uint8_t SpeaksOf(const ListenerConfig& listener, std::uint8_t speaks) {
  std::uint8_t both = 0;
  for (Protocol protocol : listener.Protocols()) {
    both |= speaks & ClientInfo::SpeaksBit(protocol);
  }
  return both;
}

}  // namespace

Adoption::Adoption(Services& services, SessionList& sessions, Owner& owner, UniqueFd channel,
                   UniqueFd lifeline)
    : services_(services),
      sessions_(sessions),
      owner_(owner),
      channel_(std::make_unique<ControlChannel>(services.loop, std::move(channel), *this)),
      watch_(new Watch) {
  watch_->adoption = this;
  watch_->handle.data = watch_;
  watch_->fd = std::move(lifeline);
  TG_CHECK(uv_poll_init(services.loop.uv(), &watch_->handle, watch_->fd.get()) == 0);
  uv_poll_start(&watch_->handle, UV_READABLE, [](uv_poll_t* handle, int, int) {
    Adoption* adoption = static_cast<Watch*>(handle->data)->adoption;
    if (adoption != nullptr) {
      adoption->OnLifeline();
    }
  });
  json ready = MakeControlMessage("ready");
  ready["record"] = kHandOverRecord;
  ready["room"] = owner_.DescriptorRoom();
  channel_->Send(ready);
}

Adoption::~Adoption() {
  watch_->adoption = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&watch_->handle),
           [](uv_handle_t* handle) { delete static_cast<Watch*>(handle->data); });
}

void Adoption::OnControlMessage(ControlChannel&, ControlMessage message) {
  const std::string type = message.type();
  if (type == "offer") {
    OnOffer(message);
  } else if (type == "commit" && NumberOf(message.body, "batch") == batch_) {
    FaultAt("worker", "taken");
    Begin();
  }
}

void Adoption::OnOffer(ControlMessage& message) {
  FaultAt("worker", "taking");
  if (!held_.empty()) {
    // The old worker does not know what it has committed: it can have it all back.
    LogWarn("an older worker offers connections before it has committed others");
    Drop();
    channel_->Close();
    OnControlClosed(*channel_, Error(ErrorKind::kProtocol));
    return;
  }
  batch_ = NumberOf(message.body, "batch");
  const json connections = message.body.value("connections", json::array());
  Result<std::string> octets;
  if (FlagOf(message.body, "octets") && !message.fds.empty()) {
    octets = ReadMemfd(message.fds.front().get());
    message.fds.erase(message.fds.begin());
  }
  const bool is_known = NumberOf(message.body, "record") == kHandOverRecord &&
                        FaultAt("worker", "record") == Fault::kNone;
  Result<std::vector<OfferedConnection>> offered =
      !is_known ? Fail(ErrorKind::kProtocol, "a record of another version")
      : !octets ? Fail(octets.error())
                : ReadHandOver(connections, *octets, std::move(message.fds));
  json answer = MakeControlMessage("answer");
  answer["batch"] = batch_;
  answer["declined"] = json::array();
  auto decline = [&](std::size_t index, Decline why) {
    answer["declined"].push_back({{"index", index}, {"reason", RowOf(why).word}});
  };
  for (std::size_t i = 0; i < connections.size(); ++i) {
    const auto why = offered ? TakeOne((*offered)[i]) : Decline::kRecord;
    if (why) {
      decline(i, *why);
    }
  }
  answer["room"] = owner_.DescriptorRoom();
  FaultAt("worker", "answer");
  channel_->Send(answer);
  FaultAt("worker", "answered");
}

// What is declined is closed before the answer goes: the old worker has it still.
std::optional<Decline> Adoption::TakeOne(OfferedConnection& offered) {
  OfferedConnection taken = std::move(offered);
  if (!IsConnection(taken.fd) || (taken.upstream_fd && !IsConnection(taken.upstream_fd))) {
    return Decline::kRecord;
  }
  return taken.kind == MoveKind::kUpstream ? TakePooled(taken) : TakeConnection(taken);
}

std::optional<Decline> Adoption::TakePooled(OfferedConnection& offered) {
  const auto& upstreams = services_.snapshot->upstreams();
  auto upstream = upstreams.find(offered.account.upstream);
  if (upstream == upstreams.end() || upstream->second->tls() != nullptr) {
    return Decline::kUpstream;
  }
  // Requests of others will go there: the word of the old worker is not enough.
  auto endpoint = upstream->second->FindEndpoint(offered.account.endpoint);
  if (!endpoint || !upstream->second->IsAt(*endpoint, offered.fd.get())) {
    return Decline::kUpstream;
  }
  if (owner_.DescriptorRoom() == 0) {
    return Decline::kDescriptors;
  }
  held_.emplace_back(MovingUpstream{.upstream = offered.account.upstream,
                                    .endpoint = offered.account.endpoint,
                                    .fd = std::move(offered.fd),
                                    .patience = offered.patience});
  return std::nullopt;
}

std::optional<Decline> Adoption::TakeConnection(OfferedConnection& offered) {
  const std::vector<ListenerConfig>& listeners = services_.snapshot->config().listeners;
  auto listener = std::ranges::find(listeners, offered.listener, &ListenerConfig::name);
  if (listener == listeners.end() || listener->tls || SpeaksOf(*listener, offered.speaks) == 0) {
    return Decline::kListener;
  }
  sockaddr_storage peer{};
  socklen_t length = sizeof(peer);
  if (::getpeername(offered.fd.get(), reinterpret_cast<sockaddr*>(&peer), &length) != 0) {
    return Decline::kClosed;
  }
  const TimePoint now = services_.loop.now();
  const auto age = static_cast<TimePoint>(offered.age.count());
  MovingConnection connection{
      .idle = {.fd = std::move(offered.fd),
               .client = MakeClientInfo(reinterpret_cast<sockaddr*>(&peer), length, offered.port,
                                        *listener),
               .hand_overs = static_cast<std::uint16_t>(offered.hand_overs + 1),
               .opened = now > age ? now - age : 0,
               .octets_in = offered.octets_in,
               .octets_out = offered.octets_out,
               .quiet_until = IdleConnection::After(now, offered.patience)},
      .unread = std::move(offered.unread),
      .tunnel = nullptr,
      .parks = offered.parked};
  connection.idle.client.speaks = SpeaksOf(*listener, offered.speaks);
  if (offered.kind == MoveKind::kTunnel) {
    auto tunnel = std::make_unique<MovingTunnel>();
    tunnel->exchange = std::make_unique<Exchange>(services_);
    Result<> restored = tunnel->exchange->Restore(services_.snapshot, offered.account);
    if (!restored) {
      return restored.error().kind() == ErrorKind::kNoRoute ? Decline::kRoute : Decline::kUpstream;
    }
    if (!tunnel->exchange->has_room_upstream()) {
      return Decline::kUpstream;
    }
    tunnel->upstream = std::move(offered.upstream_fd);
    tunnel->to_client = std::move(offered.to_client);
    tunnel->patience = offered.tunnel_patience;
    connection.tunnel = std::move(tunnel);
  }
  if (auto why = owner_.Admit(connection.idle.client)) {
    return why;
  }
  connection.idle.id = sessions_.NextId();
  held_.emplace_back(std::move(connection));
  return std::nullopt;
}

void Adoption::Begin() {
  for (Moving& moving : std::exchange(held_, {})) {
    if (auto* connection = std::get_if<MovingConnection>(&moving)) {
      owner_.Adopt(std::move(*connection));
      continue;
    }
    // A reload may have come in between.
    PutIntoPool(*services_.snapshot, std::move(std::get<MovingUpstream>(moving)));
  }
}

void Adoption::Drop() {
  for (const Moving& moving : std::exchange(held_, {})) {
    if (const auto* connection = std::get_if<MovingConnection>(&moving)) {
      owner_.OnDropped(connection->idle.client);
    }
  }
}

// --- the end

void Adoption::OnLifeline() {
  char octet = 0;
  const ssize_t size = ::read(watch_->fd.get(), &octet, 1);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  lifeline_ = size > 0 ? Lifeline::kGaveUp : Lifeline::kDied;
  uv_poll_stop(&watch_->handle);
  EndIfOver();
}

void Adoption::OnControlClosed(ControlChannel&, const Error&) {
  EndIfOver();
}

// A commit may still be in the channel when the lifeline tells.
void Adoption::EndIfOver() {
  if (channel_->is_open() || lifeline_ == Lifeline::kOpen) {
    return;
  }
  if (lifeline_ == Lifeline::kDied) {
    Begin();
  } else {
    Drop();
  }
  owner_.OnAdoptionOver(*this);
}

}  // namespace tidegate
