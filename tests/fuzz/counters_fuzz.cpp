// The memory of the counters as a worker may have left it: believed or refused, and nothing outside
// of it is touched.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/check.h"
#include "supervisor/counters_owner.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidegate;
  constexpr std::size_t kMostOctets = 64UL * 1024;
  size = std::min(size, kMostOctets);
  UniqueFd fd(::memfd_create("counters", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  TG_CHECK(::write(fd.get(), data, size) == static_cast<ssize_t>(size));
  TG_CHECK(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
  CountersOwner owner;
  Result<CountersRow> row = owner.Adopt(std::move(fd), 1);
  for (const auto& [name, sum] : owner.Sums()) {
    TG_CHECK(!name.empty() && name.size() <= sizeof(CounterName::name));
  }
  if (row) {
    (void)owner.Get(*row, CounterId::kRequests);
    owner.FoldUnclaimed();
    owner.Fold(*row);
  }
  TG_CHECK(owner.Modernize());
  Result<CountersRow> ours = owner.Allocate();
  TG_CHECK(ours && Counters::Map(owner.memfd(), ours->row));
  return 0;
}
