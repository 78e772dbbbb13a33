#include "common/secret_memory.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

// VmFlags of the mapping that has `address` (proc_pid_smaps(5)); empty: none has.
std::string FlagsAt(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  bool inside = false;
  while (std::getline(smaps, line)) {
    std::istringstream head(line);
    std::uintptr_t start = 0;
    std::uintptr_t end = 0;
    char dash = 0;
    if (head >> std::hex >> start >> dash >> end && dash == '-') {
      inside = start <= wanted && wanted < end;
    } else if (inside && line.starts_with("VmFlags:")) {
      return line + " ";
    }
  }
  return "";
}

bool AllAre(std::span<const std::byte> octets, std::byte value) {
  return std::ranges::all_of(octets, [&](std::byte octet) { return octet == value; });
}

TEST(SecretMemory, IsZeroAndNeitherDumpedNorForkedNorSwapped) {
  SecretMemory memory(256);
  ASSERT_EQ(memory.octets().size(), 256U);
  EXPECT_TRUE(AllAre(memory.octets(), std::byte{0}));
  ASSERT_FALSE(memory.weakness()) << memory.weakness()->ToString();
  const std::string flags = FlagsAt(memory.octets().data());
  for (const char* flag : {" dd ", " wf ", " lo "}) {
    EXPECT_NE(flags.find(flag), std::string::npos) << flag << "in " << flags;
  }
}

TEST(SecretMemory, AForkedChildFindsItEmpty) {
  SecretMemory memory(256);
  std::ranges::fill(memory.octets(), std::byte{7});
  pid_t child = ::fork();
  if (child == 0) {
    ::_exit(AllAre(memory.octets(), std::byte{0}) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(AllAre(memory.octets(), std::byte{7}));
}

TEST(SecretMemory, IsThereUntilItsEnd) {
  std::byte* start = nullptr;
  {
    SecretMemory first(256);
    std::ranges::fill(first.octets(), std::byte{7});
    start = first.octets().data();
    SecretMemory second = std::move(first);
    EXPECT_TRUE(first.octets().empty());  // NOLINT(bugprone-use-after-move): that is the point.
    EXPECT_EQ(second.octets().data(), start);
    first = std::move(second);
    EXPECT_EQ(first.octets().data(), start);
    EXPECT_TRUE(AllAre(first.octets(), std::byte{7}));
  }
  EXPECT_EQ(FlagsAt(start).find(" dd "), std::string::npos);
}

TEST(SecretMemory, WorksWithoutTheRightToLockAndSaysSo) {
  pid_t child = ::fork();
  if (child == 0) {
    rlimit none{};
    ::setrlimit(RLIMIT_MEMLOCK, &none);
    // Root may lock whatever it likes.
    bool other = ::geteuid() != 0 || ::setresuid(65534, 65534, 65534) == 0;
    SecretMemory memory(256);
    int error = memory.weakness() ? memory.weakness()->system_errno() : 0;
    bool well = other && (error == EPERM || error == ENOMEM) &&
                FlagsAt(memory.octets().data()).find(" dd ") != std::string::npos;
    ::_exit(well ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace tidegate
