"""A row of the conformance table: what the client and the origin do, and what is acceptable at either end.

A row is read from top to bottom. `client` is what the client does, in order: octets are sent as one segment, anything
else is a step of steps.py. `origin` holds one script for each connection that the proxy opens; a connection beyond
them, and each script after its last step, serves: every request gets 200 and its own method, target and body back.
`sees` is every request that the origin may see, in order.

stage.py plays rows and adds what holds for all of them."""

from dataclasses import dataclass, field

from conformance.steps import Answer, Refused, check_fields

NOTHING = ()  # for `sees`: no request, no octet, not even a connection

# Behind whatever must not be read as a request. An origin that sees it was reached by smuggling.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

ROWS = []


@dataclass(frozen=True)
class Seen:
    """One request at the origin. `has`: name -> value, list of all values, or pattern."""
    method: str
    target: str
    body: bytes = b""
    has: dict = field(default_factory=dict)
    lacks: tuple = ()
    framing: str = None  # none, length, chunked
    trailers: list = None
    connection: int = None  # on which of the origin's connections it came
    cut: bool = False  # never completed: the connection ends before the body does
    perhaps: bool = False  # acceptable, not required: whether it began is a matter of timing

    def check(self, request):
        assert (request.method, request.target) == (self.method, self.target), request.raw
        assert request.version == "HTTP/1.1", "every message carries our own version"
        whole = getattr(request, "whole", False)
        if self.cut:
            assert not whole, f"a request that the client cut short was completed with {request.body!r}"
        else:
            assert whole, f"the body never came to its end: {request.raw!r}"
            assert request.body == self.body, f"body {request.body!r} instead of {self.body!r}"
        if self.framing is not None:
            assert request.framing == self.framing, request.raw
        if self.trailers is not None:
            assert request.trailers == self.trailers, request.trailers
        if self.connection is not None:
            assert request.connection == self.connection, f"came on connection {request.connection}"
        check_fields(request, self.has, self.lacks)


@dataclass(frozen=True)
class Row:
    name: str  # a sentence
    source: str  # RFC and section, or CVE number
    client: list
    sees: tuple = NOTHING
    origin: tuple = ()
    connections: int = None  # that the origin saw, if it matters
    reused: bool = None  # whether a later request of somebody else may come on a connection of this row
    on: str = "plain"  # the configuration, see stage.py
    together: bool = False  # what is acceptable is so only if its octets come in one segment, as they stand
    family: str = ""


def shown(octets):
    """`octets` as a name has them: line ends and control octets are written as escapes."""
    return repr(octets)[2:-1]


def table(family, *rows):
    """Puts `rows` into the table under the name of their family."""
    ROWS.extend(Row(**{**one.__dict__, "family": family}) for one in rows)


def refused(name, source, octets, reason, **more):
    """A request that is answered by ourselves with the error `reason`: one answer, then the end. What follows it in the
    same segment is never read as a request, and no connection to the origin is made."""
    return Row(name, source, client=[octets + SMUGGLED, Refused(reason)], **more)


def forwarded(name, source, octets, *sees, **more):
    """A request that is passed on: the origin sees `sees`, the client gets the answer and keeps its connection."""
    return Row(name, source, client=[octets, Answer(200), b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
                                     Answer(200, b"GET /next\n")],
               sees=(*sees, Seen("GET", "/next")), **more)
