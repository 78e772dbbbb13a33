"""An attack by a client of HTTP/2, and what must hold meanwhile: our memory and the work at the origin stay small, and somebody
else is served."""

import threading
import time

from support import processes
from support.h2_frames import ENHANCE_YOUR_CALM
from support.wait import PATIENCE, SMALL, until
from support.wire import Ended

MIB = 1 << 20

# The longest that somebody else may wait for an answer, and what an attack may cost us.
LONGEST_WAIT = 3.0 * PATIENCE
MOST_MEMORY = 24 * MIB
MOST_REQUESTS = 2000
# A sanitizer's shadow and quarantine are not ours to bound.
BOUNDED = not SMALL

# Somebody else is answered by the worker itself: the origin shares its interpreter with the attacker.
BYSTANDER = {"name": "bystander", "path": "/bystander", "respond": {"status": 200, "body": "ok\n"}}


class Bystander:
    """Somebody else, who asks all the time on a connection of their own."""

    def __init__(self, tidegate):
        self.tidegate, self.longest, self.answers, self.wrong = tidegate, 0.0, 0, []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            with self.tidegate.h2() as client:
                while not self.stop.wait(0.005):
                    began = time.monotonic()
                    assert client.get("/bystander").status == 200
                    self.longest = max(self.longest, time.monotonic() - began)
                    self.answers += 1
        except (AssertionError, Ended, OSError) as wrong:
            self.wrong.append(repr(wrong))

    def __enter__(self):
        self.thread.start()
        until(lambda: self.answers or self.wrong, "the bystander's first answer")
        return self

    def __exit__(self, *_):
        before = self.answers
        until(lambda: self.answers > before or self.wrong, "the bystander's next answer")
        self.stop.set()
        self.thread.join()
        assert not self.wrong, self.wrong
        assert self.longest < LONGEST_WAIT, f"somebody else waited {self.longest:.1f} s"


class Attack:
    """One attack under way: its front, its worker's memory before, its bystander."""

    def __init__(self, tidegate, origin, most_memory):
        self.tidegate, self.origin, self.most_memory = tidegate, origin, most_memory
        tidegate.address()
        self.worker = tidegate.workers()[0]

    def __enter__(self):
        self.bystander = Bystander(self.tidegate).__enter__()
        self.before = processes.resident_bytes(self.worker)
        return self

    def __exit__(self, kind, *_):
        self.bystander.__exit__()
        if kind:
            return
        grown = processes.resident_bytes(self.worker, peak=True) - self.before
        assert grown < self.most_memory or not BOUNDED, f"the worker grew by {grown / MIB:.1f} MiB"
        asked = len(self.origin.requests)
        assert asked <= MOST_REQUESTS, f"{asked} requests at the origin"
        assert self.tidegate.workers()[0] == self.worker, "the worker is another one"

    def calmed(self, client, *reasons):
        """The attacker is told to calm down, and left; the log has one of these reasons."""
        goaway = client.end()
        assert goaway is not None, "the connection ended without a word"
        assert goaway.code == ENHANCE_YOUR_CALM, str(goaway)
        return self.told(client, *reasons)

    def told(self, client, *reasons):
        """The log says why the connection ended, or each of its streams."""
        def found():
            lines = [line for line in self.tidegate.access_lines()
                     if line.get("reason") in reasons and line["peer"].endswith(f":{client.port_was}")]
            return lines or None
        lines = until(found, lambda: f"a line for {reasons}; the last are {self.tidegate.access_lines()[-3:]}")
        assert {line["who"] for line in lines} == {"client"}, lines
        return lines


def attacker(tidegate, *settings, **options):
    """A client whose port is known after its end."""
    client = tidegate.h2(*settings, **options)
    client.port_was = client.port
    return client
