"""A row of the HTTP/2 table. It is read like one of conformance/case.py: `client` is what the client does, in order; octets
are sent as one segment, anything else is a step of steps.py.

RFC 9113 is the text of truth. h2spec tests RFC 7540: `h2spec` says which of its sections a row stands for, and `differs`
where RFC 9113 is stricter or laxer than what h2spec expects."""

from dataclasses import dataclass

from conformance.case import NOTHING
from conformance.case import Seen as SeenAsWritten
from conformance.case import shown  # noqa: F401
from conformance_h2.steps import Alive, Answer, Dies, Malformed, Resets

ROWS = []


@dataclass(frozen=True)
class Seen(SeenAsWritten):
    """A request at the origin. HTTP/2 has names in lower case; how they are written for HTTP/1.1 is no matter."""

    def check(self, request):
        request.trailers = [(name.lower(), value) for name, value in request.trailers]
        super().check(request)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SEEN = Seen("GET", "/")
ASKED_AGAIN = Seen("GET", "/alive")


@dataclass(frozen=True)
class Row:
    name: str  # a sentence
    source: str  # RFC and section, or CVE number
    client: list
    sees: tuple = NOTHING
    origin: tuple = ()
    h2spec: str = ""  # suite/section
    differs: str = ""  # how RFC 9113 differs from what h2spec expects
    connections: int = None
    reused: bool = None
    on: str = "plain"
    begun: bool = True  # the client has sent its preface and the server's SETTINGS have come
    settings: tuple = ()  # of the client, in its preface
    together: bool = False  # not to be cut into single octets
    family: str = ""


def table(family, *rows):
    """Puts `rows` into the table under the name of their family."""
    ROWS.extend(Row(**{**one.__dict__, "family": family}) for one in rows)


def dies(name, source, octets, *codes, sees=NOTHING, first=(), **more):
    """A connection error. `first`: steps before `octets`."""
    more.setdefault("last", None)
    last = more.pop("last")
    return Row(name, source, client=[*first, octets, Dies(codes, last)], sees=sees, **more)


def resets(name, source, octets, *codes, sees=NOTHING, first=(), stream=1, **more):
    """A stream error; the connection and its other streams are unharmed."""
    return Row(name, source, client=[*first, octets, Resets(codes, stream), Alive((stream,))],
               sees=(*sees, ASKED_AGAIN), **more)


def malformed(name, source, octets, sees=NOTHING, **more):
    """A request that no origin ever sees; the connection is unharmed."""
    return Row(name, source, client=[octets, Malformed(), Alive((1,))], sees=(*sees, ASKED_AGAIN), **more)


def served(name, source, octets, seen=SEEN, answer=None, **more):
    """A request on stream 1 that is passed on and answered."""
    answer = answer or Answer(1, 200)
    return Row(name, source, client=[octets, answer, Alive()], sees=(seen, ASKED_AGAIN), **more)


def harmless(name, source, octets, **more):
    """Frames that change nothing."""
    return Row(name, source, client=[octets, Alive()], sees=(ASKED_AGAIN,), **more)


