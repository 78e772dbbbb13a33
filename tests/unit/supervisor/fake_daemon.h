#pragma once

// A control socket that answers one command a connection, as a test tells it.

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/control.h"

namespace tidegate {

class FakeDaemon {
 public:
  // Called in the daemon's thread with the connection and the command; the connection ends when it
  // returns.
  using Script = std::function<void(int fd, const nlohmann::json& command)>;

  // With `refusal`, everybody hears that before anything is read.
  explicit FakeDaemon(Script script, std::optional<std::string> refusal = std::nullopt)
      : path_(testing::TempDir() + "tidegate_fake_" + std::to_string(::getpid()) + ".sock"),
        script_(std::move(script)),
        refusal_(std::move(refusal)) {
    ::unlink(path_.c_str());
    auto listener = ListenControl(path_, 0600);
    EXPECT_TRUE(listener) << listener.error().ToString();
    listener_ = std::move(*listener);
    EXPECT_EQ(::pipe(end_), 0);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FakeDaemon() {
    ::close(end_[1]);
    thread_.join();
    ::close(end_[0]);
    ::unlink(path_.c_str());
  }

  // A script that sends these messages.
  static Script Saying(std::vector<std::string> messages) {
    return [messages = std::move(messages)](int fd, const nlohmann::json&) {
      for (const std::string& message : messages) {
        Say(fd, message);
      }
    };
  }
  static void Say(int fd, const std::string& message) {
    auto body = nlohmann::json::parse(message);
    body["v"] = kControlVersion;
    EXPECT_TRUE(SendControl(fd, body, {}, std::chrono::seconds(5)));
  }

  const std::string& path() const { return path_; }
  // What was asked. Read it only when the client has its answer.
  const std::vector<nlohmann::json>& commands() const { return commands_; }

 private:
  void Serve() {
    while (true) {
      pollfd entries[2] = {{listener_.get(), POLLIN, 0}, {end_[0], POLLIN, 0}};
      ::poll(entries, 2, -1);
      if (entries[1].revents != 0) {
        return;
      }
      UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (refusal_) {
        Say(client.get(), *refusal_);
        continue;
      }
      auto command = ReceiveControl(client.get(), std::chrono::seconds(5));
      if (command) {
        commands_.push_back(command->body);
        script_(client.get(), command->body);
      }
    }
  }

  std::string path_;
  Script script_;
  std::optional<std::string> refusal_;
  UniqueFd listener_;
  int end_[2] = {-1, -1};
  std::vector<nlohmann::json> commands_;
  std::thread thread_;
};

}  // namespace tidegate
