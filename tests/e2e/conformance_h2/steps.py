"""What a client of HTTP/2 does and expects, one step after the other. The origin's steps are those of conformance/steps.py."""

from dataclasses import dataclass, field

from conformance.steps import check_fields
from support import h2_frames as h2
from support.errors import expect_answer
from support.h2_frames import code_name

ALIVE = 999  # the stream of `Alive`, above all that rows use


def names_of(codes):
    return " or ".join(map(code_name, codes))


@dataclass(frozen=True)
class Answer:
    """One whole answer on a stream. `interims`: the status codes of the 1xx before it. `reset`: the code of the RST_STREAM
    that may follow it, by which the rest of a request is declined (RFC 9113 section 8.1)."""
    stream: int = 1
    status: int = 200
    body: bytes = None
    has: dict = field(default_factory=dict)
    lacks: tuple = ()
    interims: tuple = ()
    trailers: list = None
    to: str = "GET"

    def at_client(self, play):
        response = play.client.answer(self.stream, self.to)
        assert response.status == self.status, f"{response.raw} instead of {self.status}"
        if self.body is not None:
            assert response.body == self.body, f"body {response.body!r} instead of {self.body!r}"
        if self.trailers is not None:
            assert response.trailers == self.trailers, response.trailers
        assert tuple(one.status for one in response.interims) == self.interims, response.interims
        assert response.reset in (None, h2.NO_ERROR), response.raw
        check_fields(response, self.has, self.lacks)


@dataclass(frozen=True)
class Head:
    """The head of an answer; the body is left to further steps."""
    stream: int = 1
    status: int = 200

    def at_client(self, play):
        response = play.client.head(self.stream)
        assert response.status == self.status, response.raw


@dataclass(frozen=True)
class Received:
    """So many octets of the body have come, and after a round trip not one more."""
    count: int
    stream: int = 1

    def at_client(self, play):
        known = play.client.of(self.stream)
        play.client.until(lambda: len(known.body) >= self.count or known.over, f"{self.count} octets of a body")
        play.client.roundtrip()
        assert len(known.body) == self.count and not known.over, known.raw


@dataclass(frozen=True)
class Interim:
    """The next 1xx of a stream, before its final answer."""
    status: int
    stream: int = 1
    has: dict = field(default_factory=dict)

    def at_client(self, play):
        known = play.client.of(self.stream)
        play.client.until(lambda: known.interims or known.status or known.over, "an interim answer")
        assert known.interims and known.interims[-1].status == self.status, known.raw
        check_fields(known.interims[-1], self.has, ())


@dataclass(frozen=True)
class Failed:
    """Our own answer for the error `reason`, complete; the connection is kept."""
    reason: str
    stream: int = 1
    to: str = "GET"
    interims: tuple = ()

    def at_client(self, play):
        response = play.client.answer(self.stream, self.to)
        expect_answer(response, self.reason)
        assert tuple(one.status for one in response.interims) == self.interims, response.interims
        play.stage.owed.append((play.row.name, response.get("x-request-id"), self.reason))


@dataclass(frozen=True)
class Malformed:
    """RFC 9113 section 8.1.1: a stream error of type PROTOCOL_ERROR, before which a 400 may be sent."""
    stream: int = 1

    def at_client(self, play):
        known = play.client.outcome(self.stream)
        if known.status is not None:
            assert known.status == 400 and known.ended, known.raw
        else:
            assert known.reset == h2.PROTOCOL_ERROR, known.raw


@dataclass(frozen=True)
class Resets:
    """The stream is reset, with one of these codes, before its answer has ended."""
    codes: tuple
    stream: int = 1

    def at_client(self, play):
        known = play.client.outcome(self.stream)
        assert not known.ended, f"an answer instead of {names_of(self.codes)}: {known.raw}"
        assert known.reset in self.codes, f"{code_name(known.reset)} instead of {names_of(self.codes)}"


CUT = (h2.INTERNAL_ERROR, h2.PROTOCOL_ERROR, h2.CANCEL, h2.CONNECT_ERROR)


@dataclass(frozen=True)
class Cut:
    """An answer of which `part` arrives, and then the stream is reset: it never looks whole. Gives the signal "part" when
    that much is there."""
    part: bytes
    stream: int = 1
    status: int = 200
    perhaps: bool = False  # not more than `part`

    def at_client(self, play):
        known = play.client.head(self.stream)
        assert known.status == self.status, known.raw
        play.client.until(lambda: known.over or len(known.body) >= len(self.part), "part of an answer")
        play.events.add("part")
        play.client.until(lambda: known.over, "the end of a broken answer")
        assert not known.ended, f"the truncated answer looks whole: {known.raw}"
        assert known.reset in CUT, known.raw
        assert self.part.startswith(known.body) if self.perhaps else known.body == self.part, known.raw


@dataclass(frozen=True)
class Dies:
    """A connection error (RFC 9113 section 5.4.1): GOAWAY with one of these codes, and the end of the connection.
    `last`: the last stream that the server has dealt with, if that is certain."""
    codes: tuple
    last: int = None

    def at_client(self, play):
        goaway = play.client.end()
        assert goaway is not None, f"the connection ended without GOAWAY; {play.client.told()}"
        assert goaway.code in self.codes, f"{goaway} instead of {names_of(self.codes)}"
        assert self.last in (None, goaway.last), f"{goaway} instead of last={self.last}"


@dataclass(frozen=True)
class NotHttp2:
    """The connection ends without an answer of HTTP/2. RFC 9113 section 3.4: GOAWAY may be missing; where HTTP/1.1 is spoken as
    well, what is no preface may be refused as a request of that."""

    def at_client(self, play):
        got = play.client.expect_gone()
        if got.startswith(b"HTTP/1.1 "):
            assert got[9:12] in (b"400", b"501", b"505"), got
            return
        while got:
            length, kind = int.from_bytes(got[:3], "big"), got[3]
            assert kind in (h2.SETTINGS, h2.GOAWAY, h2.WINDOW_UPDATE), got
            if kind == h2.GOAWAY:
                assert int.from_bytes(got[13:17], "big") == h2.PROTOCOL_ERROR, got
            got = got[h2.FRAME_HEAD + length:]


@dataclass(frozen=True)
class StreamOrConnection:
    """A stream error with one of these codes; RFC 9113 section 5.4.2 lets a server treat it as a connection error."""
    codes: tuple
    stream: int = 1

    def at_client(self, play):
        known = play.client.of(self.stream)
        play.client.until(lambda: known.reset is not None or play.client.goaway, f"an error of stream {self.stream}")
        if play.client.goaway:
            Dies(self.codes).at_client(play)
        else:
            assert known.reset in self.codes, f"{code_name(known.reset)} instead of {names_of(self.codes)}"


@dataclass(frozen=True)
class Alive:
    """The connection is unharmed: PING is answered, and so is a request. No stream but `resets` was reset meanwhile."""
    resets: tuple = ()

    def at_client(self, play):
        play.client.roundtrip()
        response = play.client.get("/alive", stream=ALIVE)
        assert (response.status, response.body) == (200, b"GET /alive\n"), response.raw
        assert play.client.goaway is None, play.client.goaway
        reset = {one.stream for one in play.client.streams.values() if one.reset not in (None, h2.NO_ERROR)}
        assert reset <= set(self.resets), f"streams {reset} were reset"


@dataclass(frozen=True)
class MayClose:
    """What RFC 9113 lets a server ignore, treat as a stream error or as a connection error, with one of these codes. If it is
    ignored, the next request is served. `resets`: streams that the error may reset."""
    codes: tuple
    resets: tuple = ()

    def at_client(self, play):
        client, after = play.client, play.client.of(ALIVE)
        try:
            client.send(h2.get(ALIVE, "/alive"))
        except OSError:
            pass  # it may have ended already
        client.until(lambda: client.goaway or after.over, "either GOAWAY or an answer")
        if client.goaway:
            Dies(self.codes).at_client(play)
            return
        assert after.status == 200 and after.ended, after.raw
        for one in client.streams.values():
            assert one.reset is None or one.reset in self.codes, one.raw


@dataclass(frozen=True)
class RefusesTheLast:
    """Of the open streams the last one is refused (RFC 9113 section 5.1.2), and the others are answered."""

    def at_client(self, play):
        client = play.client
        allowed = client.peer[h2.MAX_CONCURRENT_STREAMS]
        assert client.outcome(2 * allowed + 1).reset == h2.REFUSED_STREAM
        Settings((h2.INITIAL_WINDOW_SIZE, 65535)).at_client(play)
        for number in range(allowed):
            assert client.answer(2 * number + 1).status == 200
        assert client.goaway is None


@dataclass(frozen=True)
class NoAnswer:
    """Nothing has come on the stream, though the server has seen all that was sent."""
    stream: int = 1

    def at_client(self, play):
        play.client.roundtrip()
        known = play.client.of(self.stream)
        assert known.status is None and not known.over, known.raw


@dataclass(frozen=True)
class Preface:
    """The connection preface with SETTINGS, and the server's."""
    settings: tuple = ()

    def at_client(self, play):
        play.client.start(*self.settings)


@dataclass(frozen=True)
class Settings:
    """SETTINGS, which the server acknowledges."""
    pairs: tuple = ()

    def __init__(self, *pairs):
        object.__setattr__(self, "pairs", pairs)

    def at_client(self, play):
        play.client.send(play.client.settings(*self.pairs))
        play.client.started()


@dataclass(frozen=True)
class Pong:
    """The acknowledgement of a PING with these octets."""
    octets: bytes = b"tidegate"

    def at_client(self, play):
        play.client.until(lambda: any(one.kind == h2.PING and one.ack and one.octets == self.octets
                                      for one in play.client.frames), f"the acknowledgement of {self.octets!r}")


@dataclass(frozen=True)
class NoPong:
    """No PING with these octets has come back."""
    octets: bytes

    def at_client(self, play):
        assert not any(one.kind == h2.PING and one.octets == self.octets for one in play.client.frames)


@dataclass(frozen=True)
class Keep:
    """From here on the client gives no window back by itself."""

    def at_client(self, play):
        play.client.credit = False


@dataclass(frozen=True)
class Body:
    """A request's body, sent as the windows allow."""
    octets: bytes
    stream: int = 1
    end: bool = True

    def at_client(self, play):
        play.client.send_body(self.stream, self.octets, self.end)


@dataclass(frozen=True)
class Leaves:
    """Resets a stream."""
    stream: int = 1
    code: int = h2.CANCEL

    def at_client(self, play):
        play.client.leave(self.stream, self.code)


@dataclass(frozen=True)
class Drip:
    """Sends each octet after two milliseconds in which nothing came, so that each is read on its own."""
    octets: bytes

    def at_client(self, play):
        for octet in self.octets:
            play.client.send(bytes([octet]))
            play.client.silent(0.002)


@dataclass(frozen=True)
class Sends:
    """Octets that depend on what the server said: `make(client)`."""
    make: object

    def at_client(self, play):
        play.client.send(self.make(play.client))
