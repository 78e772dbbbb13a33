#pragma once

// What a worker takes from itself before it hears anybody, so that a fault in HTTP or TLS code is a
// fault in a process that can do little: by Landlock all paths, TCP ports to listen at, and signals
// to others; by a seccomp filter all system calls that it has no use for.
//
//   1. Never a reason not to serve: what this kernel, or what we run in, does not have is left out
//   and told.
//   2. A call that nobody thought of (a newer libc's) fails with EPERM. It ends the process only if
//   nothing but an intruder makes it.
//   3. Opening a path fails with ENOENT: libraries take that for "there is no such file".
//
// A build with sanitizers, or for training, writes files and much else, and is not confined.

#include "common/confinement_report.h"

namespace tidegate {

// Before the loop is made: from now on there is no io_uring here (ENOSYS). libuv 1.50 makes a ring
// with each loop, for epoll_ctl; a filter does not see what a ring is told, so Confine() does not
// let its calls through, and libuv aborts where a ring that it has made fails.
void RefuseRings();

// Of the whole process, for good, and of all that it starts. There must be one thread. Says what is
// in force and why the rest is not.
ConfinementReport Confine();

}  // namespace tidegate
