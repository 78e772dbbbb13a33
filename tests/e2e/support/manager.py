"""A service manager with a descriptor store, as much of systemd as the store needs: `launch(config, notify=Manager)`.

What it does as systemd 252 does (service.c, manager.c): a descriptor that is there already is ignored, one for which there is
no room is ignored, FDSTOREREMOVE closes all of that name, BARRIER=1 closes its descriptor after what came before. The main
process gets duplicates; the store keeps its own. KillMode=mixed: when the main process has ended, so have all others."""

import os
import signal
import socket
import sys
import threading
from pathlib import Path

from support import processes
from support.daemon import Notify
from support.wait import until

LAUNCHER = Path(__file__).with_name("as_service.py")
ROOM = 4096


class Manager(Notify):
    """`room` 0: FileDescriptorStoreMax=0, the default of systemd. `told`: how the service hears of the room, here by the unit.
    `reading` cleared: its queue fills. `lazy`: it closes what is taken back so many seconds later, as systemd 255 does in a thread."""

    room = ROOM
    lazy = 0
    told = {"TIDEGATE_FDSTORE": str(ROOM)}

    def __init__(self, path):
        # (name, fd), in the order in which they came.
        self.store = []
        # Taken back, and not closed yet.
        self.closing = []
        self.removed = []
        self.barriers = 0
        # Nobody sees the half of what a message does.
        self.lock = threading.RLock()
        self.reading = threading.Event()
        self.reading.set()
        super().__init__(path)

    def _receive(self):
        while self.reading.wait():
            octets, fds, _, _ = socket.recv_fds(self._socket, 4096, 16)
            if not octets:
                return
            with self.lock:
                self._take(octets)
                self._hear(octets.decode(errors="replace").splitlines(), fds)

    def _hear(self, lines, fds):
        fields = dict(line.partition("=")[::2] for line in lines)
        name = fields.get("FDNAME", "stored")
        assert ":" not in name and name.isprintable() and len(name) <= 255
        if "FDSTOREREMOVE" in fields:
            self.removed.append(name)
            self._remove(name)
        elif "FDSTORE" in fields:
            assert fields.get("FDPOLL") == "0", "a listener that is not polled is not dropped"
            for fd in fds:
                self._add(name, fd)
            return
        elif "BARRIER" in fields:
            assert len(fds) == 1 and len(fields) == 1
            self.barriers += 1
        for fd in fds:
            os.close(fd)

    def _add(self, name, fd):
        known = any(os.path.samestat(os.fstat(fd), os.fstat(other)) for _, other in self.store)
        if known or len(self.store) >= self.room:
            os.close(fd)
        else:
            self.store.append((name, fd))

    def _remove(self, name):
        for one in [one for one in self.store if one[0] == name]:
            self.store.remove(one)
            self.closing.append(one[1])
        if self.lazy:
            timer = threading.Timer(self.lazy, self._close_all)
            timer.start()
        else:
            self._close_all()

    def _close_all(self):
        while self.closing:
            os.close(self.closing.pop())

    def variables(self):
        return self.told

    # What tests do.

    def names(self, kind=""):
        """The names in the store, without what they have in common."""
        with self.lock:
            return [name.removeprefix("tidegate.store.") for name, _ in self.store if name.startswith("tidegate.store." + kind)]

    def read(self, kind):
        """The octets of the newest one; None where there is none, as while one takes the place of another."""
        with self.lock:
            fds = [fd for name, fd in self.store if name.startswith("tidegate.store." + kind)]
            return os.pread(fds[-1], os.fstat(fds[-1]).st_size, 0) if fds else None

    def lose(self, kind, count=None):
        """As if they had never come."""
        with self.lock:
            for name in self.names(kind)[:count]:
                self._remove("tidegate.store." + name)

    def replace(self, kind, fd):
        """Under the same name lies something else."""
        with self.lock:
            name = "tidegate.store." + self.names(kind)[-1]
            self._remove(name)
            self.store.append((name, fd))

    def as_service(self, command):
        """(command, descriptors to leave open) of a main process that gets what is stored."""
        with self.lock:
            held = list(self.store)
        names = ":".join(name for name, _ in held)
        fds = [fd for _, fd in held]
        return [sys.executable, str(LAUNCHER), names, ",".join(map(str, fds)), *command], fds

    def close(self):
        self.reading.set()
        super().close()
        while self.store:
            os.close(self.store.pop()[1])


def holds_anything(pid):
    """A process whose first thread is a zombie still has its descriptors while another thread is dying."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1 or processes.alive(pid)
    except FileNotFoundError:
        return False


def crash(tidegate, workers=True):
    """kill -9 of the supervisor, and of all that it leaves, as systemd does it; nothing is started."""
    left = tidegate.worker_processes()
    tidegate.process.kill()
    tidegate.process.wait()
    for pid in left if workers else []:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if workers:
        until(lambda: not any(holds_anything(pid) for pid in left), "the end of the workers")
    # Systemd, too, hears what was said before it looks at who has died.
    tidegate.notify.settle()


def start_again(tidegate):
    tidegate.start()
    return tidegate.wait_ready()
