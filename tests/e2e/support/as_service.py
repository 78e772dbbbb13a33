#!/usr/bin/python3
"""Becomes a process of a service as systemd starts one: as_service.py NAMES FDS COMMAND...

The descriptors FDS (numbers, with ',' between them) are 3, 4, ... of COMMAND, and LISTEN_FDS, LISTEN_FDNAMES (NAMES) and
LISTEN_PID say so: the last one only the process itself can know."""

import fcntl
import os
import sys

FIRST = 3


def main():
    names, numbers, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    fds = [int(number) for number in numbers.split(",") if number]
    # Out of the way first: a number may be the place of another.
    above = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST + len(fds) + max(fds, default=0)) for fd in fds]
    for fd in fds:
        os.close(fd)
    for place, fd in enumerate(above, FIRST):
        os.dup2(fd, place, inheritable=True)
    if fds:
        os.environ.update({"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names, "LISTEN_PID": str(os.getpid())})
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
