// What a process says on the control socket: any record, with any number of descriptors beside it,
// is a message, or a fault that ends the connection; and no descriptor is kept that nobody took.
//
// The first octet is the number of descriptors (its lowest three bits), the rest is the record.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "common/control.h"
#include "common/control_wire.h"
#include "common/known_addresses.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidegate;
  constexpr std::size_t kMostOctets = 60'000;
  if (size == 0) {
    return 0;
  }
  // The lowest free number: what is left open would take it.
  int before = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  ::close(before);
  auto pair = MakeControlPair();
  TG_CHECK(pair);
  const std::string_view record(reinterpret_cast<const char*>(data) + 1,
                                std::min(size - 1, kMostOctets));
  const std::vector<int> fds(data[0] & 7U, STDERR_FILENO);
  if (!record.empty() && TrySendRecord(pair->first.get(), record, fds)) {
    Result<std::optional<ControlMessage>> message = TryReceiveControl(pair->second.get());
    if (message && *message) {
      TG_CHECK((*message)->fds.size() <= fds.size());
      // What a handler looks at, in whatever type it came.
      const nlohmann::json& body = (*message)->body;
      for (const char* name : {"id", "left", "slot", "generation", "open", "level", "what"}) {
        (void)NumberOf(body, name);
        (void)TextOf(body, name);
        (void)FlagOf(body, name);
        (void)SecondsOf(body, name);
      }
      (void)KnownAddressesOf(body, "addresses");
    }
  }
  pair->first.Reset();
  pair->second.Reset();
  UniqueFd after(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
  TG_CHECK(after.get() == before);
  return 0;
}
