// The texts of /etc/hosts and resolv.conf: an administrator's, but what cannot be understood must
// do no harm, and one name must be found however it is written.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/check.h"
#include "proxy/net/name_rules.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidegate;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ResolvConf conf = ParseResolvConf(text);
  for (const std::string& server : conf.servers) {
    TG_CHECK(!server.empty());
  }
  HostsTable hosts{std::string(text)};
  const auto found = hosts.Find("app.internal");
  const auto again = hosts.Find("APP.Internal.");
  TG_CHECK(found.size() == again.size());
  // A line more does not hide those before it.
  HostsTable longer{std::string(text) + "\n192.0.2.77 app.internal\n"};
  const auto more = longer.Find("app.internal");
  TG_CHECK(more.size() == found.size() + 1 || more.size() == found.size());
  TG_CHECK(!more.empty());
  // As long as it is, each address is told once.
  TG_CHECK(found.size() <= size);
  return 0;
}
