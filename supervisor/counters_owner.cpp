#include "supervisor/counters_owner.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tidegate {
namespace {

using nlohmann::json;

// More workers than any machine has, three generations of them; untouched rows cost no memory.
constexpr std::uint32_t kRows = 1024;

}  // namespace

CountersOwner::~CountersOwner() {
  for (const Memory& memory : memories_) {
    ::munmap(memory.base, memory.size);
  }
}

Result<CountersOwner::Memory> CountersOwner::MapMemory(UniqueFd fd) {
  Memory memory;
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) {
    return Fail(Error::System(errno, "look at the counters memory"));
  }
  memory.size = static_cast<std::size_t>(info.st_size);
  if (memory.size < sizeof(CountersHeader)) {
    return Fail(ErrorKind::kProtocol, "the counters memory is too small");
  }
  void* base = ::mmap(nullptr, memory.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) {
    return Fail(Error::System(errno, "map the counters memory"));
  }
  memory.base = static_cast<char*>(base);
  std::memcpy(&memory.header, base, sizeof(memory.header));
  if (memory.header.magic != kCountersMagic || memory.header.version != kCountersVersion ||
      CountersSize(memory.header) > memory.size) {
    ::munmap(base, memory.size);
    return Fail(ErrorKind::kProtocol, "the counters memory is damaged");
  }
  memory.used.resize(memory.header.rows, false);
  memory.used[0] = true;
  memory.fd = std::move(fd);
  return memory;
}

std::uint64_t& CountersOwner::Slot(const Memory& memory, unsigned row, std::size_t slot) {
  char* start =
      memory.base + memory.header.rows_offset + std::size_t{row} * memory.header.row_stride;
  return reinterpret_cast<std::uint64_t*>(start)[slot];
}

const CounterName& CountersOwner::NameOf(const Memory& memory, std::size_t slot) {
  return reinterpret_cast<const CounterName*>(memory.base + sizeof(CountersHeader))[slot];
}

bool CountersOwner::HasOurLayout(const Memory& memory) {
  CountersHeader ours = CountersLayout(memory.header.rows);
  bool same = std::memcmp(&ours, &memory.header, sizeof(ours)) == 0;
  for (std::size_t i = 0; same && i < memory.header.slots; ++i) {
    same = RowOf(static_cast<CounterId>(i)).name == NameOf(memory, i).name;
  }
  return same;
}

Result<> CountersOwner::Create() {
  CountersHeader header = CountersLayout(kRows);
  UniqueFd fd(::memfd_create("tidegate-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  // A worker that shrank it would end everybody with SIGBUS.
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(CountersSize(header))) != 0 ||
      ::pwrite(fd.get(), &header, sizeof(header), 0) != ssize_t{sizeof(header)} ||
      ::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return Fail(Error::System(errno, "make the counters memory"));
  }
  Result<Memory> memory = MapMemory(std::move(fd));
  if (!memory) {
    return Fail(memory.error());
  }
  auto* names = reinterpret_cast<CounterName*>(memory->base + sizeof(header));
  for (std::size_t i = 0; i < CounterCount(); ++i) {
    const CounterRow& row = RowOf(static_cast<CounterId>(i));
    std::memcpy(names[i].name, row.name.data(), row.name.size());
    names[i].kind = row.kind;
  }
  memory->id = next_id_++;
  memories_.push_back(std::move(*memory));
  return {};
}

const CountersOwner::Memory* CountersOwner::Find(std::uint64_t id) const {
  for (const Memory& memory : memories_) {
    if (memory.id == id) {
      return &memory;
    }
  }
  return nullptr;
}

Result<CountersRow> CountersOwner::Allocate() {
  Memory& memory = memories_.back();
  for (unsigned row = 1; row < memory.header.rows; ++row) {
    if (!memory.used[row]) {
      memory.used[row] = true;
      std::memset(&Slot(memory, row, 0), 0, memory.header.row_stride);
      return CountersRow{.memory_id = memory.id, .row = row};
    }
  }
  return Fail(ErrorKind::kInternal, "too many workers: no counters row is free");
}

void CountersOwner::FoldRow(const Memory& memory, unsigned row) {
  for (std::size_t i = 0; i < memory.header.slots; ++i) {
    if (NameOf(memory, i).kind == CounterKind::kTotal) {
      std::atomic_ref<std::uint64_t> total(Slot(memory, 0, i));
      total.store(total.load(std::memory_order_relaxed) + Slot(memory, row, i),
                  std::memory_order_relaxed);
    }
    Slot(memory, row, i) = 0;
  }
}

void CountersOwner::Fold(CountersRow row) {
  for (Memory& memory : memories_) {
    if (memory.id == row.memory_id && row.row != 0 && row.row < memory.header.rows &&
        memory.used[row.row]) {
      FoldRow(memory, row.row);
      memory.used[row.row] = false;
    }
  }
}

void CountersOwner::Add(CounterId id, std::uint64_t n) {
  std::atomic_ref<std::uint64_t> slot(Slot(memories_.back(), 0, static_cast<std::size_t>(id)));
  slot.store(slot.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

std::uint64_t CountersOwner::Get(CountersRow row, CounterId id) const {
  const Memory* memory = Find(row.memory_id);
  for (std::size_t i = 0; memory != nullptr && i < memory->header.slots; ++i) {
    if (RowOf(id).name == NameOf(*memory, i).name) {
      return std::atomic_ref<std::uint64_t>(Slot(*memory, row.row, i))
          .load(std::memory_order_relaxed);
    }
  }
  return 0;
}

std::map<std::string, std::uint64_t> CountersOwner::Sums() const {
  std::map<std::string, std::uint64_t> sums;
  for (const Memory& memory : memories_) {
    for (std::size_t i = 0; i < memory.header.slots; ++i) {
      std::uint64_t& sum = sums[NameOf(memory, i).name];
      for (unsigned row = 0; row < memory.header.rows; ++row) {
        if (memory.used[row]) {
          sum +=
              std::atomic_ref<std::uint64_t>(Slot(memory, row, i)).load(std::memory_order_relaxed);
        }
      }
    }
  }
  return sums;
}

json CountersOwner::Save(std::vector<int>& fds) const {
  json state = {{"next_id", next_id_}, {"memories", json::array()}};
  for (const Memory& memory : memories_) {
    json used = json::array();
    for (unsigned row = 1; row < memory.header.rows; ++row) {
      if (memory.used[row]) {
        used.push_back(row);
      }
    }
    state["memories"].push_back({{"id", memory.id}, {"fd", memory.fd.get()}, {"used", used}});
    fds.push_back(memory.fd.get());
  }
  return state;
}

Result<> CountersOwner::Restore(const json& state) {
  next_id_ = state.at("next_id").get<std::uint64_t>();
  for (const json& entry : state.at("memories")) {
    Result<Memory> memory = MapMemory(UniqueFd(entry.at("fd").get<int>()));
    if (!memory) {
      return Fail(memory.error());
    }
    memory->id = entry.at("id").get<std::uint64_t>();
    for (const json& row : entry.at("used")) {
      memory->used.at(row.get<unsigned>()) = true;
    }
    memories_.push_back(std::move(*memory));
  }
  return Modernize();
}

Result<> CountersOwner::Modernize() {
  if (!memories_.empty() && HasOurLayout(memories_.back())) {
    return {};
  }
  Result<> created = Create();
  if (!created) {
    return created;
  }
  // The supervisor's own row moves over; what no longer has a name ends here.
  const Memory& now = memories_.back();
  for (std::size_t m = 0; m + 1 < memories_.size(); ++m) {
    const Memory& old = memories_[m];
    for (std::size_t i = 0; i < old.header.slots; ++i) {
      for (std::size_t j = 0; j < now.header.slots; ++j) {
        if (std::string_view(NameOf(old, i).name) == NameOf(now, j).name) {
          Slot(now, 0, j) += std::exchange(Slot(old, 0, i), 0);
        }
      }
    }
  }
  return {};
}

Result<> CountersOwner::AdoptStored(UniqueFd memfd) {
  struct stat ours{};
  struct stat theirs{};
  ::fstat(memfd.get(), &theirs);
  for (const Memory& memory : memories_) {
    ::fstat(memory.fd.get(), &ours);
    if (ours.st_ino == theirs.st_ino) {
      return {};
    }
  }
  Result<Memory> memory = MapMemory(std::move(memfd));
  if (!memory) {
    return Fail(memory.error());
  }
  memory->id = next_id_++;
  memories_.insert(memories_.begin(), std::move(*memory));
  return {};
}

std::vector<int> CountersOwner::memfds() const {
  std::vector<int> fds;
  for (const Memory& memory : memories_) {
    fds.push_back(memory.fd.get());
  }
  return fds;
}

Result<CountersRow> CountersOwner::Adopt(UniqueFd memfd, unsigned row) {
  struct stat ours{};
  struct stat theirs{};
  ::fstat(memfd.get(), &theirs);
  for (Memory& memory : memories_) {
    ::fstat(memory.fd.get(), &ours);
    if (ours.st_ino == theirs.st_ino && row < memory.header.rows) {
      memory.used[row] = true;
      return CountersRow{.memory_id = memory.id, .row = row};
    }
  }
  Result<Memory> memory = MapMemory(std::move(memfd));
  if (!memory) {
    return Fail(memory.error());
  }
  if (row >= memory->header.rows) {
    return Fail(ErrorKind::kProtocol, "the counters memory has no such row");
  }
  memory->id = next_id_++;
  memory->used[row] = true;
  CountersRow result{.memory_id = memory->id, .row = row};
  memories_.insert(memories_.begin(), std::move(*memory));
  return result;
}

void CountersOwner::FoldUnclaimed() {
  for (Memory& memory : memories_) {
    for (unsigned row = 1; row < memory.header.rows; ++row) {
      if (!memory.used[row]) {
        FoldRow(memory, row);
      }
    }
  }
}

}  // namespace tidegate
