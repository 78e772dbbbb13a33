#pragma once

// Counters in memory that all processes share: a memfd with one row a process. Each slot has one
// writer, the owner of the row, so adding is a load and a store; readers see each value whole, at
// most a moment late. No locks, no messages, and what a crashed worker counted is still there.
//
// Layout: CountersHeader, a directory of names (CounterName each), then the rows, each on its own
// cache lines.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "common/check.h"
#include "common/error.h"
#include "common/result.h"

namespace tidegate {

enum class CounterKind : std::uint8_t { kTotal, kGauge };

// The rows of counters_table.h, then one total for each row of error_table.h: see CounterOf.
enum class CounterId : std::uint16_t {
#define TG_COUNTER(id, ...) id,
#include "common/counters_table.h"
#undef TG_COUNTER
  kFirstError,
};

struct CounterRow {
  std::string_view name;
  CounterKind kind;
  std::string_view help;
};

// How many slots a row has; ids are 0 to this, exclusive.
std::size_t CounterCount();
const CounterRow& RowOf(CounterId id);
// `errors_<log name>`.
inline CounterId CounterOf(ErrorKind kind) {
  return static_cast<CounterId>(static_cast<std::size_t>(CounterId::kFirstError) +
                                static_cast<std::size_t>(kind));
}
// 1xx to 5xx. `status` is 100 to 599.
inline CounterId CounterOfStatus(int status) {
  return static_cast<CounterId>(static_cast<int>(CounterId::kResponses1xx) + status / 100 - 1);
}

// One row, mapped for writing. The memory outlives the descriptor that it was mapped from.
class Counters {
 public:
  // A row of its own that nobody else sees: for tests, and until a row is given.
  Counters();
  // Row `row` of the memory behind `memfd`, which stays the caller's. Errors: kProtocol if the
  // memory has another layout than this binary was built with, or no such row; kSystem.
  static Result<Counters> Map(int memfd, unsigned row);

  Counters(Counters&& other) noexcept;
  Counters& operator=(Counters&& other) noexcept;
  ~Counters();

  void Add(CounterId id, std::uint64_t n = 1) noexcept {
    std::atomic_ref<std::uint64_t> slot(slots_[static_cast<std::size_t>(id)]);
    slot.store(slot.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  // For gauges.
  void Subtract(CounterId id, std::uint64_t n = 1) noexcept { Add(id, ~n + 1); }
  std::uint64_t Get(CounterId id) const noexcept {
    return std::atomic_ref<std::uint64_t>(slots_[static_cast<std::size_t>(id)])
        .load(std::memory_order_relaxed);
  }

 private:
  Counters(void* memory, std::size_t size, std::uint64_t* slots)
      : memory_(memory), size_(size), slots_(slots) {}

  // What munmap gets.
  void* memory_ = nullptr;
  std::size_t size_ = 0;
  std::uint64_t* slots_ = nullptr;
};

// The layout, for counters_owner and its tests.
struct CountersHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t slots;
  std::uint32_t rows;
  // From the start of the memory to row 0, and from one row to the next.
  std::uint32_t rows_offset;
  std::uint32_t row_stride;
  std::uint32_t reserved;
};
struct CounterName {
  char name[47];
  CounterKind kind;
};
// Ends with the field where the name does not end before: others can write there.
std::string_view NameIn(const CounterName& entry);
inline constexpr std::uint64_t kCountersMagic = 0x54474354'52303031;  // "TGCTR001"
inline constexpr std::uint32_t kCountersVersion = 1;

// What a header that is filled from this binary's tables says, for `rows` rows.
CountersHeader CountersLayout(std::uint32_t rows);
// Octets that the layout needs.
std::size_t CountersSize(const CountersHeader& header);

}  // namespace tidegate
