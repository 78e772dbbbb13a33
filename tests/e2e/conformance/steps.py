"""What the client and the origin of a row do and expect, one step after the other.

A step has `at_client(play)`, `at_origin(play, peer)`, or both. Nothing waits for time to pass: a step waits for octets,
for an end or for the other side, with a deadline."""

import os
import re
import signal
import time
from dataclasses import dataclass, field

from support import processes
from support.errors import expect_answer
from support.wait import deadline, until
from support.wire import Ended


def check_fields(head, has, lacks):
    for name, wanted in has.items():
        values = head.all(name)
        if isinstance(wanted, re.Pattern):
            assert len(values) == 1 and wanted.fullmatch(values[0]), f"{name}: {values}"
        else:
            assert values == ([wanted] if isinstance(wanted, str) else wanted), f"{name}: {values}, expected {wanted}"
    for name in lacks:
        assert not head.all(name), f"{name} is there: {head.all(name)}"


# What a client expects.

@dataclass(frozen=True)
class Answer:
    """One final answer, read strictly, with its whole body. `interims`: the status codes of the 1xx before it."""
    status: int
    body: bytes = None
    has: dict = field(default_factory=dict)
    lacks: tuple = ()
    phrase: str = None
    interims: tuple = ()
    framing: str = None  # none, length, chunked, close
    trailers: list = None
    to: str = "GET"
    closes: bool = None  # True: says so and ends. False: neither

    def at_client(self, play):
        response = play.client.response_head(self.to)
        assert response.status == self.status, f"{response.start} instead of {self.status}"
        if response.status != 101:
            play.client.body_of(response, response.framing, response.length)
        if self.body is not None:
            assert response.body == self.body, f"body {response.body!r} instead of {self.body!r}"
        if self.phrase is not None:
            assert response.reason == self.phrase, response.start
        if self.framing is not None:
            assert response.framing == self.framing, response.raw
        if self.trailers is not None:
            assert response.trailers == self.trailers, response.trailers
        assert tuple(one.status for one in response.interims) == self.interims, [one.start for one in response.interims]
        check_fields(response, self.has, self.lacks)
        if self.closes is not None:
            assert (response.get("connection") == "close") == self.closes, response.raw
        if self.closes:
            play.client.expect_end()


@dataclass(frozen=True)
class Interim:
    """The next head, which must be this 1xx."""
    status: int
    has: dict = field(default_factory=dict)
    lacks: tuple = ()
    phrase: str = None

    def at_client(self, play):
        response = play.client.interim()
        assert response.status == self.status, response.start
        assert self.phrase in (None, response.reason), response.start
        check_fields(response, self.has, self.lacks)
        assert not response.all("content-length") and not response.all("transfer-encoding"), response.raw


def own_answer(play, step, closes):
    response = play.client.response(step.to)
    expect_answer(response, step.reason, closes)
    assert step.interims in (None,
                             tuple(one.status for one in response.interims)), [one.start for one in response.interims]
    play.stage.owed.append((play.row.name, response.get("x-request-id"), step.reason))


@dataclass(frozen=True)
class Refused:
    """Our own answer for the error `reason`: its fixed status, Proxy-Status, Connection: close, one line in the log,
    and then the end of the connection without another octet."""
    reason: str
    to: str = "GET"
    interims: tuple = ()

    def at_client(self, play):
        own_answer(play, self, closes=True)
        play.client.expect_end()


@dataclass(frozen=True)
class Failed:
    """Our own answer for an error of which the client's connection is innocent: it is kept."""
    reason: str
    to: str = "GET"
    interims: tuple = ()

    def at_client(self, play):
        own_answer(play, self, closes=False)


@dataclass(frozen=True)
class AnswerHead:
    """The head of a final answer; its body is read by further steps, octet for octet."""
    status: int
    has: dict = field(default_factory=dict)
    lacks: tuple = ()
    to: str = "GET"

    def at_client(self, play):
        response = play.client.response_head(self.to)
        assert response.status == self.status, f"{response.start} instead of {self.status}"
        check_fields(response, self.has, self.lacks)


@dataclass(frozen=True)
class Cut:
    """An answer of which `part` arrives, and then the connection ends before the framing does. Gives the signal "part"
    when that much is there."""
    part: bytes
    status: int = 200

    def at_client(self, play):
        response = play.client.response_head()
        assert response.status == self.status, response.start
        assert cut_body(play, response, len(self.part)) == self.part


@dataclass(frozen=True)
class Broken:
    """Either our own 502, or an answer of which not more than `part` arrives before the connection ends visibly."""
    part: bytes

    def at_client(self, play):
        response = play.client.response_head()
        if response.status == 502:
            expect_answer(play.client.body_of(response, response.framing, response.length), "upstream_reset")
            return
        body = cut_body(play, response, len(self.part))
        assert self.part.startswith(body), body


def cut_body(play, response, enough):
    """What arrives of a body before the connection ends, which must be before the framing does. Gives the signal "part"
    when `enough` octets are there."""
    octets, how = b"", None
    while how is None:
        body, whole = body_so_far(response, octets)
        assert not whole, f"the truncated answer looks whole: {response.raw!r} {octets!r}"
        if len(body) >= enough:
            play.events.add("part")
        try:
            octets += play.client.some()
        except Ended as ended:
            how = ended.how
    assert response.framing != "close" or how == "reset", \
        f"the end of the connection looks like the end of the answer: {response.raw!r} {octets!r}"
    return body


def body_so_far(response, octets):
    """(the body that `octets` are the beginning of, whether its framing is at its end)."""
    if response.framing == "length":
        return octets, len(octets) >= response.length
    if response.framing == "close":
        return octets, False
    assert response.framing == "chunked", f"an answer that cannot be cut: {response.raw!r}"
    data = b""
    while line := re.match(rb"([0-9a-f]+)\r\n", octets):
        size = int(line[1], 16)
        if size == 0:
            return data, True
        data += octets[line.end():line.end() + size]
        octets = octets[line.end() + size + 2:]
    return data, False


@dataclass(frozen=True)
class Reads:
    """Exactly these octets come next, at either end."""
    octets: bytes

    def at_client(self, play):
        got = play.client.exactly(len(self.octets))
        assert got == self.octets, got

    def at_origin(self, _, peer):
        got = peer.exactly(len(self.octets))
        assert got == self.octets, got


@dataclass(frozen=True)
class Ends:
    """The peer's end comes next, in order and without another octet."""

    def at_client(self, play):
        play.client.expect_end()

    def at_origin(self, _, peer):
        peer.expect_end()


@dataclass(frozen=True)
class Gone:
    """The connection ends, in order or by a reset. `quiet`: nothing comes before."""
    quiet: bool = True

    def at_client(self, play):
        self.wait(play.client)

    def at_origin(self, _, peer):
        self.wait(peer)

    def wait(self, wire):
        got = wire.expect_gone()
        assert got == b"" or not self.quiet, f"octets where the end was expected: {got!r}"


@dataclass(frozen=True)
class Logged:
    """The access log has a line for `path`, which is of this row alone, with these values; those that can be called are
    called with the client's connection."""
    path: str
    values: dict

    def at_client(self, play):
        line = play.stage.log.logged(path=self.path)
        for name, value in self.values.items():
            wanted = value(play.client) if callable(value) else value
            assert line.get(name) == wanted, f"{name} is {line.get(name)!r}, expected {wanted!r} in {line}"


@dataclass(frozen=True)
class Arrived:
    """The origin has the heads of so many requests of this row."""
    count: int

    def at_client(self, play):
        until(lambda: len(play.stage.origin.requests) >= self.count, f"{self.count} requests at the origin",
              play.seconds)


@dataclass(frozen=True)
class Released:
    """The proxy has ended the origin's connection `number`: it is in no pool any more."""
    number: int = 0

    def at_client(self, play):
        peers = play.stage.origin.peers
        until(lambda: len(peers) > self.number and peers[self.number].finished.is_set(),
              f"the end of connection {self.number} at the origin", play.seconds)


# What a client or an origin does.

@dataclass(frozen=True)
class Dribble:
    """Sends each octet in a segment of its own."""
    octets: bytes

    def at_client(self, play):
        play.client.send(*[self.octets[at:at + 1] for at in range(len(self.octets))])

    def at_origin(self, _, peer):
        peer.send(*[self.octets[at:at + 1] for at in range(len(self.octets))])


@dataclass(frozen=True)
class Trickle:
    """Sends `octets` again and again, each time after a twentieth of a second in which nothing came, until the other
    side answers or ends. Fails when that takes half as long as a row may wait."""
    octets: bytes = b"x"

    def at_client(self, play):
        self.trickle(play.client, play.seconds / 2)

    def at_origin(self, play, peer):
        self.trickle(peer, play.seconds / 2)

    def trickle(self, wire, seconds):
        end = deadline(seconds)
        try:
            while wire.silent(0.05):
                assert time.monotonic() < end, "single octets hold the connection"
                wire.send(self.octets)
        except OSError:
            pass


@dataclass(frozen=True)
class Pour:
    """Sends `count` octets, or as many as the other side takes before it ends."""
    count: int

    def at_client(self, play):
        self.pour(play.client)

    def at_origin(self, _, peer):
        self.pour(peer)

    def pour(self, wire):
        try:
            for _ in range(self.count // 65536):
                wire.send(b"p" * 65536)
        except OSError:
            pass


@dataclass(frozen=True)
class HalfClose:
    """Ends the own direction; the other stays open."""

    def at_client(self, play):
        play.client.half_close()

    def at_origin(self, _, peer):
        peer.half_close()


class Finished(Exception):
    """The origin's script closed its connection."""


@dataclass(frozen=True)
class Freeze:
    """Stops the workers until `Thaw`: what happens in between comes to them at once."""

    def at_client(self, play):
        for pid in play.stage.log.worker_processes():
            os.kill(pid, signal.SIGSTOP)
            until(lambda pid=pid: processes.stopped(pid), f"the worker {pid} stopped")

    def at_origin(self, play, _):
        self.at_client(play)


@dataclass(frozen=True)
class Thaw:

    def at_client(self, play):
        play.stage.thaw()


@dataclass(frozen=True)
class Leave:
    """Closes the connection."""

    def at_client(self, play):
        play.client.close()

    def at_origin(self, _, peer):
        raise Finished


@dataclass(frozen=True)
class Reset:
    """Closes the connection with RST."""

    def at_client(self, play):
        play.client.reset()

    def at_origin(self, _, peer):
        peer.reset()
        raise Finished


@dataclass(frozen=True)
class NewClient:
    """Somebody else's connection; the first one is closed."""

    def at_client(self, play):
        play.client.close()
        play.client = play.stage.connect()


@dataclass(frozen=True)
class Signal:
    """Tells the other end's `Await` of the same name to go on."""
    name: str

    def at_client(self, play):
        play.events.add(self.name)

    def at_origin(self, play, _):
        play.events.add(self.name)


@dataclass(frozen=True)
class Await:
    name: str

    def at_client(self, play):
        until(lambda: self.name in play.events, f"the signal {self.name!r} of the origin", play.seconds)

    def at_origin(self, play, _):
        until(lambda: self.name in play.events or play.over, f"the signal {self.name!r} of the client", play.seconds)


@dataclass(frozen=True)
class Head:
    """The origin reads the head of a request and leaves its body."""

    def at_origin(self, _, peer):
        head = peer.request_head()
        head.whole = head.framing == "none"


@dataclass(frozen=True)
class Body:
    """The origin reads the body of the request whose head it has."""

    def at_origin(self, _, peer):
        request = [one for one in peer.origin.requests if one.connection == peer.number][-1]
        peer.body_of(request, request.framing, request.length)
        request.whole = True


@dataclass(frozen=True)
class Request:
    """The origin reads a request with its body."""

    def at_origin(self, _, peer):
        whole_request(peer)


def whole_request(peer):
    request = peer.request_head()
    peer.body_of(request, request.framing, request.length)
    request.whole = True
    return request
