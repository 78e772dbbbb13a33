#include "supervisor/counters_owner.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

// The memory of another process: what ours look like, for two rows, and with `damage` done to it.
struct Played {
  CountersHeader header = CountersLayout(2);
  std::vector<CounterName> names;
  // After the names, by the header that ours have.
  std::vector<std::uint64_t> rows;

  Played() : names(CounterCount()), rows(2 * std::size_t{header.row_stride} / 8) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      const CounterRow& row = RowOf(static_cast<CounterId>(i));
      row.name.copy(names[i].name, sizeof(names[i].name));
      names[i].kind = row.kind;
    }
  }
  std::uint64_t& Number(unsigned row, CounterId id) {
    return rows[row * std::size_t{header.row_stride} / 8 + static_cast<std::size_t>(id)];
  }
  UniqueFd Memfd(int seals = F_SEAL_SHRINK) const {
    UniqueFd fd(::memfd_create("played", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    const auto rows_offset = static_cast<off_t>(CountersLayout(2).rows_offset);
    EXPECT_GT(::pwrite(fd.get(), &header, sizeof(header), 0), 0);
    EXPECT_GT(::pwrite(fd.get(), names.data(), names.size() * sizeof(names[0]), sizeof(header)), 0);
    EXPECT_GT(::pwrite(fd.get(), rows.data(), rows.size() * sizeof(rows[0]), rows_offset), 0);
    EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    return fd;
  }
};

TEST(CountersOwner, FoldsTotalsAndForgetsGauges) {
  CountersOwner owner;
  ASSERT_TRUE(owner.Create());
  auto row = owner.Allocate();
  ASSERT_TRUE(row);
  auto worker = Counters::Map(owner.memfd(), row->row);
  ASSERT_TRUE(worker);
  worker->Add(CounterId::kRequests, 7);
  worker->Add(CounterId::kConnectionsActive, 3);
  EXPECT_EQ(owner.Sums()["requests_total"], 7U);
  EXPECT_EQ(owner.Get(*row, CounterId::kConnectionsActive), 3U);
  owner.Fold(*row);
  EXPECT_EQ(owner.Sums()["requests_total"], 7U);
  EXPECT_EQ(owner.Sums()["connections_active"], 0U);
}

TEST(CountersOwner, AFreedRowStartsAtZero) {
  CountersOwner owner;
  ASSERT_TRUE(owner.Create());
  auto first = owner.Allocate();
  auto worker = Counters::Map(owner.memfd(), first->row);
  worker->Add(CounterId::kRequests, 5);
  owner.Fold(*first);
  auto second = owner.Allocate();
  EXPECT_EQ(second->row, first->row);
  EXPECT_EQ(owner.Get(*second, CounterId::kRequests), 0U);
  EXPECT_EQ(owner.Sums()["requests_total"], 5U);
}

TEST(CountersOwner, ASuccessorGoesOnCounting) {
  CountersOwner before;
  ASSERT_TRUE(before.Create());
  auto row = before.Allocate();
  before.Add(CounterId::kReloadsOk, 2);
  auto worker = Counters::Map(before.memfd(), row->row);
  worker->Add(CounterId::kRequests, 4);
  std::vector<int> fds;
  nlohmann::json state = before.Save(fds);
  ASSERT_EQ(fds.size(), 1U);
  state["memories"][0]["fd"] = ::dup(fds[0]);

  CountersOwner after;
  ASSERT_TRUE(after.Restore(state));
  worker->Add(CounterId::kRequests, 1);
  EXPECT_EQ(after.Sums()["requests_total"], 5U);
  EXPECT_EQ(after.Sums()["reloads_ok"], 2U);
  auto next = after.Allocate();
  EXPECT_NE(next->row, row->row) << "the row of a living worker was given away";
  after.Fold(*row);
  EXPECT_EQ(after.Sums()["requests_total"], 5U);
}

TEST(CountersOwner, AnotherLayoutIsCarriedOverByName) {
  CountersOwner before;
  ASSERT_TRUE(before.Create());
  before.Add(CounterId::kReloadsOk, 9);
  auto row = before.Allocate();
  auto worker = Counters::Map(before.memfd(), row->row);
  ASSERT_TRUE(worker);
  // The predecessor had another name in one place.
  int fd = ::dup(before.memfd());
  ASSERT_EQ(::pwrite(fd, "other_name\0", 11, sizeof(CountersHeader)), 11);
  std::vector<int> fds;
  nlohmann::json state = before.Save(fds);
  state["memories"][0]["fd"] = fd;

  CountersOwner after;
  ASSERT_TRUE(after.Restore(state));
  EXPECT_EQ(after.Sums()["reloads_ok"], 9U);
  // The old worker goes on in the old memory; new ones get one that they can map.
  worker->Add(CounterId::kRetries, 3);
  EXPECT_EQ(after.Sums()["retries"], 3U);
  EXPECT_EQ(after.Get(*row, CounterId::kRetries), 3U);
  auto next = after.Allocate();
  EXPECT_TRUE(Counters::Map(after.memfd(), next->row));
  after.Add(CounterId::kReloadsOk);
  EXPECT_EQ(after.Sums()["reloads_ok"], 10U);
}

// State of `owner` for another one in the same process, which closes its descriptors itself.
nlohmann::json Duplicate(const CountersOwner& owner) {
  std::vector<int> fds;
  nlohmann::json state = owner.Save(fds);
  for (nlohmann::json& memory : state["memories"]) {
    memory["fd"] = ::dup(memory["fd"].get<int>());
  }
  return state;
}

TEST(CountersOwner, AnImageThatGoesBackHasLostNothing) {
  Played old;
  old.names[0] = old.names[1];
  CountersOwner before;
  ASSERT_TRUE(before.Adopt(old.Memfd(), 1));
  before.Add(CounterId::kReloadsOk, 9);
  {
    CountersOwner after;
    ASSERT_TRUE(after.Restore(Duplicate(before)));
    ASSERT_EQ(after.memfds().size(), 2U) << "the layout is another one";
    EXPECT_EQ(after.Sums()["reloads_ok"], 9U);
  }
  EXPECT_EQ(before.Sums()["reloads_ok"], 9U);
}

TEST(CountersOwner, WhatNoWorkerCountsInIsGivenBackWithItsTotals) {
  Played old;
  std::string("of_before").copy(old.names[0].name, sizeof(CounterName::name));
  CountersOwner owner;
  auto row = owner.Adopt(old.Memfd(), 1);
  ASSERT_TRUE(row);
  owner.Add(CounterId::kReloadsOk, 9);
  owner.GiveBack();
  EXPECT_EQ(owner.memfds().size(), 1U) << "the newest stays";
  ASSERT_TRUE(owner.Modernize());
  owner.Add(CounterId::kReloadsOk, 1);
  owner.GiveBack();
  EXPECT_EQ(owner.memfds().size(), 2U) << "its worker lives";
  owner.Fold(*row);
  owner.GiveBack();
  EXPECT_EQ(owner.memfds().size(), 1U);
  EXPECT_EQ(owner.Sums()["reloads_ok"], 10U);
  EXPECT_FALSE(owner.Sums().contains("of_before"));
  EXPECT_TRUE(owner.Allocate());
}

// Each image has another layout than the other, and goes back with a memory of its own.
TEST(CountersOwner, UpgradesThatFailAgainAndAgainLeaveNoMemories) {
  auto owner = std::make_unique<CountersOwner>();
  ASSERT_TRUE(owner->Create());
  auto row = owner->Allocate();
  ASSERT_TRUE(row);
  for (std::uint64_t i = 1; i <= 5; ++i) {
    owner->Add(CounterId::kUpgradesFailed);
    nlohmann::json state = Duplicate(*owner);
    Played other;
    other.names[0] = other.names[1];
    state["memories"].push_back(
        {{"id", 100 + i}, {"fd", other.Memfd().Release()}, {"used", nlohmann::json::array()}});
    owner = std::make_unique<CountersOwner>();
    ASSERT_TRUE(owner->Restore(state));
    owner->GiveBack();
    EXPECT_EQ(owner->memfds().size(), 2U) << "of the worker, and for new ones";
    EXPECT_EQ(owner->Sums()["upgrades_failed"], i);
  }
}

TEST(CountersOwner, AdoptsTheMemoryOfOrphansOnce) {
  CountersOwner dead;
  ASSERT_TRUE(dead.Create());
  auto one = dead.Allocate();
  auto two = dead.Allocate();
  auto gone = dead.Allocate();
  for (auto row : {one, two, gone}) {
    Counters::Map(dead.memfd(), row->row)->Add(CounterId::kRequests, 10);
  }
  CountersOwner heir;
  auto first = heir.Adopt(UniqueFd(::dup(dead.memfd())), one->row);
  auto second = heir.Adopt(UniqueFd(::dup(dead.memfd())), two->row);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->memory_id, second->memory_id);
  heir.FoldUnclaimed();
  ASSERT_TRUE(heir.Modernize());
  EXPECT_EQ(heir.Sums()["requests_total"], 30U);
  EXPECT_FALSE(heir.Adopt(UniqueFd(::memfd_create("empty", MFD_CLOEXEC)), 1));
}

TEST(CountersOwner, AdoptsTheMemoryThatWasStoredWithOrWithoutOrphans) {
  CountersOwner dead;
  ASSERT_TRUE(dead.Create());
  auto one = dead.Allocate();
  auto two = dead.Allocate();
  for (auto row : {one, two}) {
    Counters::Map(dead.memfd(), row->row)->Add(CounterId::kRequests, 10);
  }
  CountersOwner with_orphan;
  ASSERT_TRUE(with_orphan.Adopt(UniqueFd(::dup(dead.memfd())), one->row));
  ASSERT_TRUE(with_orphan.AdoptStored(UniqueFd(::dup(dead.memfd()))));
  EXPECT_EQ(with_orphan.memfds().size(), 1U);
  with_orphan.FoldUnclaimed();
  EXPECT_EQ(with_orphan.Sums()["requests_total"], 20U);

  CountersOwner alone;
  ASSERT_TRUE(alone.AdoptStored(UniqueFd(::dup(dead.memfd()))));
  alone.FoldUnclaimed();
  ASSERT_TRUE(alone.Modernize());
  EXPECT_EQ(alone.memfds().size(), 1U) << "no new memory where the old one is of our layout";
  EXPECT_EQ(alone.Sums()["requests_total"], 20U);
  EXPECT_FALSE(alone.AdoptStored(UniqueFd(::memfd_create("empty", MFD_CLOEXEC))));
}

TEST(CountersOwner, BelievesNoDamagedHeader) {
  Played sound;
  sound.Number(1, CounterId::kRequests) = 3;
  CountersOwner owner;
  ASSERT_TRUE(owner.Adopt(sound.Memfd(), 1));
  EXPECT_EQ(owner.Sums()["requests_total"], 3U);

  using Damage = std::function<void(Played&)>;
  const std::vector<std::pair<const char*, Damage>> damages = {
      {"another magic", [](Played& it) { it.header.magic ^= 1; }},
      {"another version", [](Played& it) { ++it.header.version; }},
      {"no rows", [](Played& it) { it.header.rows = 0; }},
      {"more rows than there are", [](Played& it) { it.header.rows = 100; }},
      {"all rows there could be", [](Played& it) { it.header.rows = ~0U; }},
      {"rows of nothing", [](Played& it) { it.header.row_stride = 0; }},
      {"rows over each other", [](Played& it) { it.header.row_stride = 8; }},
      {"long rows", [](Played& it) { it.header.row_stride = ~7U; }},
      {"odd rows", [](Played& it) { it.header.row_stride -= 4; }},
      {"rows in the names", [](Played& it) { it.header.rows_offset = sizeof(CountersHeader); }},
      {"rows beyond the end", [](Played& it) { it.header.rows_offset = ~7U; }},
      {"an odd begin", [](Played& it) { it.header.rows_offset += 4; }},
      {"no slots", [](Played& it) { it.header.slots = 0; }},
      {"more slots than a row has", [](Played& it) { it.header.slots = it.header.row_stride; }},
      {"all slots there could be", [](Played& it) { it.header.slots = ~0U; }},
      {"an empty name", [](Played& it) { it.names[3] = {}; }},
      {"a name of octets", [](Played& it) { it.names[3].name[1] = '\x80'; }},
  };
  for (const auto& [what, damage] : damages) {
    Played played;
    damage(played);
    CountersOwner heir;
    auto row = heir.Adopt(played.Memfd(), 1);
    ASSERT_FALSE(row) << what;
    EXPECT_EQ(row.error().kind(), ErrorKind::kProtocol) << what;
    EXPECT_FALSE(heir.AdoptStored(played.Memfd())) << what;
    EXPECT_TRUE(heir.memfds().empty()) << what;
  }
  CountersOwner heir;
  EXPECT_FALSE(heir.Adopt(sound.Memfd(0), 1)) << "its worker could shorten it under our eyes";
  EXPECT_FALSE(heir.Adopt(sound.Memfd(), 2)) << "there is no such row";
  EXPECT_FALSE(heir.Adopt(sound.Memfd(), 0)) << "no worker has this one";
}

TEST(CountersOwner, ANameMayFillItsField) {
  Played played;
  const std::string name(sizeof(CounterName::name), 'n');
  name.copy(played.names[0].name, name.size());
  played.names[0].kind = CounterKind::kGauge;
  played.rows[0] = 5;
  CountersOwner owner;
  ASSERT_TRUE(owner.AdoptStored(played.Memfd()));
  EXPECT_EQ(owner.Sums()[name], 5U);
}

TEST(CountersOwner, TheHeaderIsNotLookedAtAgain) {
  CountersOwner owner;
  ASSERT_TRUE(owner.Create());
  auto row = owner.Allocate();
  ASSERT_TRUE(row);
  auto worker = Counters::Map(owner.memfd(), row->row);
  ASSERT_TRUE(worker);
  worker->Add(CounterId::kRequests, 7);
  // A worker that somebody has taken over.
  const std::string damage(sizeof(CountersHeader) + CounterCount() * sizeof(CounterName), '\xff');
  ASSERT_GT(::pwrite(owner.memfd(), damage.data(), damage.size(), 0), 0);
  EXPECT_EQ(owner.Get(*row, CounterId::kRequests), 7U);
  EXPECT_EQ(owner.Sums()["requests_total"], 7U);
  owner.Fold(*row);
  EXPECT_EQ(owner.Sums()["requests_total"], 7U);
  // The next one finds what it needs.
  auto next = owner.Allocate();
  ASSERT_TRUE(next);
  EXPECT_TRUE(Counters::Map(owner.memfd(), next->row));
}

TEST(CountersOwner, ASuccessorOfADamagedMemoryServesAndKeepsItOpen) {
  CountersOwner before;
  ASSERT_TRUE(before.Create());
  auto row = before.Allocate();
  ASSERT_TRUE(row);
  std::vector<int> fds;
  nlohmann::json state = before.Save(fds);
  const int fd = ::dup(fds[0]);
  state["memories"][0]["fd"] = fd;
  const std::uint32_t rows = ~0U;
  ASSERT_GT(::pwrite(fd, &rows, sizeof(rows), offsetof(CountersHeader, rows)), 0);

  CountersOwner after;
  ASSERT_TRUE(after.Restore(state));
  EXPECT_EQ(after.memfds().front(), fd) << "the image before looks for it if we go back";
  EXPECT_EQ(after.Get(*row, CounterId::kRequests), 0U);
  after.Fold(*row);
  auto next = after.Allocate();
  ASSERT_TRUE(next);
  EXPECT_NE(next->memory_id, row->memory_id);
  after.FoldUnclaimed();
  fds.clear();
  EXPECT_EQ(after.Save(fds)["memories"].size(), 2U);
}

TEST(CountersOwner, ARowThatIsNotThereIsNotRestored) {
  CountersOwner before;
  ASSERT_TRUE(before.Create());
  std::vector<int> fds;
  nlohmann::json state = before.Save(fds);
  state["memories"][0]["fd"] = ::dup(fds[0]);
  state["memories"][0]["used"] = {1, 1024, 4294967295U};
  CountersOwner after;
  ASSERT_TRUE(after.Restore(state));
  fds.clear();
  EXPECT_EQ(after.Save(fds)["memories"][0]["used"], nlohmann::json({1}));
  const CountersRow beyond{.memory_id = 1, .row = 1024};
  EXPECT_EQ(after.Get(beyond, CounterId::kRequests), 0U);
}

}  // namespace
}  // namespace tidegate
