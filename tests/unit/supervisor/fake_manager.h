#pragma once

// Systemd's end of NOTIFY_SOCKET in a unit test: hears what it is told, keeps descriptors by name.
// Notify reads the environment when it is made, so this comes first.

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace tidegate {

class FakeManager {
 public:
  FakeManager() : path_(fmt::format("{}/notify.{}", ::testing::TempDir(), ::getpid())) {
    std::filesystem::remove(path_);
    fd_.Reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address = Address();
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ::setenv("NOTIFY_SOCKET", path_.c_str(), 1);
    ::setenv("TIDEGATE_FDSTORE", "4096", 1);
  }
  ~FakeManager() {
    ::unsetenv("NOTIFY_SOCKET");
    ::unsetenv("TIDEGATE_FDSTORE");
    std::filesystem::remove(path_);
  }
  FakeManager(const FakeManager&) = delete;
  FakeManager& operator=(const FakeManager&) = delete;

  // All that waits. What is stored or removed changes `store`.
  std::vector<std::string> Hear() {
    std::vector<std::string> heard;
    while (true) {
      char octets[1024];
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
      iovec vector{.iov_base = octets, .iov_len = sizeof(octets)};
      msghdr message{};
      message.msg_iov = &vector;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      ssize_t size = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
      if (size < 0) {
        return heard;
      }
      UniqueFd fd;
      if (cmsghdr* header = CMSG_FIRSTHDR(&message)) {
        int number = -1;
        std::memcpy(&number, CMSG_DATA(header), sizeof(int));
        fd.Reset(number);
      }
      heard.emplace_back(octets, static_cast<std::size_t>(size));
      Obey(heard.back(), std::move(fd));
    }
  }

  // All that was told while `action` ran, which waits for us.
  std::vector<std::string> HearWhile(const std::function<void()>& action) {
    std::vector<std::string> heard;
    {
      std::jthread hearing([&](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
          pollfd entry{.fd = fd_.get(), .events = POLLIN, .revents = 0};
          ::poll(&entry, 1, 1);
          std::ranges::move(Hear(), std::back_inserter(heard));
        }
      });
      action();
    }
    std::ranges::move(Hear(), std::back_inserter(heard));
    return heard;
  }

  // Until nothing more goes in.
  void Fill() {
    UniqueFd filler(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address = Address();
    while (::sendto(filler.get(), "X=1", 3, 0, reinterpret_cast<sockaddr*>(&address),
                    sizeof(address)) == 3) {
    }
  }

  // Names that begin with `start`.
  std::vector<std::string> Names(const std::string& start = "") const {
    std::vector<std::string> names;
    for (const auto& [name, fd] : store) {
      if (name.starts_with(start)) {
        names.push_back(name);
      }
    }
    return names;
  }

  std::size_t room = 4096;
  std::vector<std::pair<std::string, UniqueFd>> store;

 private:
  sockaddr_un Address() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    return address;
  }

  void Obey(const std::string& text, UniqueFd fd) {
    const std::size_t at = text.find("FDNAME=");
    const std::string name =
        at == std::string::npos ? "" : text.substr(at + 7, text.find('\n', at) - at - 7);
    struct stat fresh{};
    ::fstat(fd.get(), &fresh);
    if (text.starts_with("FDSTOREREMOVE=1\n")) {
      std::erase_if(store, [&](const auto& one) { return one.first == name; });
    } else if (text.starts_with("FDSTORE=1\n")) {
      for (const auto& [known, held] : store) {
        struct stat info{};
        ::fstat(held.get(), &info);
        if (info.st_ino == fresh.st_ino) {
          return;
        }
      }
      if (store.size() < room) {
        store.emplace_back(name, std::move(fd));
      }
    }
  }

  std::string path_;
  UniqueFd fd_;
};

}  // namespace tidegate
