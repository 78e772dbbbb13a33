#include "supervisor/heirs.h"

#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

std::vector<unsigned> HeirsOf(unsigned old_workers, std::vector<unsigned> serving,
                              unsigned workers) {
  std::vector<unsigned> heirs;
  for (unsigned slot = 0; slot < old_workers; ++slot) {
    heirs.push_back(HeirOf(slot, serving, workers).value_or(99));
  }
  return heirs;
}

using Heirs = std::vector<unsigned>;

TEST(Heirs, AreTheSameSlotsWhereTheCountIsTheSame) {
  EXPECT_EQ(HeirsOf(3, {0, 1, 2}, 3), (Heirs{0, 1, 2}));
}

TEST(Heirs, OfMoreOldOnesAreSharedInTurn) {
  EXPECT_EQ(HeirsOf(5, {0, 1}, 2), (Heirs{0, 1, 0, 1, 0}));
}

TEST(Heirs, OfFewerOldOnesAreTheFirst) {
  EXPECT_EQ(HeirsOf(2, {0, 1, 2, 3}, 4), (Heirs{0, 1}));
}

TEST(Heirs, AreOnlyThoseThatServe) {
  EXPECT_EQ(HeirsOf(4, {1, 3}, 4), (Heirs{1, 3, 1, 3}));
}

TEST(Heirs, AreTheOnesToComeWhereNoneServes) {
  EXPECT_EQ(HeirsOf(3, {}, 2), (Heirs{0, 1, 0}));
  EXPECT_EQ(HeirsOf(1, {}, 0), (Heirs{99}));
}

}  // namespace
}  // namespace tidegate
