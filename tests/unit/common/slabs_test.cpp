#include "common/slabs.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

struct Object {
  void* memory;
  std::size_t size;
  unsigned char mark;
};

void Fill(const Object& object) {
  std::memset(object.memory, object.mark, object.size);
}

bool IsWhole(const Object& object) {
  const auto* octets = static_cast<unsigned char*>(object.memory);
  for (std::size_t i = 0; i < object.size; ++i) {
    if (octets[i] != object.mark) {
      return false;
    }
  }
  return true;
}

TEST(Slabs, ObjectsOfEverySizeAreWholeApartAndAlignedInAnyOrder) {
  std::mt19937 random(1);
  std::vector<Object> objects;
  for (unsigned step = 0; step < 20'000; ++step) {
    if (objects.size() < 2000 && random() % 3 != 0) {
      const std::size_t size = 1 + random() % 1200;
      objects.push_back({AllocateInSlab(size), size, static_cast<unsigned char>(step)});
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(objects.back().memory) % alignof(std::max_align_t),
                0U);
      Fill(objects.back());
    } else if (!objects.empty()) {
      std::swap(objects[random() % objects.size()], objects.back());
      ASSERT_TRUE(IsWhole(objects.back()));
      FreeInSlab(objects.back().memory, objects.back().size);
      objects.pop_back();
    }
  }
  for (const Object& object : objects) {
    ASSERT_TRUE(IsWhole(object));
    FreeInSlab(object.memory, object.size);
  }
  ReleaseFreeSlabs();
}

#if !__has_feature(address_sanitizer)

// The slabs of `objects`.
std::set<std::uintptr_t> SlabsOf(const std::vector<void*>& objects) {
  std::set<std::uintptr_t> slabs;
  for (void* object : objects) {
    slabs.insert(reinterpret_cast<std::uintptr_t>(object) / (64 * 1024));
  }
  return slabs;
}

TEST(Slabs, LieSideBySideAndAreFilledBeforeTheNext) {
  std::vector<void*> objects;
  for (int i = 0; i < 1000; ++i) {
    objects.push_back(AllocateInSlab(640));
  }
  EXPECT_EQ(SlabsOf(objects).size(), 10U);
  // What is free in them comes first.
  for (std::size_t i = 0; i < objects.size(); i += 2) {
    FreeInSlab(objects[i], 640);
  }
  const std::set<std::uintptr_t> before = SlabsOf(objects);
  for (std::size_t i = 0; i < objects.size(); i += 2) {
    objects[i] = AllocateInSlab(630);
  }
  EXPECT_EQ(SlabsOf(objects), before);
  for (void* object : objects) {
    FreeInSlab(object, 640);
  }
}

// How many of the process's pages are in memory where `memory` lies; -1: nothing is mapped there.
long ResidentAt(void* memory) {
  const auto page = reinterpret_cast<std::uintptr_t>(memory) / 4096 * 4096;
  unsigned char resident = 0;
  return ::mincore(reinterpret_cast<void*>(page), 4096, &resident) == 0 ? resident & 1 : -1;
}

TEST(Slabs, GoBackToTheKernelWithTheirLastObject) {
  ReleaseFreeSlabs();
  std::vector<void*> objects;
  for (int i = 0; i < 320; ++i) {
    objects.push_back(AllocateInSlab(1000));
  }
  // One that stays keeps its own slab only.
  void* stays = objects.back();
  std::memset(stays, 1, 1000);
  objects.pop_back();
  for (void* object : objects) {
    FreeInSlab(object, 1000);
  }
  ReleaseFreeSlabs();
  EXPECT_EQ(ResidentAt(objects.front()), -1);
  EXPECT_EQ(ResidentAt(stays), 1);
  FreeInSlab(stays, 1000);
  EXPECT_EQ(ResidentAt(stays), 1) << "one is kept";
  ReleaseFreeSlabs();
  EXPECT_EQ(ResidentAt(stays), -1);
}

#endif

struct Base {
  virtual ~Base() = default;
};
struct Derived final : Base, InSlab {
  char octets[100] = {};
};

TEST(Slabs, AClassMayLiveInThem) {
  std::unique_ptr<Base> object = std::make_unique<Derived>();
  auto* again = dynamic_cast<Derived*>(object.get());
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->octets[99], 0);
}

}  // namespace
}  // namespace tidegate
