"""Live connections that account for every octet while upgrades go by: the load of the hand-over tests.

One thread watches them all. Kept connections ask again and again (`asking`), say nothing (`idle`), wait for an answer that
the origin keeps back (`held`), or are tunnels whose octets are numbered (`tunnels`). Whatever is lost, doubled, out of order
or not asked for is a fault; the end of a connection is none, and is recorded: the test knows who may die."""

import collections
import selectors
import socket
import struct
import threading
import time

from support.client import connect, request
from support.wait import until
from support.wire import Ended, parse_response

UPGRADE = ("Connection: Upgrade", "Upgrade: raw/1")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n\r\n"
TICK = 0.002
PACE = 0.004  # between an answer and the next question
ASKS = ("asking", "pipelining", "idle")


class LiveOrigin:
    """What the origin does: echoes in tunnels, answers with the target, keeps back what is asked under /held/."""

    def __init__(self, make_origin):
        self.release = threading.Event()
        self.origin = make_origin()
        self.origin.forever(self.serve)

    @property
    def address(self):
        return self.origin.address

    def serve(self, peer):
        while True:
            got = peer.request()
            if got.get("upgrade"):
                peer.send(SWITCH + peer.some() if peer.pending else SWITCH)
                while octets := peer.sock.recv(65536):
                    peer.sock.sendall(octets)
                raise Ended(b"", "end")
            if got.target.startswith("/held/"):
                peer.wait(self.release)
            peer.answer(200, got.target)

    def seen(self):
        """How often each target was asked for."""
        return collections.Counter(got.target for got in list(self.origin.requests))


class Connection:
    """One client. `ended`: (when, how) its end came, or None."""
    kind = ""

    def __init__(self, live, number):
        self.live = live
        self.number = number
        self.sock = connect(live.address)
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1] if self.sock.family == socket.AF_INET else 0
        self.got = bytearray()
        self.unsent = b""
        self.ended = None
        self.fault = None

    def __repr__(self):
        return f"{self.kind} {self.number} (port {self.port}, ended {self.ended}, fault {self.fault})"

    def say(self, octets):
        self.unsent += octets
        self.flush()

    def flush(self):
        if self.unsent:
            try:
                self.unsent = self.unsent[self.sock.send(self.unsent):]
            except BlockingIOError:
                pass
            except OSError:
                self.unsent = b""  # the read tells how it ended

    def readable(self):
        try:
            octets = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as gone:
            self.end(type(gone).__name__)
            return
        if not octets:
            self.end("end")
            return
        self.got += octets
        self.heard()

    def end(self, how):
        self.ended = (time.monotonic(), how)
        self.live.forget(self)
        self.sock.close()

    def leave(self):
        """The client closes."""
        if not self.ended:
            self.live.forget(self)
            self.sock.close()

    def progress(self):
        """Grows by 1 when what was not yet under way has been served."""
        return 0

    def wrong(self, what):
        self.fault = self.fault or what

    def heard(self):
        self.wrong(f"octets that nobody asked for: {bytes(self.got[:200])!r}")

    def tick(self, now):
        """Called now and then."""


class Asking(Connection):
    """Asks, waits for the one answer, asks again. `closes`: how often an answer said Connection: close."""
    kind = "asking"
    prefix = "/ask/"
    at_once = 1

    def __init__(self, live, number):
        super().__init__(live, number)
        self.turn = 0
        self.answers = 0
        self.waiting = []  # the targets that are asked for and not answered
        self.next_at = 0.0
        self.closes = 0

    def progress(self):
        return self.answers / self.at_once

    def ask(self):
        for _ in range(self.at_once):
            self.waiting.append(f"{self.prefix}{self.number}/{self.turn}")
            self.turn += 1
        self.say(b"".join(request("GET", target) for target in self.waiting))

    def tick(self, now):
        if not self.waiting and now >= self.next_at and not self.live.quiet:
            self.ask()

    def heard(self):
        while self.got:
            if not self.waiting:
                super().heard()
                return
            head, mark, rest = bytes(self.got).partition(b"\r\n\r\n")
            if not mark:
                return
            response = parse_response(head + mark)
            length = int(response.get("content-length") or 0)
            if len(rest) < length:
                return
            target = self.waiting.pop(0)
            if response.status != 200 or rest[:length] != target.encode():
                self.wrong(f"{target} got {bytes(self.got)!r}")
            self.closes += response.get("connection") == "close"
            self.got[:] = rest[length:]
            self.answers += 1
        self.next_at = time.monotonic() + PACE


class Pipelining(Asking):
    """Asks several times at once."""
    kind = "pipelining"
    prefix = "/pipe/"
    at_once = 5


class Idle(Asking):
    """Says nothing until it is told to."""
    kind = "idle"
    prefix = "/idle/"

    def tick(self, now):
        pass


class Held(Idle):
    """Inside an exchange until the origin answers."""
    kind = "held"
    prefix = "/held/"


class Tunnel(Connection):
    """Numbers of eight octets go out all the time and have to come back, each once and in order."""
    kind = "tunnel"
    WINDOW = 4096
    EACH = 32

    def __init__(self, live, number):
        super().__init__(live, number)
        self.open = False
        self.count = number << 40
        self.flight = bytearray()
        self.echoed = 0
        self.sent = 0
        self.say(request("GET", f"/tunnel/{number}", *UPGRADE))

    def progress(self):
        return self.echoed / self.WINDOW

    def tick(self, now):
        if not self.open or self.live.quiet or len(self.flight) >= self.WINDOW:
            return
        octets = struct.pack(f">{self.EACH}Q", *range(self.count, self.count + self.EACH))
        self.count += self.EACH
        self.flight += octets
        self.sent += len(octets)
        self.say(octets)

    def heard(self):
        if not self.open:
            head, mark, rest = bytes(self.got).partition(b"\r\n\r\n")
            if not mark:
                return
            if parse_response(head + mark).status != 101:
                self.wrong(f"no tunnel: {head!r}")
            self.open = True
            self.got[:] = rest
        count = len(self.got)
        if self.got != self.flight[:count]:
            at = next((i for i in range(count) if i >= len(self.flight) or self.got[i] != self.flight[i]), count)
            self.wrong(f"octet {self.echoed + at} of the echo is wrong: {bytes(self.got[at:at + 40])!r}"
                       f" instead of {bytes(self.flight[at:at + 40])!r}")
        del self.flight[:count]
        self.echoed += count
        self.got.clear()


class Live:
    """`with Live(tidegate, origin, asking=10, tunnels=4) as live:` opens them all first; at the end no octet may be wrong."""

    KINDS = {"asking": Asking, "pipelining": Pipelining, "idle": Idle, "held": Held, "tunnels": Tunnel}

    def __init__(self, tidegate, origin, **counts):
        self.address = tidegate.address()
        self.origin = origin
        self.counts = counts
        self.quiet = False  # nobody begins to speak
        self.all = []
        self._changes = collections.deque()  # what the thread has to do, by others
        self._selector = selectors.DefaultSelector()
        self._stop = False
        self._watched = set()
        self._thread = threading.Thread(target=self._run)

    def of(self, *kinds):
        return [one for one in self.all if one.kind in kinds]

    def __enter__(self):
        for name, count in self.counts.items():
            for number in range(count):
                self.all.append(self.KINDS[name](self, number))
        for one in self.all:
            self._watch(one)
        self._thread.start()
        self.ask(*self.of("idle"))
        self.do(lambda: [one.ask() for one in self.of("held")])
        until(lambda: all(one.answers for one in self.of(*ASKS)) and all(one.open for one in self.of("tunnel")),
              lambda: f"all connections to be open: {self.all}")
        if self.of("held"):
            until(lambda: sum(target.startswith("/held/") for target in self.origin.seen()) == len(self.of("held")),
                  "the questions that are kept back to arrive")
        return self

    def __exit__(self, kind, *_):
        self._stop = True
        self._thread.join()
        for one in self.all:
            one.sock.close()
        self._selector.close()
        if kind is None:
            self.check()

    def do(self, what):
        """`what()` by the thread that watches."""
        done = threading.Event()
        self._changes.append(lambda: (what(), done.set()))
        until(done.is_set, "the thread of the live connections")

    def ask(self, *connections):
        """Each of these asks once and gets its answer, or ends."""
        before = {one: one.answers for one in connections}
        self.do(lambda: [one.ask() for one in connections if not one.ended])
        until(lambda: all(one.answers > count or one.ended for one, count in before.items()),
              lambda: f"an answer for each of {[one for one in connections if one.waiting]}")

    def more(self, *connections, what="what lives to be served"):
        """Until each of these that lives has got further answers and octets; idle ones ask once."""
        mine = connections or self.all
        self.ask(*[one for one in mine if one.kind == "idle" and not one.ended])
        before = {one: one.progress() for one in mine if one.kind in ("asking", "pipelining", "tunnel")}
        slow = lambda: [one for one, count in before.items() if not one.ended and one.progress() < count + 2]
        until(lambda: not slow(), lambda: f"{what}: {slow()}")

    def settle(self):
        """Until nothing is under way: each question has its answer, each octet its echo."""
        self.quiet = True
        until(lambda: all(one.ended or (not one.flight if one.kind == "tunnel" else not one.waiting or one.kind == "held")
                          for one in self.all), lambda: f"nothing to be under way: {self.all}")

    def ended(self, *kinds):
        return [one for one in (self.of(*kinds) if kinds else self.all) if one.ended]

    def check(self):
        """No octet was wrong, and the origin saw each question once; of what ended unanswered, at most once."""
        assert not [one for one in self.all if one.fault], [one for one in self.all if one.fault][:5]
        seen = self.origin.seen()
        assert not {target: count for target, count in seen.items() if count > 1}, "a question came twice"
        for one in self.of(*ASKS, "held"):
            asked = {f"{one.prefix}{one.number}/{turn}" for turn in range(one.turn)} - set(one.waiting)
            assert asked <= set(seen), f"{one}: {sorted(asked - set(seen))[:5]} never reached the origin"

    def expect_all_alive(self):
        """Nothing ended, and no answer asked anybody to come again."""
        assert not self.ended(), self.ended()
        closing = [one for one in self.of(*ASKS, "held") if one.closes]
        assert not closing, f"told Connection: close: {closing}"

    def forget(self, one):
        if one in self._watched:
            self._watched.discard(one)
            self._selector.unregister(one.sock)

    def _watch(self, one):
        self._watched.add(one)
        self._selector.register(one.sock, selectors.EVENT_READ, one)

    def _run(self):
        while not self._stop:
            while self._changes:
                self._changes.popleft()()
            for key, _ in self._selector.select(TICK):
                try:
                    key.data.readable()
                except AssertionError as malformed:
                    key.data.wrong(repr(malformed))
                    key.data.end("malformed")
            now = time.monotonic()
            for one in list(self._watched):
                one.flush()
                one.tick(now)


def listed(tidegate):
    """{port of the client: its line} of `conns`."""
    return {int(one["client"].rsplit(":", 1)[1]): one for one in tidegate.ok("conns", "--json").json["connections"]}


def kernel_holds(port):
    """{port of the client: inode} of the connections that the kernel keeps open at `port` because somebody has a descriptor
    of them, also one that is under way between two processes."""
    held = {}
    with open("/proc/net/tcp", encoding="ascii") as file:
        next(file)
        for line in file:
            columns = line.split()
            if int(columns[1].split(":")[1], 16) == port and columns[3] != "0A" and columns[9] != "0":
                held[int(columns[2].split(":")[1], 16)] = int(columns[9])
    return held
