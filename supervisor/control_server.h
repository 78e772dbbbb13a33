#pragma once

// The control socket: who may speak, what they ask, and the way back to those who wait for an
// answer. A client may leave at any time; telling one that has left is nothing.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/control.h"

namespace tidegate {

// Names a client; never used again. 0: nobody, e.g. a signal.
using ClientId = std::uint64_t;

class ControlServer final : public ControlChannel::Handler {
 public:
  using OnCommand =
      std::function<void(ClientId client, const std::string& command, const nlohmann::json& args)>;

  // A peer whose process is one gives no commands: where supervisor and workers are one user, a
  // worker that somebody has taken over could have us execute any program.
  using IsWorker = std::function<bool(pid_t pid)>;

  ControlServer(Loop& loop, OnCommand on_command, IsWorker is_worker);
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  ~ControlServer();

  // Makes the folder if it is missing, binds, listens. EADDRINUSE if the path exists.
  Result<> Listen(const std::string& path);
  // A socket that listens already.
  void Adopt(UniqueFd listener, const std::string& path);
  // Removes the path, too. Clients that wait stay.
  void StopListening();
  // From here on the socket is found at `path`, whatever was there. Error: kSystem.
  Result<> MoveTo(const std::string& path);
  // Takes all that waits now, and no more than can wait: who connects faster than we accept does
  // not keep the loop. Before a worker is forgotten, say: who connected is known by its process id.
  void AcceptWaiting();
  int listener_fd() const { return listener_.get(); }
  const std::string& path() const { return path_; }

  void Send(ClientId client, const nlohmann::json& message);
  // The answer: a result {exit_code, message, data} and what `more` adds to it. The client is gone
  // then.
  void Finish(ClientId client, int exit_code, std::string_view message,
              nlohmann::json data = nlohmann::json::object(),
              const nlohmann::json& more = nlohmann::json::object());
  bool is_flushed() const;

  // Whether a client is root or our own user, who may have us execute any program, and not only of
  // the socket's group: what we execute keeps our capabilities.
  bool MayNamePrograms(ClientId client) const;

  // For the state: the descriptor of a client, -1 if it has left; and the client at one.
  int FdOf(ClientId client) const;
  // `has_asked`: it waits for an answer.
  ClientId AdoptClient(UniqueFd fd, bool has_asked);
  // Of clients that have connected and whose command has not been read.
  std::vector<int> SilentFds() const;

 private:
  void Judge(UniqueFd fd);
  void TellOfRefusal(const PeerCredentials& peer, bool is_worker);
  void OnControlMessage(ControlChannel& channel, ControlMessage message) override;
  void OnControlClosed(ControlChannel& channel, const Error& reason) override;
  ClientId IdOf(const ControlChannel& channel) const;
  void Sweep();

  Loop& loop_;
  OnCommand on_command_;
  IsWorker is_worker_;
  UniqueFd listener_;
  uv_poll_t* poll_ = nullptr;
  std::string path_;
  std::map<ClientId, std::unique_ptr<ControlChannel>> clients_;
  std::set<ClientId> asked_;
  // Answered, and not everything is written yet.
  std::vector<std::unique_ptr<ControlChannel>> leaving_;
  Deadline sweep_;
  // One line a minute tells of refused peers.
  TimePoint refusal_told_ = 0;
  std::uint64_t refused_ = 0;
  ClientId next_id_ = 1;
};

}  // namespace tidegate
