// What an older worker offers: any records, any octets, any number of descriptors are connections
// that were read, or none of it; and no descriptor is kept of what was not.
//
// The first octet is the number of descriptors (its lowest three bits); then the records, as JSON,
// up to a zero octet; the rest is the octets.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/socket.h"
#include "proxy/handover_record.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidegate;
  if (size == 0) {
    return 0;
  }
  // The lowest free number: what is left open would take it.
  int before = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  ::close(before);
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string_view text = input.substr(0, input.find('\0'));
  const std::string_view octets = input.substr(std::min(input.size(), text.size() + 1));
  const nlohmann::json connections = nlohmann::json::parse(text, nullptr, false);
  const std::size_t count = data[0] & 7U;
  std::vector<UniqueFd> fds;
  for (std::size_t i = 0; i < count; ++i) {
    fds.emplace_back(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
  }
  {
    auto offered = ReadHandOver(connections, octets, std::move(fds));
    if (offered) {
      std::size_t taken = 0;
      std::size_t texts = 0;
      for (const OfferedConnection& one : *offered) {
        TG_CHECK(one.fd && (one.kind == MoveKind::kTunnel) == static_cast<bool>(one.upstream_fd));
        TG_CHECK(one.unread.size() <= SocketStream::kMostUnread &&
                 one.to_client.size() <= SocketStream::kMostUnread);
        TG_CHECK(one.age.count() >= 0 && one.patience.count() >= 0 &&
                 one.tunnel_patience.count() >= 0);
        taken += one.upstream_fd ? 2 : 1;
        texts += one.unread.size() + one.to_client.size() + one.account.target.size();
      }
      TG_CHECK(taken == count && texts <= octets.size() && offered->size() <= kMostInABatch);
    }
  }
  UniqueFd after(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
  TG_CHECK(after.get() == before);
  return 0;
}
