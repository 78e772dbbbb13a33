#pragma once

// What the seccomp filter of a worker lets through, and what it kills for. Found by strace of the
// end-to-end tests, and by what libc, libuv, OpenSSL and c-ares (of Debian 12 and 13) do beside
// that. A name that this architecture has not is passed over by libseccomp.

#include <seccomp.h>

#include <array>

namespace tidegate {

// With any arguments: then the kernel remembers the verdict, and looks at no filter again (Linux
// 5.11). What a request needs must be here.
inline constexpr std::array kAllowedCalls = {
    // streams and the loop
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(recvfrom),
    SCMP_SYS(sendto), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(accept4), SCMP_SYS(connect),
    SCMP_SYS(shutdown), SCMP_SYS(close), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(poll), SCMP_SYS(ppoll),
    // descriptors that came from the supervisor; memfds. Not ftruncate: logs only grow here
    SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(newfstatat),
    SCMP_SYS(memfd_create),
    // memory
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mlock),
    SCMP_SYS(mlock2), SCMP_SYS(munlock),
    // time; the vDSO makes no calls of most of them, but not on every machine
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time),
    SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(restart_syscall),
    // signals to ourselves: what sends them is in confinement.cpp
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
    SCMP_SYS(pause),
    // libuv's threads, which write logs to files
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity), SCMP_SYS(membarrier), SCMP_SYS(getcpu), SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    // who and where we are
    SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getppid), SCMP_SYS(getuid), SCMP_SYS(geteuid),
    SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(getrlimit),
    SCMP_SYS(getrusage), SCMP_SYS(times), SCMP_SYS(getrandom)};

// ENOENT; with it what a library tries first.
inline constexpr std::array kOpenCalls = {SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2),
                                          SCMP_SYS(creat)};

// The process ends by SIGSYS: other programs, other processes, the kernel, and ways out of where we
// are. Nothing that a library tries in the hope that it works may be here.
inline constexpr std::array kFatalCalls = {SCMP_SYS(execve),
                                           SCMP_SYS(execveat),
                                           SCMP_SYS(fork),
                                           SCMP_SYS(vfork),
                                           SCMP_SYS(ptrace),
                                           SCMP_SYS(process_vm_readv),
                                           SCMP_SYS(process_vm_writev),
                                           SCMP_SYS(process_madvise),
                                           SCMP_SYS(pidfd_getfd),
                                           SCMP_SYS(kcmp),
                                           SCMP_SYS(mount),
                                           SCMP_SYS(umount2),
                                           SCMP_SYS(pivot_root),
                                           SCMP_SYS(chroot),
                                           SCMP_SYS(move_mount),
                                           SCMP_SYS(open_tree),
                                           SCMP_SYS(fsopen),
                                           SCMP_SYS(fsconfig),
                                           SCMP_SYS(fsmount),
                                           SCMP_SYS(fspick),
                                           SCMP_SYS(mount_setattr),
                                           SCMP_SYS(open_by_handle_at),
                                           SCMP_SYS(unshare),
                                           SCMP_SYS(setns),
                                           SCMP_SYS(bpf),
                                           SCMP_SYS(perf_event_open),
                                           SCMP_SYS(userfaultfd),
                                           SCMP_SYS(init_module),
                                           SCMP_SYS(finit_module),
                                           SCMP_SYS(delete_module),
                                           SCMP_SYS(kexec_load),
                                           SCMP_SYS(kexec_file_load),
                                           SCMP_SYS(reboot),
                                           SCMP_SYS(swapon),
                                           SCMP_SYS(swapoff),
                                           SCMP_SYS(acct),
                                           SCMP_SYS(quotactl),
                                           SCMP_SYS(syslog),
                                           SCMP_SYS(iopl),
                                           SCMP_SYS(ioperm),
                                           SCMP_SYS(keyctl),
                                           SCMP_SYS(add_key),
                                           SCMP_SYS(request_key),
                                           SCMP_SYS(setdomainname),
                                           SCMP_SYS(sethostname),
                                           SCMP_SYS(clock_settime),
                                           SCMP_SYS(settimeofday),
                                           SCMP_SYS(clock_adjtime),
                                           SCMP_SYS(adjtimex)};

}  // namespace tidegate
