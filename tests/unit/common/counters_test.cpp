#include "common/counters.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace tidegate {
namespace {

UniqueFd MakeMemory(std::uint32_t rows, bool break_name = false) {
  CountersHeader header = CountersLayout(rows);
  UniqueFd memfd(::memfd_create("counters", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(memfd.get(), static_cast<off_t>(CountersSize(header))), 0);
  EXPECT_EQ(::pwrite(memfd.get(), &header, sizeof(header), 0), ssize_t{sizeof(header)});
  for (std::size_t i = 0; i < CounterCount(); ++i) {
    CounterName name{};
    std::string_view text = break_name && i == 3 ? "other" : RowOf(static_cast<CounterId>(i)).name;
    std::memcpy(name.name, text.data(), text.size());
    name.kind = RowOf(static_cast<CounterId>(i)).kind;
    EXPECT_EQ(::pwrite(memfd.get(), &name, sizeof(name),
                       static_cast<off_t>(sizeof(header) + i * sizeof(name))),
              ssize_t{sizeof(name)});
  }
  return memfd;
}

TEST(Counters, NamesAreUniqueAndFit) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < CounterCount(); ++i) {
    std::string_view name = RowOf(static_cast<CounterId>(i)).name;
    EXPECT_LT(name.size(), sizeof(CounterName::name)) << name;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(RowOf(CounterOf(ErrorKind::kNoRoute)).name, "errors_no_route");
  EXPECT_EQ(CounterOfStatus(200), CounterId::kResponses2xx);
  EXPECT_EQ(CounterOfStatus(599), CounterId::kResponses5xx);
}

TEST(Counters, ARowIsSharedAndApart) {
  UniqueFd memfd = MakeMemory(4);
  auto first = Counters::Map(memfd.get(), 1);
  auto again = Counters::Map(memfd.get(), 1);
  auto other = Counters::Map(memfd.get(), 2);
  ASSERT_TRUE(first && again && other);
  first->Add(CounterId::kRequests, 5);
  first->Add(CounterId::kConnectionsActive);
  first->Subtract(CounterId::kConnectionsActive);
  EXPECT_EQ(again->Get(CounterId::kRequests), 5U);
  EXPECT_EQ(again->Get(CounterId::kConnectionsActive), 0U);
  EXPECT_EQ(other->Get(CounterId::kRequests), 0U);
}

TEST(Counters, AnotherLayoutIsRefused) {
  EXPECT_FALSE(Counters::Map(MakeMemory(4).get(), 4));
  EXPECT_FALSE(Counters::Map(MakeMemory(4, true).get(), 1));
  UniqueFd empty(::memfd_create("empty", MFD_CLOEXEC));
  EXPECT_FALSE(Counters::Map(empty.get(), 0));
}

}  // namespace
}  // namespace tidegate
