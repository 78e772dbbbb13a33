#pragma once

// Below control.h: one record out, one record in, never waiting. For ControlChannel and its tests.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/control_messages.h"
#include "common/result.h"

namespace tidegate {

struct WireRecord {
  std::string text;
  // Holds the message if it is too long for a record; goes first.
  UniqueFd payload;

  std::vector<int> WithPayload(std::span<const int> fds) const {
    std::vector<int> all;
    if (payload) {
      all.push_back(payload.get());
    }
    all.insert(all.end(), fds.begin(), fds.end());
    return all;
  }
};

// `fd_count` is below kControlMaxFds: one place is kept for a payload.
Result<WireRecord> EncodeControl(const nlohmann::json& body, std::size_t fd_count);
// False if the peer's queue is full. Errors: kClosed, kSystem.
Result<bool> TrySendRecord(int fd, std::string_view text, std::span<const int> fds);
// Nothing if nothing is there. Errors: kClosed at the end, kProtocol, kSystem.
Result<std::optional<ControlMessage>> TryReceiveControl(int fd);

}  // namespace tidegate
