#include "supervisor/listeners.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

ListenerConfig On(const std::string& name, const std::string& bind,
                  AcceptMode accept = AcceptMode::kReusePort) {
  auto address = ParseAddress(bind);
  EXPECT_TRUE(address) << bind;
  return ListenerConfig{.name = name, .bind = *address, .accept = accept};
}

Config With(std::vector<ListenerConfig> listeners) {
  Config config;
  config.listeners = std::move(listeners);
  return config;
}

// True if somebody listens there.
bool Connects(const std::string& bound) {
  auto address = ParseAddress(bound);
  sockaddr_storage storage{};
  socklen_t length = 0;
  EXPECT_TRUE(address && address->ToSockaddr(storage, length)) << bound;
  UniqueFd fd(::socket(storage.ss_family, SOCK_STREAM, 0));
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) == 0;
}

TEST(Listeners, BindsWithoutListeningUntilTheCommit) {
  Listeners listeners;
  ASSERT_TRUE(listeners.Prepare(With({On("web", "127.0.0.1:0")}), 3));
  ASSERT_EQ(listeners.all().size(), 1U);
  const ListenerSockets& sockets = listeners.all()[0];
  EXPECT_EQ(sockets.slots.size(), 3U);
  EXPECT_FALSE(Connects(sockets.bound));
  ASSERT_TRUE(listeners.Listen());
  EXPECT_TRUE(listeners.Commit().empty());
  EXPECT_TRUE(Connects(sockets.bound));
  EXPECT_EQ(listeners.in_force().size(), 1U);
}

TEST(Listeners, ARefusedChangeClosesOnlyWhatItOpened) {
  Listeners listeners;
  ASSERT_TRUE(listeners.Prepare(With({On("web", "127.0.0.1:0")}), 2));
  ASSERT_TRUE(listeners.Listen());
  listeners.Commit();
  std::string bound = listeners.all()[0].bound;
  // Somebody else has the second address.
  Listeners other;
  ASSERT_TRUE(other.Prepare(With({On("x", "127.0.0.1:0", AcceptMode::kShared)}), 1));
  ASSERT_TRUE(other.Listen());
  auto refused = listeners.Prepare(
      With({On("web", "127.0.0.1:0"), On("new", "127.0.0.1:0"), On("taken", other.all()[0].bound)}),
      4);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().system_errno(), EADDRINUSE);
  EXPECT_NE(refused.error().ToString().find(other.all()[0].bound), std::string::npos);
  ASSERT_EQ(listeners.all().size(), 1U);
  EXPECT_EQ(listeners.all()[0].slots.size(), 2U);
  EXPECT_TRUE(Connects(bound));
}

TEST(Listeners, TheSameAddressKeepsItsSocketsAndMoreWorkersGetMore) {
  Listeners listeners;
  ASSERT_TRUE(listeners.Prepare(With({On("web", "127.0.0.1:0")}), 2));
  ASSERT_TRUE(listeners.Listen());
  listeners.Commit();
  std::uint64_t id = listeners.all()[0].id;
  int first = listeners.all()[0].slots[0].get();
  ASSERT_TRUE(listeners.Prepare(With({On("web", "127.0.0.1:0")}), 4));
  ASSERT_TRUE(listeners.Listen());
  EXPECT_TRUE(listeners.Commit().empty());
  ASSERT_EQ(listeners.all().size(), 1U);
  EXPECT_EQ(listeners.all()[0].id, id);
  EXPECT_EQ(listeners.all()[0].slots[0].get(), first);
  EXPECT_EQ(listeners.all()[0].slots.size(), 4U);
  // Fewer workers: surplus sockets stay, others accept on them.
  ASSERT_TRUE(listeners.Prepare(With({On("web", "127.0.0.1:0")}), 1));
  listeners.Commit();
  EXPECT_EQ(listeners.all()[0].slots.size(), 4U);
  EXPECT_EQ(listeners.SlotCount(), 4U);
}

TEST(Listeners, Invariant1ADroppedListenerStaysUntilItIsClosedAndComesBack) {
  Listeners listeners;
  ASSERT_TRUE(listeners.Prepare(With({On("a", "127.0.0.1:0"), On("b", "127.0.0.1:0")}), 1));
  ASSERT_TRUE(listeners.Listen());
  listeners.Commit();
  std::string bound = listeners.all()[1].bound;
  std::uint64_t id = listeners.all()[1].id;
  ASSERT_TRUE(listeners.Prepare(With({On("a", "127.0.0.1:0")}), 1));
  EXPECT_EQ(listeners.Commit(), std::vector<std::uint64_t>{id});
  EXPECT_TRUE(Connects(bound));
  listeners.Revert();
  EXPECT_EQ(listeners.in_force().size(), 2U);
  listeners.Close({id});
  EXPECT_FALSE(Connects(bound));
}

TEST(Listeners, AUnixSocketIsForEverybodyWhateverTheUmask) {
  std::string path = testing::TempDir() + "tidegate-listeners-mode.sock";
  std::filesystem::remove(path);
  const mode_t before = ::umask(0027);
  Listeners listeners;
  ASSERT_TRUE(listeners.Prepare(With({On("u", "unix:" + path, AcceptMode::kShared)}), 1));
  ::umask(before);
  struct stat info{};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0666U);
}

TEST(Listeners, AUnixSocketOfADeadProcessIsReplacedAndAFileIsNot) {
  std::string path = testing::TempDir() + "tidegate-listeners-test.sock";
  std::filesystem::remove(path);
  auto config = With({On("u", "unix:" + path, AcceptMode::kShared)});
  {
    Listeners dead;
    dead.LeavePaths();
    ASSERT_TRUE(dead.Prepare(config, 2));
    ASSERT_TRUE(dead.Listen());
  }
  ASSERT_TRUE(std::filesystem::exists(path));
  {
    Listeners listeners;
    ASSERT_TRUE(listeners.Prepare(config, 2));
    ASSERT_TRUE(listeners.Listen());
    listeners.Commit();
    EXPECT_EQ(listeners.all()[0].slots.size(), 1U);
    EXPECT_TRUE(Connects("unix:" + path));
    Listeners second;
    EXPECT_FALSE(second.Prepare(config, 1)) << "a living listener was replaced";
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  UniqueFd file(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
  Listeners third;
  EXPECT_FALSE(third.Prepare(config, 1));
  EXPECT_TRUE(std::filesystem::exists(path));
  std::filesystem::remove(path);
}

TEST(Listeners, ASuccessorHasTheSameSockets) {
  Listeners before;
  ASSERT_TRUE(before.Prepare(With({On("a", "127.0.0.1:0")}), 2));
  ASSERT_TRUE(before.Listen());
  before.Commit();
  std::vector<int> fds;
  nlohmann::json state = before.Save(fds);
  EXPECT_EQ(fds.size(), 2U);
  for (auto& fd : state["sockets"][0]["fds"]) {
    fd = ::dup(fd.get<int>());
  }
  Listeners after;
  after.Restore(state);
  EXPECT_EQ(after.all()[0].bound, before.all()[0].bound);
  ASSERT_TRUE(after.Prepare(With({On("a", "127.0.0.1:0")}), 2));
  EXPECT_EQ(after.all().size(), 1U) << "the same address was bound again";
}

TEST(Listeners, SocketsOfSystemdAreUsedForEverySlot) {
  UniqueFd given(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(given.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)), 0);
  Listeners listeners;
  std::vector<GivenSocket> sockets;
  sockets.push_back(GivenSocket{.name = "front", .bound = "127.0.0.1:1", .fd = std::move(given)});
  listeners.SetGiven(std::move(sockets));
  ASSERT_TRUE(listeners.Prepare(With({On("web", "systemd:front")}), 3));
  EXPECT_EQ(listeners.SlotsToSend(listeners.all()[0]), 3U);
  EXPECT_FALSE(listeners.Prepare(With({On("web", "systemd:other")}), 3));
  ASSERT_TRUE(listeners.Prepare(With({On("web", "systemd:front")}), 3))
      << "a refused change lost the given socket";
}

TEST(Listeners, InTheWayIsWhatIsWantedOtherwise) {
  Listeners dead;
  ASSERT_TRUE(dead.Prepare(With({On("a", "127.0.0.1:0", AcceptMode::kShared),
                                 On("b", "127.0.0.1:0"), On("c", "127.0.0.1:0")}),
                           1));
  ASSERT_TRUE(dead.Listen());
  Listeners heir;
  auto port_of = [](const std::string& bound) { return bound.substr(bound.rfind(':')); };
  for (const ListenerSockets& sockets : dead.all()) {
    std::vector<UniqueFd> slots;
    slots.emplace_back(::dup(sockets.slots[0].get()));
    heir.AdoptStored(sockets.bound, "x", sockets.bound, sockets.id, std::move(slots));
  }
  const std::string a = dead.all()[0].bound;
  const std::string b = dead.all()[1].bound;
  auto ids = [&](std::vector<ListenerConfig> listeners) {
    return heir.InTheWay(With(std::move(listeners)));
  };
  using Ids = std::vector<std::uint64_t>;
  const std::uint64_t first = dead.all()[0].id;
  const std::uint64_t second = dead.all()[1].id;
  EXPECT_EQ(ids({On("x", a, AcceptMode::kShared), On("y", b)}), Ids{}) << "as it is";
  EXPECT_EQ(ids({}), Ids{}) << "what nobody wants is in nobody's way";
  EXPECT_EQ(ids({On("x", a), On("y", b, AcceptMode::kShared)}), (Ids{first, second}));
  EXPECT_EQ(ids({On("x", "0.0.0.0" + port_of(a), AcceptMode::kShared)}), Ids{first});
  EXPECT_EQ(ids({On("x", port_of(a), AcceptMode::kReusePort)}), Ids{first});
  EXPECT_EQ(ids({On("x", "0.0.0.0" + port_of(b))}), Ids{}) << "both share it";
  EXPECT_EQ(ids({On("x", "127.0.0.1:0"), On("y", "127.0.0.2" + port_of(a))}), Ids{});
}

TEST(Listeners, WhatListensAlreadyGetsTheQueueOfNow) {
  Listeners dead;
  ASSERT_TRUE(dead.Prepare(With({On("a", "127.0.0.1:0")}), 1));
  ASSERT_EQ(::listen(dead.all()[0].slots[0].get(), 3), 0);
  std::vector<UniqueFd> slots;
  slots.emplace_back(::dup(dead.all()[0].slots[0].get()));
  Listeners heir;
  heir.AdoptStored(dead.all()[0].key, "a", dead.all()[0].bound, 1, std::move(slots));
  ASSERT_TRUE(heir.Prepare(With({On("a", "127.0.0.1:0")}), 1));
  auto queue = [&] {
    tcp_info info{};
    socklen_t size = sizeof(info);
    ::getsockopt(heir.all()[0].slots[0].get(), IPPROTO_TCP, TCP_INFO, &info, &size);
    return info.tcpi_sacked;  // Of a listener: how long its queue may get.
  };
  EXPECT_EQ(queue(), 3U);
  ASSERT_TRUE(heir.Listen());
  EXPECT_GT(queue(), 3U);
}

// The error number of putting a filter on it that drops everything, 0 for none.
int FilterError(int fd, int option) {
  sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
  sock_fprog program = {.len = 1, .filter = &drop};
  return ::setsockopt(fd, SOL_SOCKET, option, &program, sizeof program) == 0 ? 0 : errno;
}

TEST(Listeners, NobodyPutsAFilterOnASocketWhereverItIsFrom) {
  std::vector<GivenSocket> given;
  for (const char* name : {"front", "back"}) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    int none = 0;
    ASSERT_EQ(FilterError(fd.get(), SO_ATTACH_FILTER), 0) << "this machine takes filters";
    ASSERT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none), 0);
    sockaddr_in any{.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof any), 0);
    given.push_back(GivenSocket{.name = name, .bound = "127.0.0.1:1", .fd = std::move(fd)});
  }
  Listeners listeners;
  std::vector<UniqueFd> back;
  back.push_back(std::move(given.back().fd));
  given.pop_back();
  listeners.SetGiven(std::move(given));
  listeners.AdoptStored("127.0.0.1:2", "back", "127.0.0.1:2", 7, std::move(back));
  ASSERT_TRUE(listeners.Prepare(With({On("web", "127.0.0.1:0"), On("front", "systemd:front"),
                                      On("one", "127.0.0.1:0", AcceptMode::kShared)}),
                                2));
  ASSERT_TRUE(listeners.Listen());
  std::size_t count = 0;
  for (const ListenerSockets& sockets : listeners.all()) {
    for (const UniqueFd& fd : sockets.slots) {
      EXPECT_EQ(FilterError(fd.get(), SO_ATTACH_FILTER), EPERM) << sockets.key;
      EXPECT_EQ(FilterError(fd.get(), SO_ATTACH_REUSEPORT_CBPF), EPERM) << sockets.key;
      int off = 0;
      EXPECT_NE(::setsockopt(fd.get(), SOL_SOCKET, SO_LOCK_FILTER, &off, sizeof off), 0);
      ++count;
    }
  }
  EXPECT_EQ(count, 5U);
  EXPECT_TRUE(Connects(listeners.all().back().bound));
}

TEST(Listeners, StoredSocketsComeOnceAndBesideThoseThatAreThere) {
  Listeners dead;
  ASSERT_TRUE(dead.Prepare(With({On("a", "127.0.0.1:0"), On("b", "127.0.0.1:0")}), 2));
  ASSERT_TRUE(dead.Listen());
  auto duplicates = [&](std::size_t listener, std::size_t first) {
    std::vector<UniqueFd> fds;
    for (std::size_t slot = first; slot < 2; ++slot) {
      fds.emplace_back(::dup(dead.all()[listener].slots[slot].get()));
    }
    return fds;
  };
  const ListenerSockets& a = dead.all()[0];
  const ListenerSockets& b = dead.all()[1];
  Listeners heir;
  heir.Adopt(a.key, "a", a.bound, a.id, duplicates(0, 1));
  heir.AdoptStored(a.key, "a", a.bound, a.id, duplicates(0, 0));
  ASSERT_EQ(heir.all().size(), 1U);
  EXPECT_EQ(heir.all()[0].slots.size(), 2U);
  EXPECT_EQ(heir.all()[0].listening, 2U);
  // The number is taken.
  heir.AdoptStored(b.key, "b", b.bound, a.id, duplicates(1, 0));
  ASSERT_EQ(heir.all().size(), 2U);
  EXPECT_NE(heir.all()[1].id, a.id);
  EXPECT_EQ(heir.in_force().size(), 2U);
  ASSERT_TRUE(heir.Prepare(With({On("a", "127.0.0.1:0")}), 2));
  EXPECT_EQ(heir.Commit(), std::vector{heir.all()[1].id}) << "what nobody wants is told";
}

}  // namespace
}  // namespace tidegate
