#include "proxy/confinement.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <net/if.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <iostream>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "common/control.h"
#include "common/unique_fd.h"

namespace tidegate {
namespace {

// What a child says that has confined itself; what it expects it says on standard error.
class Child {
 public:
  void Expect(bool holds, const std::string& what) {
    if (!holds) {
      std::cerr << "not so in a confined process: " << what << "\n";
      failed_ = true;
    }
  }
  void Same(int got, int wanted, const std::string& what) {
    Expect(got == wanted, what + ": " + std::to_string(got) + ", not " + std::to_string(wanted));
  }
  bool failed() const { return failed_; }

 private:
  bool failed_ = false;
};

// The wait status of a process that was confined and then did `act`.
int ConfinedDoes(
    const std::function<void(Child&, const ConfinementReport&)>& act,
    const std::function<void()>& before = [] {}) {
  pid_t pid = ::fork();
  if (pid == 0) {
    Child child;
    before();
    act(child, Confine());
    ::_exit(child.failed() ? 1 : 0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return status;
}

#ifdef TIDEGATE_UNCONFINED

TEST(ConfinementTest, LeavesThisBuildAloneAndSaysSo) {
  EXPECT_EQ(ConfinedDoes([](Child& child, const ConfinementReport& report) {
              child.Expect(report.seccomp.note == TIDEGATE_UNCONFINED, report.seccomp.note);
              child.Expect(report.landlock.note == TIDEGATE_UNCONFINED, report.landlock.note);
              child.Expect(UniqueFd(::open("/etc/passwd", O_RDONLY)).get() >= 0, "open");
            }),
            0);
}

#else

// The error number, 0 for none.
int ErrorOf(long status) {
  return status < 0 ? errno : 0;
}

TEST(ConfinementTest, RingsAreRefusedAsByAKernelWithoutThemBeforeAndAfter) {
  EXPECT_EQ(ConfinedDoes(
                [](Child& child, const ConfinementReport& report) {
                  child.Expect(report.seccomp.in_force, report.seccomp.note);
                  child.Same(ErrorOf(::syscall(SYS_io_uring_setup, 8, nullptr)), ENOSYS, "a ring");
                },
                [] {
                  RefuseRings();
                  if (ErrorOf(::syscall(SYS_io_uring_setup, 8, nullptr)) != ENOSYS) {
                    ::_exit(2);
                  }
                }),
            0);
}

// The version of Landlock that this kernel has; below 1: none.
long LandlockAbi() {
  return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

TEST(ConfinementTest, IsWholeHereAndSaysWhatThisKernelLeavesOut) {
  const long abi = LandlockAbi();
  EXPECT_EQ(ConfinedDoes([abi](Child& child, const ConfinementReport& report) {
              child.Expect(report.is_complete(), ConfinementText(report));
              child.Expect(report.seccomp.note.empty(), report.seccomp.note);
              child.Expect(report.landlock.note.empty() == (abi >= 6), report.landlock.note);
            }),
            0)
      << "this kernel must have both for these tests";
}

TEST(ConfinementTest, OpensNoPath) {
  EXPECT_EQ(ConfinedDoes([](Child& child, const ConfinementReport&) {
              for (const char* path : {"/etc/hosts", "/dev/null", "/proc/self/stat", "/"}) {
                child.Same(ErrorOf(::open(path, O_RDONLY | O_CLOEXEC)), ENOENT, path);
              }
              child.Same(ErrorOf(::syscall(SYS_openat2, AT_FDCWD, "/etc/hosts", nullptr, 0)),
                         ENOENT, "openat2");
              child.Same(ErrorOf(::mkdir("/tmp/tidegate-confined", 0700)), EPERM, "mkdir");
              child.Same(ErrorOf(::unlink("/tmp/tidegate-confined")), EPERM, "unlink");
              child.Same(ErrorOf(::truncate("/tmp/tidegate-confined", 0)), EPERM, "truncate");
              child.Same(ErrorOf(::chmod("/tmp/tidegate-confined", 0700)), EPERM, "chmod");
            }),
            0);
}

TEST(ConfinementTest, DoesWithDescriptorsWhatAWorkerDoes) {
  std::string path = testing::TempDir() + "tidegate-confined-" + std::to_string(::getpid());
  UniqueFd log(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  ASSERT_TRUE(log);
  EXPECT_EQ(ConfinedDoes([&log](Child& child, const ConfinementReport&) {
              child.Expect(::write(log.get(), "line\n", 5) == 5, "a log is written");
              child.Same(ErrorOf(::ftruncate(log.get(), 0)), EPERM, "what was logged is lost");
              Result<UniqueFd> memfd = MakeMemfd("tidegate-test", "text");
              child.Expect(memfd && ReadMemfd(memfd->get()).value_or("") == "text", "memfds");
              Result<std::pair<UniqueFd, UniqueFd> > pair = MakeControlPair();
              child.Expect(!pair, "pairs of sockets are the supervisor's to make");
              void* pages = ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              child.Expect(pages != MAP_FAILED, "memory");
              child.Same(ErrorOf(::madvise(pages, 1 << 20, MADV_DONTDUMP)), 0, "madvise");
              char octet = 0;
              child.Expect(::getrandom(&octet, 1, 0) == 1, "random numbers");
              int on = 1;
              child.Same(ErrorOf(::ioctl(log.get(), FIONBIO, &on)), 0, "FIONBIO");
              rlimit limit{};
              child.Same(ErrorOf(::getrlimit(RLIMIT_NOFILE, &limit)), 0, "getrlimit");
              // libuv writes the logs in threads.
              int answer = 0;
              std::thread([&answer] { answer = 42; }).join();
              child.Same(answer, 42, "threads");
            }),
            0);
  ::unlink(path.c_str());
}

TEST(ConfinementTest, ConnectsAndNeitherBindsNorListens) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(listener.get(), generic, length), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), generic, &length), 0);
  sockaddr_un local{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string path =
      testing::TempDir() + "tidegate-confined-" + std::to_string(::getpid()) + ".sock";
  path.copy(local.sun_path, sizeof(local.sun_path) - 1);
  UniqueFd local_listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(local_listener.get(), reinterpret_cast<sockaddr*>(&local), sizeof local), 0);
  ASSERT_EQ(::listen(local_listener.get(), 1), 0);
  EXPECT_EQ(ConfinedDoes([&](Child& child, const ConfinementReport&) {
              UniqueFd tcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
              int error = ErrorOf(::connect(tcp.get(), generic, length));
              child.Expect(error == EINPROGRESS || error == 0, "connect");
              UniqueFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
              child.Expect(static_cast<bool>(accepted), "accept");
              UniqueFd unix_socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
              child.Same(
                  ErrorOf(::connect(unix_socket.get(), reinterpret_cast<const sockaddr*>(&local),
                                    sizeof local)),
                  0, "connect to a path");
              UniqueFd own(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
              sockaddr_in6 any{.sin6_family = AF_INET6};
              child.Same(ErrorOf(::bind(own.get(), reinterpret_cast<sockaddr*>(&any), sizeof any)),
                         EPERM, "bind");
              child.Same(ErrorOf(::listen(own.get(), 1)), EPERM, "listen");
              child.Same(ErrorOf(::socket(AF_PACKET, SOCK_DGRAM, 0)), EPERM, "AF_PACKET");
              child.Same(ErrorOf(::socket(AF_NETLINK, SOCK_RAW, 0)), EPERM, "AF_NETLINK");
              child.Same(ErrorOf(::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)), EPERM, "SOCK_RAW");
              // The supervisor's control socket is one.
              child.Same(ErrorOf(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)), EPERM,
                         "SOCK_SEQPACKET");
            }),
            0);
  ::unlink(path.c_str());
}

TEST(ConfinementTest, SpeaksTcpAndUdpAndNothingElse) {
  EXPECT_EQ(ConfinedDoes([](Child& child, const ConfinementReport&) {
              for (const auto& [type, protocol] :
                   {std::pair(SOCK_STREAM, 0), std::pair(SOCK_STREAM, int{IPPROTO_TCP}),
                    std::pair(SOCK_DGRAM, 0), std::pair(SOCK_DGRAM, int{IPPROTO_UDP})}) {
                UniqueFd made(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
                child.Expect(static_cast<bool>(made), "a socket of TCP or UDP");
              }
              constexpr int kMptcp = 262;
              for (const auto& [type, protocol] :
                   {std::pair(SOCK_STREAM, int{IPPROTO_SCTP}), std::pair(SOCK_STREAM, kMptcp),
                    std::pair(SOCK_DGRAM, int{IPPROTO_ICMP}),
                    std::pair(SOCK_DGRAM, int{IPPROTO_UDPLITE})}) {
                child.Same(ErrorOf(::socket(AF_INET, type, protocol)), EPERM,
                           "protocol " + std::to_string(protocol));
              }
              child.Same(ErrorOf(::socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6)), EPERM, "ICMPv6");
            }),
            0);
}

// c-ares asks for it, and does without a server whose scope it does not find.
TEST(ConfinementTest, KnowsTheInterfacesThatScopesName) {
  EXPECT_EQ(ConfinedDoes([](Child& child, const ConfinementReport&) {
              const unsigned loopback = ::if_nametoindex("lo");
              child.Expect(loopback > 0, "the number of lo");
              char name[IF_NAMESIZE] = {};
              child.Expect(::if_indextoname(loopback, name) == name, "its name");
              UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
              ifreq request{};
              child.Same(ErrorOf(::ioctl(any.get(), SIOCSIFFLAGS, &request)), EPERM, "a change");
            }),
            0);
}

TEST(ConfinementTest, MakesNoCodeAndNoProcesses) {
  EXPECT_EQ(
      ConfinedDoes([](Child& child, const ConfinementReport&) {
        constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
        child.Expect(::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, kFlags, -1, 0) == MAP_FAILED,
                     "memory with code");
        void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, kFlags, -1, 0);
        child.Same(ErrorOf(::mprotect(page, 4096, PROT_READ | PROT_EXEC)), EPERM, "mprotect");
        child.Same(ErrorOf(::fork()), EPERM, "fork");
        child.Same(ErrorOf(::kill(::getppid(), 0)), EPERM, "kill");
        child.Same(ErrorOf(::syscall(SYS_tgkill, ::getppid(), ::getppid(), 0)), EPERM, "tgkill");
        rlimit limit{};
        child.Same(ErrorOf(::setrlimit(RLIMIT_NOFILE, &limit)), EPERM, "setrlimit");
        // What nobody has thought of.
        child.Same(ErrorOf(::syscall(SYS_fanotify_init, 0, 0)), EPERM, "fanotify");
      }),
      0);
}

TEST(ConfinementTest, EndsWhoDoesWhatOnlyAnIntruderDoes) {
  const std::initializer_list<std::pair<const char*, void (*)()> > acts = {
      {"execve", [] { ::execl("/bin/true", "true", nullptr); }},
      {"ptrace", [] { ::syscall(SYS_ptrace, 0, 0, 0, 0); }},
      {"process_vm_readv", [] { ::syscall(SYS_process_vm_readv, 1, nullptr, 0, nullptr, 0, 0); }},
      {"unshare", [] { ::syscall(SYS_unshare, 0); }},
      {"bpf", [] { ::syscall(SYS_bpf, 0, nullptr, 0); }},
      {"keyctl", [] { ::syscall(SYS_keyctl, 0, 0, 0, 0, 0); }}};
  for (const auto& [name, act] : acts) {
    int status = ConfinedDoes([act](Child&, const ConfinementReport&) { act(); });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << name << ": " << status;
  }
}

TEST(ConfinementTest, AbortsAsOthersDo) {
  int status = ConfinedDoes([](Child&, const ConfinementReport&) { std::abort(); });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
}

// Makes a kernel without `call` with such arguments: it answers with `system_errno`.
void Lacks(int call, int system_errno, std::initializer_list<scmp_arg_cmp> arguments = {}) {
  scmp_filter_ctx kernel = seccomp_init(SCMP_ACT_ALLOW);
  bool there =
      kernel != nullptr &&
      seccomp_rule_add_array(kernel, SCMP_ACT_ERRNO(static_cast<unsigned>(system_errno)), call,
                             static_cast<unsigned>(arguments.size()), arguments.begin()) == 0 &&
      seccomp_load(kernel) == 0;
  if (!there) {
    ::_exit(99);
  }
}

// Before Linux 4.17, and in gVisor.
TEST(ConfinementTest, FiltersWhereTheKernelKnowsNoFlagsOfFilters) {
  EXPECT_EQ(ConfinedDoes(
                [](Child& child, const ConfinementReport& report) {
                  child.Expect(report.seccomp.in_force, report.seccomp.note);
                  child.Same(ErrorOf(::socket(AF_NETLINK, SOCK_RAW, 0)), EPERM, "AF_NETLINK");
                },
                [] {
                  // SECCOMP_SET_MODE_FILTER with any flag.
                  constexpr scmp_arg_cmp kSet = {
                      .arg = 0, .op = SCMP_CMP_EQ, .datum_a = 1, .datum_b = 0};
                  constexpr scmp_arg_cmp kFlags = {
                      .arg = 1, .op = SCMP_CMP_NE, .datum_a = 0, .datum_b = 0};
                  Lacks(SCMP_SYS(seccomp), EINVAL, {kSet, kFlags});
                  // The library has asked the kernel already, and remembers.
                  if (seccomp_reset(nullptr, SCMP_ACT_ALLOW) != 0 ||
                      ErrorOf(::syscall(SYS_seccomp, 1, 4, nullptr)) != EINVAL) {
                    ::_exit(2);
                  }
                }),
            0);
}

TEST(ConfinementTest, DoesWithoutWhatTheKernelDoesNotHaveAndSaysSo) {
  EXPECT_EQ(ConfinedDoes(
                [](Child& child, const ConfinementReport& report) {
                  child.Expect(
                      ConfinementText(report) == "seccomp; no landlock: this kernel has none",
                      ConfinementText(report));
                  child.Same(ErrorOf(::open("/etc/hosts", O_RDONLY)), ENOENT, "open");
                },
                [] { Lacks(SCMP_SYS(landlock_create_ruleset), ENOSYS); }),
            0);
  EXPECT_EQ(ConfinedDoes(
                [](Child& child, const ConfinementReport& report) {
                  child.Expect(
                      ConfinementText(report) == "seccomp; no landlock: it is off in this kernel",
                      ConfinementText(report));
                },
                [] { Lacks(SCMP_SYS(landlock_create_ruleset), EOPNOTSUPP); }),
            0);
  // As in some containers. Landlock alone says EACCES.
  EXPECT_EQ(ConfinedDoes(
                [abi = LandlockAbi()](Child& child, const ConfinementReport& report) {
                  child.Expect(report.landlock.in_force && !report.seccomp.in_force &&
                                   report.seccomp.note == "Operation not permitted",
                               ConfinementText(report));
                  child.Same(ErrorOf(::open("/etc/hosts", O_RDONLY)), EACCES, "open");
                  sockaddr_in any{.sin_family = AF_INET};
                  UniqueFd own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
                  child.Same(
                      ErrorOf(::bind(own.get(), reinterpret_cast<sockaddr*>(&any), sizeof any)),
                      abi >= 4 ? EACCES : 0, "bind");
                  child.Same(ErrorOf(::kill(::getppid(), 0)), abi >= 6 ? EPERM : 0, "kill");
                },
                [] { Lacks(SCMP_SYS(seccomp), EPERM); }),
            0);
}

#endif

}  // namespace
}  // namespace tidegate
