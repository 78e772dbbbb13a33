#include "supervisor/counters_owner.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "supervisor/event_log.h"

namespace tidegate {
namespace {

using nlohmann::json;

// More workers than any machine has, three generations of them; untouched rows cost no memory.
constexpr std::uint32_t kRows = 1024;
// What is more than that is damage.
constexpr std::uint32_t kMostRows = 16 * kRows;
constexpr std::uint32_t kMostSlots = 1024;

// Whatever is looked for by it later lies within `size` octets, and where a number may lie. Nothing
// overflows: products of 32 bits in 64.
bool IsSound(const CountersHeader& header, std::uint64_t size) {
  constexpr std::uint64_t kNumber = sizeof(std::uint64_t);
  const std::uint64_t slots = header.slots;
  const bool known = header.magic == kCountersMagic && header.version == kCountersVersion;
  const bool bounded =
      slots >= 1 && slots <= kMostSlots && header.rows >= 1 && header.rows <= kMostRows;
  const bool aligned = header.rows_offset % kNumber == 0 && header.row_stride % kNumber == 0;
  return known && bounded && aligned &&
         sizeof(CountersHeader) + slots * sizeof(CounterName) <= header.rows_offset &&
         slots * kNumber <= header.row_stride && CountersSize(header) <= size;
}

bool HasSoundName(const CounterName& entry) {
  const std::string_view name = NameIn(entry);
  return !name.empty() &&
         std::ranges::all_of(name, [](char octet) { return octet > ' ' && octet <= '~'; });
}

bool IsSameFile(int one, int other) {
  struct stat left{};
  struct stat right{};
  return ::fstat(one, &left) == 0 && ::fstat(other, &right) == 0 && left.st_dev == right.st_dev &&
         left.st_ino == right.st_ino;
}

}  // namespace

void CountersOwner::Unmap::operator()(char* base) const noexcept {
  ::munmap(base, size);
}

Result<CountersOwner::Memory> CountersOwner::MapMemory(int fd) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) {
    return Fail(Error::System(errno, "look at the counters memory"));
  }
  // Who shortened it would end us with SIGBUS.
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return Fail(ErrorKind::kProtocol, "the counters memory is not sealed");
  }
  auto size = static_cast<std::size_t>(info.st_size);
  if (size < sizeof(CountersHeader)) {
    return Fail(ErrorKind::kProtocol, "the counters memory is too small");
  }
  void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    return Fail(Error::System(errno, "map the counters memory"));
  }
  Memory memory;
  memory.base = {static_cast<char*>(base), Unmap{size}};
  std::memcpy(&memory.header, base, sizeof(memory.header));
  if (!IsSound(memory.header, size)) {
    return Fail(ErrorKind::kProtocol, "the header of the counters memory is damaged");
  }
  memory.names.resize(memory.header.slots);
  std::memcpy(memory.names.data(), memory.base.get() + sizeof(CountersHeader),
              memory.names.size() * sizeof(CounterName));
  if (!std::ranges::all_of(memory.names, HasSoundName)) {
    return Fail(ErrorKind::kProtocol, "the names in the counters memory are damaged");
  }
  memory.used.resize(memory.header.rows, false);
  memory.used[0] = true;
  return memory;
}

std::uint64_t& CountersOwner::Slot(const Memory& memory, unsigned row, std::size_t slot) {
  char* start =
      memory.base.get() + memory.header.rows_offset + std::size_t{row} * memory.header.row_stride;
  return reinterpret_cast<std::uint64_t*>(start)[slot];
}

std::string_view CountersOwner::NameOf(const Memory& memory, std::size_t slot) {
  return NameIn(memory.names[slot]);
}

bool CountersOwner::HasOurLayout(const Memory& memory) {
  CountersHeader ours = CountersLayout(memory.header.rows);
  bool same = std::memcmp(&ours, &memory.header, sizeof(ours)) == 0;
  for (std::size_t i = 0; same && i < memory.header.slots; ++i) {
    const CounterRow& row = RowOf(static_cast<CounterId>(i));
    same = row.name == NameOf(memory, i) && row.kind == memory.names[i].kind;
  }
  return same;
}

Result<> CountersOwner::Create() {
  const CountersHeader header = CountersLayout(kRows);
  std::vector<CounterName> names(CounterCount());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const CounterRow& row = RowOf(static_cast<CounterId>(i));
    row.name.copy(names[i].name, sizeof(names[i].name));
    names[i].kind = row.kind;
  }
  const std::size_t names_size = names.size() * sizeof(CounterName);
  UniqueFd fd(::memfd_create("tidegate-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  // A worker that shrank it would end everybody with SIGBUS.
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(CountersSize(header))) != 0 ||
      ::pwrite(fd.get(), &header, sizeof(header), 0) != ssize_t{sizeof(header)} ||
      ::pwrite(fd.get(), names.data(), names_size, sizeof(header)) !=
          static_cast<ssize_t>(names_size) ||
      ::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return Fail(Error::System(errno, "make the counters memory"));
  }
  Result<Memory> memory = MapMemory(fd.get());
  if (!memory) {
    return Fail(memory.error());
  }
  memory->fd = std::move(fd);
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
      // A worker has a look as well, and another one may have written there since.
      std::memcpy(memory.base.get(), &memory.header, sizeof(CountersHeader));
      std::memcpy(memory.base.get() + sizeof(CountersHeader), memory.names.data(),
                  memory.names.size() * sizeof(CounterName));
      return CountersRow{.memory_id = memory.id, .row = row};
    }
  }
  return Fail(ErrorKind::kInternal, "too many workers: no counters row is free");
}

void CountersOwner::FoldRow(const Memory& memory, unsigned row) {
  for (std::size_t i = 0; i < memory.header.slots; ++i) {
    if (memory.names[i].kind == CounterKind::kTotal) {
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
  if (memory == nullptr || row.row >= memory->header.rows) {
    return 0;
  }
  for (std::size_t i = 0; i < memory->header.slots; ++i) {
    if (RowOf(id).name == NameOf(*memory, i)) {
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
      std::uint64_t& sum = sums[std::string(NameOf(memory, i))];
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
    UniqueFd fd(entry.at("fd").get<int>());
    Result<Memory> memory = MapMemory(fd.get());
    if (!memory && memory.error().kind() != ErrorKind::kProtocol) {
      return Fail(memory.error());
    }
    if (!memory) {
      // No reason not to serve. It stays open: an image that we go back to looks for all that it
      // has named.
      LogEvent(LogLevel::kError, "what was counted is lost: " + memory.error().ToString());
      memory = Memory();
    }
    memory->fd = std::move(fd);
    memory->id = entry.at("id").get<std::uint64_t>();
    for (const json& row : entry.at("used")) {
      auto number = row.get<std::size_t>();
      if (number < memory->used.size()) {
        memory->used[number] = true;
      }
    }
    memories_.push_back(std::move(*memory));
  }
  return Modernize();
}

Result<> CountersOwner::Modernize() {
  const bool modern = !memories_.empty() && HasOurLayout(memories_.back());
  return modern ? Result<>() : Create();
}

void CountersOwner::GiveBack() {
  for (std::size_t m = 0; m + 1 < memories_.size();) {
    const Memory& old = memories_[m];
    if (std::ranges::count(old.used, true) > 1) {
      ++m;
      continue;
    }
    const Memory& now = memories_.back();
    for (std::size_t i = 0; i < old.header.slots; ++i) {
      for (std::size_t j = 0; j < now.header.slots; ++j) {
        if (NameOf(old, i) == NameOf(now, j)) {
          Slot(now, 0, j) += Slot(old, 0, i);
        }
      }
    }
    memories_.erase(memories_.begin() + static_cast<std::ptrdiff_t>(m));
  }
}

CountersOwner::Memory* CountersOwner::FindSame(int fd) {
  auto same = std::ranges::find_if(
      memories_, [fd](const Memory& memory) { return IsSameFile(memory.fd.get(), fd); });
  return same == memories_.end() ? nullptr : &*same;
}

Result<> CountersOwner::AdoptStored(UniqueFd memfd) {
  if (FindSame(memfd.get()) != nullptr) {
    return {};
  }
  Result<Memory> memory = MapMemory(memfd.get());
  if (!memory) {
    return Fail(memory.error());
  }
  memory->fd = std::move(memfd);
  memory->id = next_id_++;
  memories_.insert(memories_.begin(), std::move(*memory));
  return {};
}

Result<CountersRow> CountersOwner::Adopt(UniqueFd memfd, unsigned row) {
  Memory* memory = FindSame(memfd.get());
  if (memory == nullptr) {
    Result<> adopted = AdoptStored(std::move(memfd));
    if (!adopted) {
      return Fail(adopted.error());
    }
    memory = &memories_.front();
  }
  // Row 0 is no worker's.
  if (row == 0 || row >= memory->header.rows) {
    return Fail(ErrorKind::kProtocol, "the counters memory has no such row");
  }
  memory->used[row] = true;
  return CountersRow{.memory_id = memory->id, .row = row};
}

std::vector<int> CountersOwner::memfds() const {
  std::vector<int> fds;
  for (const Memory& memory : memories_) {
    fds.push_back(memory.fd.get());
  }
  return fds;
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
