#include "supervisor/port_holder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

#include <fmt/format.h>

namespace tidegate {
namespace {

namespace fs = std::filesystem;

// Inodes of the sockets that listen on `port`, as their link in /proc/PID/fd reads.
std::set<std::string> ListeningSockets(std::uint16_t port) {
  constexpr std::string_view kListen = "0A";
  std::set<std::string> sockets;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      // sl local_address rem_address st queues timer retransmit uid timeout inode
      std::istringstream words(line);
      std::string slot, local, remote, state, skipped, inode;
      words >> slot >> local >> remote >> state;
      for (int i = 0; i < 5; ++i) {
        words >> skipped;
      }
      words >> inode;
      unsigned number = 0;
      std::size_t colon = local.rfind(':');
      if (state == kListen && colon != std::string::npos) {
        std::from_chars(local.data() + colon + 1, local.data() + local.size(), number, 16);
        if (number == port) {
          sockets.insert("socket:[" + inode + "]");
        }
      }
    }
  }
  return sockets;
}

bool HoldsOneOf(const fs::path& process, const std::set<std::string>& sockets) {
  std::error_code error;
  for (fs::directory_iterator entry(process / "fd", error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code gone;
    fs::path link = fs::read_symlink(entry->path(), gone);
    if (!gone && sockets.contains(link.string())) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string HolderOfPort(std::uint16_t port) {
  std::set<std::string> sockets = ListeningSockets(port);
  if (sockets.empty()) {
    return {};
  }
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error), end; !error && entry != end;
       entry.increment(error)) {
    std::string pid = entry->path().filename().string();
    bool is_process = std::ranges::all_of(pid, [](char c) { return c >= '0' && c <= '9'; });
    if (is_process && HoldsOneOf(entry->path(), sockets)) {
      std::string name;
      std::ifstream comm(entry->path() / "comm");
      std::getline(comm, name);
      return fmt::format("{} (pid {})", name.empty() ? "a process" : name, pid);
    }
  }
  return {};
}

}  // namespace tidegate
