"""Ports that a test names in a configuration before somebody binds them."""

import itertools
import os
import socket

# Below what the kernel gives to who asks for any port, as other tests do all the while (net.ipv4.ip_local_port_range).
FIRST, COUNT = 10_000, 20_000

_numbers = itertools.count(os.getpid() * 101)


def free_port():
    """A port of 127.0.0.1 that is free, and that nobody else gets before it is used: each process begins at another one."""
    for number in itertools.islice(_numbers, COUNT):
        port = FIRST + number % COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
