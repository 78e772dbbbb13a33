#pragma once

// The memory of the counters (common/counters.h), the rows in use, and the totals. Row 0 is the
// supervisor's own; it also holds what finished workers counted. The memory outlives this process:
// workers have it, and a successor takes it.
//
// A successor with other counters than its predecessor makes new memory; old workers go on counting
// in the old one until they end. Totals are summed, and in the end carried over, by name.
//
// Every worker can write everywhere in the memory. Its header and its names are believed once,
// after a look, and a copy of them from then on; numbers may be anything.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/control_messages.h"
#include "common/counters.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace tidegate {

// Where a worker counts.
struct CountersRow {
  // Which memory; new workers get the newest.
  std::uint64_t memory_id = 0;
  unsigned row = 0;
};

class CountersOwner {
 public:
  CountersOwner() = default;
  CountersOwner(const CountersOwner&) = delete;
  CountersOwner& operator=(const CountersOwner&) = delete;

  // Fresh memory, all zero. Error: kSystem.
  Result<> Create();
  // Makes the newest memory one of our layout, if it is not. Those that are there stay as they are:
  // an image that we go back to finds what it had. Error: kSystem.
  Result<> Modernize();
  // Closes all but the newest that no worker counts in any more; their totals go to the newest, and
  // what has no name there ends. Not while an image may come back whose state names them. After
  // Modernize.
  void GiveBack();
  // What a worker maps.
  int memfd() const { return memories_.back().fd.get(); }

  // A row of zeros. Error: kInternal if all are in use.
  Result<CountersRow> Allocate();
  // Its writer is gone: totals are kept, gauges are forgotten, the row is free.
  void Fold(CountersRow row);
  // The supervisor's own row.
  void Add(CounterId id, std::uint64_t n = 1);

  std::uint64_t Get(CountersRow row, CounterId id) const;
  // The sum of all rows, by name.
  std::map<std::string, std::uint64_t> Sums() const;

  nlohmann::json Save(std::vector<int>& fds) const;
  // `state` came from Save of this or another version. A memory that is damaged costs what was
  // counted in it, and nothing else. Error: kSystem.
  Result<> Restore(const nlohmann::json& state);
  // The memory that an orphaned worker counts in row `row` of. Rows of workers that are not adopted
  // are folded by FoldUnclaimed.
  Result<CountersRow> Adopt(UniqueFd memfd, unsigned row);
  void FoldUnclaimed();
  // The memory of a dead supervisor, whose workers may be dead as well: after those that are
  // adopted. Rows as for Adopt. Error: kProtocol, kSystem.
  Result<> AdoptStored(UniqueFd memfd);
  // Oldest first; they stay ours.
  std::vector<int> memfds() const;

 private:
  struct Unmap {
    std::size_t size;
    void operator()(char* base) const noexcept;
  };
  struct Memory {
    std::uint64_t id = 0;
    UniqueFd fd;
    std::unique_ptr<char, Unmap> base;
    // As they were when it was mapped. No slots and no rows: it is damaged.
    CountersHeader header{};
    std::vector<CounterName> names;
    std::vector<bool> used;
  };

  // Without its descriptor, which stays the caller's. Error: kSystem, kProtocol.
  static Result<Memory> MapMemory(int fd);
  Memory* FindSame(int fd);
  static std::uint64_t& Slot(const Memory& memory, unsigned row, std::size_t slot);
  static std::string_view NameOf(const Memory& memory, std::size_t slot);
  static bool HasOurLayout(const Memory& memory);
  static void FoldRow(const Memory& memory, unsigned row);
  const Memory* Find(std::uint64_t id) const;

  // Oldest first, never empty after Create or Restore.
  std::vector<Memory> memories_;
  std::uint64_t next_id_ = 1;
};

}  // namespace tidegate
