#pragma once

// Messages over SOCK_SEQPACKET with descriptors beside them (format: control_messages.h). Two ways
// to use a connection: ControlChannel in a loop, for supervisor and workers;
// SendControl/ReceiveControl, which wait, for the CLI and for short talks with a limit.
//
// Invariants:
//   1. A peer that does not read is disconnected, never waited for: the queue is bounded.
//   2. Descriptors are counted: a record with fewer or more than it announces, or a cut one, ends
//   the connection.
//   3. Every received descriptor is close-on-exec from the start and is closed unless the handler
//   takes it.

#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <uv.h>

#include "common/control_messages.h"
#include "common/loop.h"
#include "common/result.h"
#include "common/units.h"

namespace tidegate {

// A connected, non-blocking, close-on-exec pair.
Result<std::pair<UniqueFd, UniqueFd>> MakeControlPair();
// A sealed memfd with `text`; `name` shows in /proc. And what such a descriptor holds; its offset
// is left alone. ReadMemfd refuses more than kControlMaxPayload and what is not sealed against
// writing: the text could change under us.
Result<UniqueFd> MakeMemfd(std::string_view name, std::string_view text);
Result<std::string> ReadMemfd(int fd);

// Who is at the other end of a unix socket.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
Result<PeerCredentials> PeerOf(int fd);

// A listening SEQPACKET socket at `path` (at most 107 octets), mode `mode`. Removes nothing:
// EADDRINUSE if the path exists.
Result<UniqueFd> ListenControl(const std::string& path, mode_t mode);
// listen(2) of such a socket. Linux lets one more wait.
inline constexpr int kControlBacklog = 64;
// Errors: kSystem with ENOENT, ECONNREFUSED (nobody listens), EACCES, ETIMEDOUT after `timeout`
// (its queue is full). The connection is non-blocking.
Result<UniqueFd> ConnectControl(const std::string& path, Duration timeout);

// Sends, waiting until `timeout`. Errors: kClosed, kTimeout, kSystem.
Result<> SendControl(int fd, const nlohmann::json& body, std::span<const int> fds,
                     Duration timeout);
// The next message, waiting until `timeout` (kNever: for ever). Errors: kClosed at the end,
// kTimeout, kProtocol, kSystem.
Result<ControlMessage> ReceiveControl(int fd, Duration timeout);

// One end of a connection, in a loop. Sends in order; tells its handler what comes and that it
// ended.
class ControlChannel {
 public:
  class Handler {
   public:
    // Called from the loop. May close or destroy the channel.
    virtual void OnControlMessage(ControlChannel& channel, ControlMessage message) = 0;
    // The connection is over, by the peer (kClosed), its fault (kProtocol) or because it does not
    // read (kTimeout). Called once, not after Close. May destroy the channel.
    virtual void OnControlClosed(ControlChannel& channel, const Error& reason) = 0;

   protected:
    ~Handler() = default;
  };

  // `fd` is connected; it becomes non-blocking. `handler` and `loop` outlive the channel.
  ControlChannel(Loop& loop, UniqueFd fd, Handler& handler);
  ControlChannel(const ControlChannel&) = delete;
  ControlChannel& operator=(const ControlChannel&) = delete;
  ~ControlChannel();

  // Sends now or when the peer reads. `fds` stay the caller's (what has to wait is duplicated). A
  // channel whose queue is full ends: the handler hears of it from the loop, not from within.
  // False: the peer will never get it, since one of the two has closed or the channel has failed.
  bool Send(const nlohmann::json& body, std::span<const int> fds = {});
  // Ends it; what is queued is lost. Idempotent.
  void Close();
  bool is_open() const { return watch_ != nullptr; }
  // Nothing is waiting to be sent.
  bool is_flushed() const { return queue_.empty(); }
  int fd() const { return fd_.get(); }
  // Gives the connection away, unread and unsent parts with it. The channel is closed then.
  UniqueFd Release();

 private:
  struct Outgoing {
    std::string text;
    std::vector<UniqueFd> fds;
  };
  struct Watch;

  static void OnPoll(uv_poll_t* handle, int status, int events);
  void Watching();
  void Flush();
  void ReadAll();
  void Fail(Error error);
  void ReportFailure();

  Loop& loop_;
  UniqueFd fd_;
  Handler& handler_;
  // The uv handle, freed by its close callback; it points back to us until then.
  Watch* watch_ = nullptr;
  std::deque<Outgoing> queue_;
  std::optional<Error> failure_;
  Deadline failed_;
  // Set by the destructor while a callback is on the stack.
  bool* destroyed_ = nullptr;
};

}  // namespace tidegate
