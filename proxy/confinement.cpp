#include "proxy/confinement.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "proxy/confinement_calls.h"

namespace tidegate {
namespace {

using Part = ConfinementReport::Part;

#ifdef TIDEGATE_UNCONFINED
constexpr std::string_view kUnconfined = TIDEGATE_UNCONFINED;
#else
constexpr std::string_view kUnconfined;
#endif

std::string ReasonOf(int system_errno) {
  return std::generic_category().message(system_errno);
}

// --- Landlock

// struct landlock_ruleset_attr as Linux 6.12 has it (ABI 6); the headers of Debian 12 end with ABI
// 2. A kernel takes a shorter one, and a longer one whose rest is zero.
struct Ruleset {
  std::uint64_t handled_access_fs = 0;
  std::uint64_t handled_access_net = 0;
  std::uint64_t scoped = 0;
};

// Rights that came one after the other, by the ABI that brought them. What is handled and has no
// rule is forbidden.
//   fs      1: the first 13; 2: REFER; 3: TRUNCATE; 5: IOCTL_DEV
//   net     4: BIND_TCP; not CONNECT_TCP, because endpoints are at any port
//   scoped  6: connecting to abstract unix sockets (endpoints have paths: common/address.cpp) and
//           signals to processes outside
// Rights of later kernels are not for us to guess: one that keeps us from connecting to the path of
// a unix socket would part us from endpoints.
Ruleset RulesetOf(int abi) {
  constexpr std::uint64_t kFirstFs = (std::uint64_t{1} << 13) - 1;
  constexpr std::uint64_t kRefer = std::uint64_t{1} << 13;
  constexpr std::uint64_t kTruncate = std::uint64_t{1} << 14;
  constexpr std::uint64_t kIoctlDev = std::uint64_t{1} << 15;
  constexpr std::uint64_t kBindTcp = std::uint64_t{1} << 0;
  constexpr std::uint64_t kAbstractUnixSocket = std::uint64_t{1} << 0;
  constexpr std::uint64_t kSignal = std::uint64_t{1} << 1;
  Ruleset rules{.handled_access_fs = kFirstFs};
  rules.handled_access_fs |= abi >= 2 ? kRefer : 0;
  rules.handled_access_fs |= abi >= 3 ? kTruncate : 0;
  rules.handled_access_fs |= abi >= 5 ? kIoctlDev : 0;
  rules.handled_access_net = abi >= 4 ? kBindTcp : 0;
  rules.scoped = abi >= 6 ? kAbstractUnixSocket | kSignal : 0;
  return rules;
}

// What an older kernel leaves out.
std::string GapsOf(int abi) {
  if (abi >= 6) {
    return {};
  }
  return fmt::format("ABI {}, without {}", abi, abi >= 4 ? "signals" : "ports and signals");
}

Part RestrictByLandlock() {
  long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 1) {
    // ENOSYS: built without; EOPNOTSUPP: left out at boot (lsm=).
    return {.note = errno == ENOSYS       ? "this kernel has none"
                    : errno == EOPNOTSUPP ? "it is off in this kernel"
                                          : ReasonOf(errno)};
  }
  Ruleset rules = RulesetOf(static_cast<int>(abi));
  long fd = ::syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
  if (fd < 0) {
    return {.note = ReasonOf(errno)};
  }
  long status = ::syscall(SYS_landlock_restrict_self, fd, 0);
  int restrict_errno = errno;
  ::close(static_cast<int>(fd));
  if (status != 0) {
    return {.note = ReasonOf(restrict_errno)};
  }
  return {.in_force = true, .note = GapsOf(static_cast<int>(abi))};
}

// --- seccomp

// The rules as they grow; the first that fails is kept.
class Filter {
 public:
  // `other`: what becomes of the calls without a rule.
  explicit Filter(std::uint32_t other) : context_(seccomp_init(other), &seccomp_release) {
    if (context_ == nullptr) {
      failure_ = -ENOMEM;
    }
    // Kernels before 5.16 turn a mitigation on for whom is confined, which is there for foreign
    // code that runs in a process. Here is none, and it costs more than the filter.
    Prefer(SCMP_FLTATR_CTL_SSB, 1);
  }

  void Set(scmp_filter_attr attribute, std::uint32_t value) {
    Keep(failure_ != 0 ? 0 : seccomp_attr_set(context_.get(), attribute, value));
  }
  // What makes it faster: the filter is as good where the kernel or the library has no such thing.
  void Prefer(scmp_filter_attr attribute, std::uint32_t value) {
    if (failure_ == 0) {
      (void)seccomp_attr_set(context_.get(), attribute, value);
    }
  }
  void Add(std::uint32_t action, int call) {
    Keep(failure_ != 0 ? 0 : seccomp_rule_add(context_.get(), action, call, 0));
  }
  void AllowIf(int call, std::initializer_list<scmp_arg_cmp> arguments) {
    Keep(failure_ != 0
             ? 0
             : seccomp_rule_add_array(context_.get(), SCMP_ACT_ALLOW, call,
                                      static_cast<unsigned>(arguments.size()), arguments.begin()));
  }
  void Load() { Keep(failure_ != 0 ? 0 : seccomp_load(context_.get())); }

  // 0, or the negative error number of what has failed.
  int failure() const { return failure_; }

 private:
  void Keep(int status) { failure_ = status < 0 ? status : failure_; }

  std::unique_ptr<void, decltype(&seccomp_release)> context_;
  int failure_ = 0;
};

scmp_arg_cmp Is(unsigned argument, std::uint64_t value) {
  return {.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value, .datum_b = 0};
}

scmp_arg_cmp HasBits(unsigned argument, std::uint64_t mask, std::uint64_t value) {
  return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

void AddRules(Filter& filter) {
  for (int call : kAllowedCalls) {
    filter.Add(SCMP_ACT_ALLOW, call);
  }
  for (int call : kOpenCalls) {
    filter.Add(SCMP_ACT_ERRNO(ENOENT), call);
  }
  for (int call : kFatalCalls) {
    filter.Add(SCMP_ACT_KILL_PROCESS, call);
  }
  // Of clone3 a filter cannot see the flags: libc takes this for an old kernel, and uses clone.
  // That makes threads, and no processes.
  filter.Add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  // As before: of two filters the newer one's error counts.
  filter.Add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(io_uring_setup));
  filter.AllowIf(SCMP_SYS(clone), {HasBits(0, CLONE_THREAD, CLONE_THREAD)});
  // Beside the flags that come along.
  constexpr std::uint64_t kSocketType = 0xf;
  // To endpoints and name servers; not what reads or writes below TCP and UDP, nor beside them:
  // the kernel has SCTP, MPTCP, ICMP and others as types of these as well.
  for (int family : {AF_INET, AF_INET6, AF_UNIX}) {
    for (const auto& [type, protocol] :
         {std::pair(SOCK_STREAM, IPPROTO_TCP), std::pair(SOCK_DGRAM, IPPROTO_UDP)}) {
      for (int either : {0, static_cast<int>(protocol)}) {
        filter.AllowIf(SCMP_SYS(socket), {Is(0, static_cast<std::uint64_t>(family)),
                                          HasBits(1, kSocketType, static_cast<std::uint64_t>(type)),
                                          Is(2, static_cast<std::uint64_t>(either))});
      }
    }
  }
  // Memory that was written is never code.
  filter.AllowIf(SCMP_SYS(mmap), {HasBits(2, PROT_EXEC, 0)});
  filter.AllowIf(SCMP_SYS(mprotect), {HasBits(2, PROT_EXEC, 0)});
  for (int command :
       {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_ADD_SEALS, F_GET_SEALS}) {
    filter.AllowIf(SCMP_SYS(fcntl), {Is(1, static_cast<std::uint64_t>(command))});
  }
  // The last two say which interface a name server's scope means ("fe80::1%eth0"). Also whether
  // standard output is a terminal, which a refusal answers as well.
  for (int request : {FIONBIO, FIOCLEX, FIONREAD, SIOCGIFINDEX, SIOCGIFNAME}) {
    filter.AllowIf(SCMP_SYS(ioctl), {Is(1, static_cast<std::uint64_t>(request))});
  }
  // abort() and the faults of tests.
  const auto self = static_cast<std::uint64_t>(::getpid());
  filter.AllowIf(SCMP_SYS(kill), {Is(0, self)});
  filter.AllowIf(SCMP_SYS(tgkill), {Is(0, self)});
  // getrlimit.
  filter.AllowIf(SCMP_SYS(prlimit64), {Is(0, 0), Is(2, 0)});
  filter.AllowIf(SCMP_SYS(prctl), {Is(0, PR_SET_NAME)});
}

Part RestrictBySeccomp() {
  // Not in valgrind, whose own calls the filter would see: it has no seccomp(2).
  std::uint32_t action = SCMP_ACT_KILL_PROCESS;
  constexpr unsigned kGetActionAvailable = 2;  // SECCOMP_GET_ACTION_AVAIL
  if (::syscall(SYS_seccomp, kGetActionAvailable, 0, &action) != 0) {
    return {.note = errno == ENOSYS ? "this kernel has none" : ReasonOf(errno)};
  }
  Filter filter(SCMP_ACT_ERRNO(EPERM));
  // Another architecture's calls have other numbers.
  filter.Set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  // A tree of comparisons in the place of a list of 150.
  filter.Prefer(SCMP_FLTATR_CTL_OPTIMIZE, 2);
  AddRules(filter);
  filter.Load();
  if (filter.failure() != 0) {
    return {.note = ReasonOf(-filter.failure())};
  }
  return {.in_force = true};
}

}  // namespace

void RefuseRings() {
  if (!kUnconfined.empty() || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return;
  }
  // What fails here fails in Confine() as well, which tells.
  Filter filter(SCMP_ACT_ALLOW);
  filter.Add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(io_uring_setup));
  filter.Load();
}

ConfinementReport Confine() {
  if (!kUnconfined.empty()) {
    const Part off{.note = std::string(kUnconfined)};
    return {.seccomp = off, .landlock = off};
  }
  // Both need it from who has no capabilities. The supervisor has done it already, by the way.
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    const Part off{.note = ReasonOf(errno)};
    return {.seccomp = off, .landlock = off};
  }
  // In this order: the filter does not let the other's calls through.
  Part landlock = RestrictByLandlock();
  return {.seccomp = RestrictBySeccomp(), .landlock = std::move(landlock)};
}

}  // namespace tidegate
