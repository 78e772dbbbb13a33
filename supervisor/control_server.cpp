#include "supervisor/control_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "common/check.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr mode_t kSocketMode = 0660;
constexpr int kPermission = 5;
constexpr TimePoint kTellEvery = 60'000;

bool IsOwner(const PeerCredentials& peer) {
  return peer.uid == 0 || peer.uid == ::geteuid();
}

// Also by one of its supplementary groups (Linux 4.13 and newer tell them).
bool IsInGroup(int fd, const PeerCredentials& peer, gid_t group) {
  gid_t groups[256];
  socklen_t size = sizeof(groups);
  if (peer.gid == group) {
    return true;
  }
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0 &&
         std::find(groups, groups + size / sizeof(gid_t), group) != groups + size / sizeof(gid_t);
}

}  // namespace

ControlServer::ControlServer(Loop& loop, OnCommand on_command, IsWorker is_worker)
    : loop_(loop),
      on_command_(std::move(on_command)),
      is_worker_(std::move(is_worker)),
      sweep_(loop.timers(), Bind<&ControlServer::Sweep>(this)) {}

ControlServer::~ControlServer() {
  if (poll_ != nullptr) {
    StopListening();
  }
}

Result<> ControlServer::Listen(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  Result<UniqueFd> listener = ListenControl(path, kSocketMode);
  if (!listener) {
    return Fail(listener.error());
  }
  Adopt(std::move(*listener), path);
  return {};
}

void ControlServer::Adopt(UniqueFd listener, const std::string& path) {
  listener_ = std::move(listener);
  path_ = path;
  poll_ = new uv_poll_t;
  TG_CHECK(uv_poll_init(loop_.uv(), poll_, listener_.get()) == 0);
  poll_->data = this;
  uv_poll_start(poll_, UV_READABLE, [](uv_poll_t* handle, int, int) {
    static_cast<ControlServer*>(handle->data)->AcceptWaiting();
  });
}

void ControlServer::StopListening() {
  if (poll_ != nullptr) {
    uv_close(reinterpret_cast<uv_handle_t*>(std::exchange(poll_, nullptr)),
             [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
    ::unlink(path_.c_str());
  }
  listener_.Reset();
}

Result<> ControlServer::MoveTo(const std::string& path) {
  if (::rename(path_.c_str(), path.c_str()) != 0) {
    return Fail(Error::System(errno, "rename the control socket to " + path));
  }
  path_ = path;
  return {};
}

void ControlServer::AcceptWaiting() {
  for (int left = kControlBacklog + 1; listener_ && left > 0;) {
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) {
      --left;
      Judge(std::move(fd));
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

void ControlServer::Judge(UniqueFd fd) {
  Result<PeerCredentials> peer = PeerOf(fd.get());
  struct stat info{};
  ::stat(path_.c_str(), &info);
  // The mode of the socket lets in the owner and its group; the kernel has checked that on connect.
  const bool is_worker = peer && is_worker_(peer->pid);
  if (peer && !is_worker && (IsOwner(*peer) || IsInGroup(fd.get(), *peer, info.st_gid))) {
    AdoptClient(std::move(fd), false);
    return;
  }
  TellOfRefusal(peer ? *peer : PeerCredentials{}, is_worker);
  // A worker gets no answer: with many connections it would hold all our descriptors, and the rest
  // of its queue would wait until we do not know it any more.
  if (!is_worker) {
    // It may not have asked yet: answered now, closed when it has read.
    Finish(AdoptClient(std::move(fd), true), kPermission,
           "the daemon takes commands from its own user, its group and root only");
  }
}

void ControlServer::TellOfRefusal(const PeerCredentials& peer, bool is_worker) {
  ++refused_;
  const TimePoint now = loop_.now();
  if (refusal_told_ != 0 && now - refusal_told_ < kTellEvery) {
    return;
  }
  refusal_told_ = std::max<TimePoint>(now, 1);
  LogEvent(
      LogLevel::kWarn,
      fmt::format("the control socket refused {} (pid {}, uid {}), number {} of those refused",
                  is_worker ? "a worker" : "a peer of another user", peer.pid, peer.uid, refused_));
}

bool ControlServer::MayNamePrograms(ClientId client) const {
  const int fd = FdOf(client);
  Result<PeerCredentials> peer = fd < 0 ? Fail(ErrorKind::kClosed, "it has left") : PeerOf(fd);
  return peer && IsOwner(*peer);
}

ClientId ControlServer::AdoptClient(UniqueFd fd, bool has_asked) {
  ClientId id = next_id_++;
  if (has_asked) {
    asked_.insert(id);
  }
  clients_[id] = std::make_unique<ControlChannel>(loop_, std::move(fd), *this);
  return id;
}

ClientId ControlServer::IdOf(const ControlChannel& channel) const {
  for (const auto& [id, held] : clients_) {
    if (held.get() == &channel) {
      return id;
    }
  }
  return 0;
}

void ControlServer::OnControlMessage(ControlChannel& channel, ControlMessage message) {
  ClientId id = IdOf(channel);
  if (id != 0 && message.type() == "takeover") {
    Finish(id, 6, "a supervisor runs here already");
  } else if (id != 0 && message.type() == "command") {
    auto args = message.body.find("args");
    bool has_args = args != message.body.end() && args->is_object();
    asked_.insert(id);
    on_command_(id, TextOf(message.body, "command"), has_args ? *args : json::object());
  }
}

void ControlServer::OnControlClosed(ControlChannel& channel, const Error&) {
  asked_.erase(IdOf(channel));
  clients_.erase(IdOf(channel));
  std::erase_if(leaving_, [&](const auto& held) { return held.get() == &channel; });
}

void ControlServer::Send(ClientId client, const json& message) {
  auto found = clients_.find(client);
  if (found != clients_.end()) {
    found->second->Send(message);
  }
}

void ControlServer::Finish(ClientId client, int exit_code, std::string_view message, json data,
                           const json& more) {
  json result = MakeControlMessage("result");
  result["exit_code"] = exit_code;
  result["message"] = message;
  result["data"] = std::move(data);
  result.update(more);
  Send(client, result);
  asked_.erase(client);
  auto found = clients_.extract(client);
  if (!found.empty()) {
    // It closes when it has read; who does not read is closed by the sweep.
    leaving_.push_back(std::move(found.mapped()));
    sweep_.Arm(std::chrono::seconds(5));
  }
}

void ControlServer::Sweep() {
  leaving_.clear();
}

bool ControlServer::is_flushed() const {
  return std::all_of(leaving_.begin(), leaving_.end(),
                     [](const auto& channel) { return channel->is_flushed(); }) &&
         std::all_of(clients_.begin(), clients_.end(),
                     [](const auto& entry) { return entry.second->is_flushed(); });
}

std::vector<int> ControlServer::SilentFds() const {
  std::vector<int> fds;
  for (const auto& [id, channel] : clients_) {
    if (!asked_.contains(id)) {
      fds.push_back(channel->fd());
    }
  }
  return fds;
}

int ControlServer::FdOf(ClientId client) const {
  auto found = clients_.find(client);
  return found == clients_.end() ? -1 : found->second->fd();
}

}  // namespace tidegate
