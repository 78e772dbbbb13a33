"""Names for one Tidegate: an /etc/hosts and an /etc/resolv.conf that nobody else on this machine sees."""

import contextlib
import ctypes
import os
import random
import shutil
import socket
import struct
import tempfile
import threading
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000

libc = ctypes.CDLL(None, use_errno=True)


def check(status):
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Names:
    """`Tidegate(config, preexec=names.enter)` finds the names that `names.are(...)` has said last, and no other.

    What is asked beyond is an outage of DNS: the server is silent; without root, where it cannot be, it refuses."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="tg-names-"))
        self.directory.chmod(0o755)
        self.server = None
        server = "127.0.0.1"
        if os.geteuid() == 0:
            self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server = f"127.{random.randint(64, 254)}.{random.randint(1, 254)}.{random.randint(1, 254)}"
            self.server.bind((server, 53))
        self.hosts = self.directory / "hosts"
        (self.directory / "resolv.conf").write_text(f"nameserver {server}\n")
        self.are()
        self.mounts = [(self.directory / name, f"/etc/{name}") for name in ("hosts", "resolv.conf")]
        if not all(Path(target).exists() for _, target in self.mounts):
            # A bare root has no /etc/hosts to mount over: another /etc, in which there is one.
            etc = self.directory / "etc"
            with contextlib.suppress(shutil.Error):  # of what we may not read
                shutil.copytree("/etc", etc, symlinks=True)
            for _, target in self.mounts:
                beside = etc / Path(target).name
                beside.unlink(missing_ok=True)
                beside.touch()
            self.mounts.insert(0, (etc, "/etc"))

    def are(self, **addresses):
        """`names.are(app="127.0.0.1")`: app.tidegate.test is there, nothing else is."""
        # In place: the mount holds this very file. Never empty: that might be an editor's doing.
        self.hosts.write_text("# what the test says\n" + "".join(f"{address} {name}.tidegate.test\n" for name, address in addresses.items()))

    def enter(self):
        """For the child, before its exec."""
        uid, gid = os.geteuid(), os.getegid()
        check(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if uid != 0 else 0)))
        if uid != 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        for source, target in self.mounts:
            check(libc.mount(str(source).encode(), target.encode(), None, MS_BIND, None))

    def close(self):
        if self.server:
            self.server.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class DnsServer:
    """At 127.X.Y.Z:53, so for root only: answers what it is asked for and remembers the query IDs."""

    def __init__(self, answer, ttl=1):
        self.answer, self.ttl, self.ids = answer, ttl, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = f"127.99.{os.getpid() % 250 + 1}.{random.randint(1, 254)}"
        self.socket.bind((self.address, 53))
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            query, peer = self.socket.recvfrom(4096)
            if not query:
                return
            self.ids.append(query[:2].hex())
            end = query.index(b"\0", 12) + 5
            is_a = query[end - 4:end - 2] == b"\0\1"
            records = struct.pack(">HHHIH", 0xc00c, 1, 1, self.ttl, 4) + socket.inet_aton(self.answer) if is_a else b""
            self.socket.sendto(query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1 if is_a else 0, 0, 0) + query[12:end] + records, peer)

    def close(self):
        with contextlib.suppress(OSError):  # it is not connected, but who waits is woken
            self.socket.shutdown(socket.SHUT_RD)
        self.thread.join()
        self.socket.close()
