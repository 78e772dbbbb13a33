#include "common/counters.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace tidegate {
namespace {

constexpr std::size_t kLine = 64;

constexpr std::size_t RoundUp(std::size_t value) {
  return (value + kLine - 1) / kLine * kLine;
}

// The table, then the errors, with their names made once.
struct Table {
  std::vector<std::string> error_names;
  std::vector<CounterRow> rows;

  Table() {
    rows = {
#define TG_COUNTER(id, name, kind, help) CounterRow{name, CounterKind::kind, help},
#include "common/counters_table.h"
#undef TG_COUNTER
    };
    error_names.reserve(ErrorCount());
    for (std::size_t i = 0; i < ErrorCount(); ++i) {
      error_names.push_back("errors_" + std::string(RowOf(static_cast<ErrorKind>(i)).log_name));
      rows.push_back(CounterRow{error_names.back(), CounterKind::kTotal,
                                "exchanges that ended with this reason"});
    }
  }
};

const Table& TheTable() {
  static const Table table;
  return table;
}

}  // namespace

std::size_t CounterCount() {
  return TheTable().rows.size();
}

const CounterRow& RowOf(CounterId id) {
  return TheTable().rows[static_cast<std::size_t>(id)];
}

std::string_view NameIn(const CounterName& entry) {
  return {entry.name, ::strnlen(entry.name, sizeof(entry.name))};
}

CountersHeader CountersLayout(std::uint32_t rows) {
  auto slots = static_cast<std::uint32_t>(CounterCount());
  return CountersHeader{
      .magic = kCountersMagic,
      .version = kCountersVersion,
      .slots = slots,
      .rows = rows,
      .rows_offset =
          static_cast<std::uint32_t>(RoundUp(sizeof(CountersHeader) + slots * sizeof(CounterName))),
      .row_stride = static_cast<std::uint32_t>(RoundUp(slots * sizeof(std::uint64_t))),
      .reserved = 0,
  };
}

std::size_t CountersSize(const CountersHeader& header) {
  return header.rows_offset + std::size_t{header.rows} * header.row_stride;
}

Counters::Counters() {
  size_ = CounterCount() * sizeof(std::uint64_t);
  memory_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TG_CHECK(memory_ != MAP_FAILED);
  slots_ = static_cast<std::uint64_t*>(memory_);
}

Result<Counters> Counters::Map(int memfd, unsigned row) {
  struct stat info{};
  if (::fstat(memfd, &info) != 0) {
    return Fail(Error::System(errno, "look at the counters memory"));
  }
  auto size = static_cast<std::size_t>(info.st_size);
  CountersHeader expected = CountersLayout(0);
  if (size < expected.rows_offset) {
    return Fail(ErrorKind::kProtocol, "the counters memory is too small");
  }
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (memory == MAP_FAILED) {
    return Fail(Error::System(errno, "map the counters memory"));
  }
  CountersHeader header{};
  std::memcpy(&header, memory, sizeof(header));
  expected.rows = header.rows;
  bool same = std::memcmp(&header, &expected, sizeof(header)) == 0 && row < header.rows &&
              CountersSize(header) <= size;
  const auto* names =
      reinterpret_cast<const CounterName*>(static_cast<char*>(memory) + sizeof(header));
  for (std::size_t i = 0; same && i < header.slots; ++i) {
    same = RowOf(static_cast<CounterId>(i)).name == NameIn(names[i]);
  }
  if (!same) {
    ::munmap(memory, size);
    return Fail(ErrorKind::kProtocol,
                "the counters memory has another layout: supervisor and worker are not of the same "
                "build");
  }
  auto* slots = reinterpret_cast<std::uint64_t*>(static_cast<char*>(memory) + header.rows_offset +
                                                 std::size_t{row} * header.row_stride);
  return Counters(memory, size, slots);
}

Counters::Counters(Counters&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)),
      size_(other.size_),
      slots_(std::exchange(other.slots_, nullptr)) {}

Counters& Counters::operator=(Counters&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(size_, other.size_);
  std::swap(slots_, other.slots_);
  return *this;
}

Counters::~Counters() {
  if (memory_ != nullptr) {
    ::munmap(memory_, size_);
  }
}

}  // namespace tidegate
