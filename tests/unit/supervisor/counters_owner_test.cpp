#include "supervisor/counters_owner.h"

#include <sys/mman.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

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

}  // namespace
}  // namespace tidegate
