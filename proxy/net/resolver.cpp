#include "proxy/net/resolver.h"

#include <ares.h>
#include <netdb.h>
#include <sys/time.h>
#include <uv.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace tidegate {
namespace {

constexpr Duration kLeastTtl = std::chrono::seconds(1);
constexpr Duration kMostTtl = std::chrono::minutes(5);
constexpr Duration kTtlOfFiles = std::chrono::minutes(1);
// Each server is asked twice, the second time for twice as long.
constexpr int kFirstTimeoutMs = 2000;
constexpr int kTries = 2;

}  // namespace

// The adapter: a uv_poll for each socket that c-ares opens, one deadline for its time-outs.
struct Resolver::Channel {
  explicit Channel(Loop& the_loop)
      : loop(the_loop), deadline(the_loop.timers(), Bind<&Channel::OnDeadline>(this)) {
    TG_CHECK(ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS);
    ares_options options{};
    options.timeout = kFirstTimeoutMs;
    options.tries = kTries;
    options.sock_state_cb = &Channel::OnSocketState;
    options.sock_state_cb_data = this;
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    int status = ares_init_options(&ares, &options, mask);
    if (status != ARES_SUCCESS) {
      failure = ares_strerror(status);
      ares = nullptr;
    }
  }

  ~Channel() {
    if (ares != nullptr) {
      ares_destroy(ares);
    }
    ares_library_cleanup();
  }

  struct Socket {
    uv_poll_t poll;
    Channel* channel;
    ares_socket_t fd;
  };

  static void OnSocketState(void* data, ares_socket_t fd, int readable, int writable) {
    auto* self = static_cast<Channel*>(data);
    auto found = self->sockets.find(fd);
    if (readable == 0 && writable == 0) {
      if (found != self->sockets.end()) {
        uv_close(reinterpret_cast<uv_handle_t*>(&found->second->poll),
                 [](uv_handle_t* handle) { delete static_cast<Socket*>(handle->data); });
        self->sockets.erase(found);
      }
      return;
    }
    if (found == self->sockets.end()) {
      auto* socket = new Socket{.poll = {}, .channel = self, .fd = fd};
      TG_CHECK(uv_poll_init_socket(self->loop.uv(), &socket->poll, fd) == 0);
      socket->poll.data = socket;
      found = self->sockets.emplace(fd, socket).first;
    }
    int events = (readable != 0 ? UV_READABLE : 0) | (writable != 0 ? UV_WRITABLE : 0);
    uv_poll_start(&found->second->poll, events, &Channel::OnPoll);
  }

  static void OnPoll(uv_poll_t* handle, int status, int events) {
    auto* socket = static_cast<Socket*>(handle->data);
    Channel* self = socket->channel;
    ares_socket_t fd = socket->fd;
    // An error is for c-ares to find: it reads and sees.
    bool read = status < 0 || (events & UV_READABLE) != 0;
    bool write = status < 0 || (events & UV_WRITABLE) != 0;
    ares_process_fd(self->ares, read ? fd : ARES_SOCKET_BAD, write ? fd : ARES_SOCKET_BAD);
    self->ArmDeadline();
  }

  void OnDeadline() {
    ares_process_fd(ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    ArmDeadline();
  }

  void ArmDeadline() {
    timeval wait{};
    timeval* next = ares_timeout(ares, nullptr, &wait);
    if (next == nullptr) {
      deadline.Disarm();
      return;
    }
    deadline.Arm(std::chrono::seconds(next->tv_sec) + Duration(next->tv_usec / 1000 + 1));
  }

  static void OnAnswer(void* argument, int status, int, ares_addrinfo* info) {
    std::unique_ptr<std::weak_ptr<Done>> wanted(static_cast<std::weak_ptr<Done>*>(argument));
    std::unique_ptr<ares_addrinfo, decltype(&ares_freeaddrinfo)> owned(info, &ares_freeaddrinfo);
    std::shared_ptr<Done> done = wanted->lock();
    if (done == nullptr || status == ARES_EDESTRUCTION) {
      return;
    }
    if (status != ARES_SUCCESS || info == nullptr) {
      (*done)(Fail(ErrorKind::kUpstreamUnresolved, ares_strerror(status)));
      return;
    }
    ResolvedAddresses resolved;
    int ttl_seconds = 0;
    for (ares_addrinfo_node* node = info->nodes; node != nullptr; node = node->ai_next) {
      if (node->ai_addrlen > sizeof(sockaddr_storage)) {
        continue;
      }
      SocketAddress address;
      std::memcpy(&address.storage, node->ai_addr, node->ai_addrlen);
      address.length = node->ai_addrlen;
      resolved.addresses.push_back(address);
      bool less = ttl_seconds == 0 || node->ai_ttl < ttl_seconds;
      ttl_seconds = node->ai_ttl > 0 && less ? node->ai_ttl : ttl_seconds;
    }
    if (resolved.addresses.empty()) {
      (*done)(Fail(ErrorKind::kUpstreamUnresolved, "the name has no address"));
      return;
    }
    resolved.ttl = ttl_seconds == 0 ? kTtlOfFiles
                                    : std::clamp<Duration>(std::chrono::seconds(ttl_seconds), kLeastTtl, kMostTtl);
    (*done)(std::move(resolved));
  }

  Loop& loop;
  Deadline deadline;
  ares_channel ares = nullptr;
  std::string failure;
  std::unordered_map<ares_socket_t, Socket*> sockets;
};

Resolver::Resolver(Loop& loop) : channel_(std::make_unique<Channel>(loop)) {}
Resolver::~Resolver() = default;

Resolver::Request Resolver::Resolve(const std::string& name, Done done) {
  if (channel_->ares == nullptr) {
    done(Fail(ErrorKind::kUpstreamUnresolved, channel_->failure));
    return {};
  }
  Request request(std::make_shared<Done>(std::move(done)));
  ares_addrinfo_hints hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  // Freed by OnAnswer, which is called exactly once.
  auto* wanted = new std::weak_ptr<Done>(request.done_);
  ares_getaddrinfo(channel_->ares, name.c_str(), nullptr, &hints, &Channel::OnAnswer, wanted);
  channel_->ArmDeadline();
  return request;
}

}  // namespace tidegate
