"""What every server must be able to take (h2spec's generic suite): each frame in its ordinary forms, whole exchanges, every
representation of HPACK."""

from conformance.steps import Await, Gone, Request, Signal
from conformance_h2.case import ASKED_AGAIN, OK, SEEN, Row, Seen, harmless, served, table
from conformance_h2.steps import Alive, Answer, Drip, Head, Keep, Leaves, Pong, Preface, Received, Sends, Settings
from support import h2_frames as h2
from support import hpack
from support.h2_frames import asking, continuation, data, get, headers, post, priority

X = ("x-a", "b")
SEES_X = Seen("GET", "/", has={"x-a": "b"})
POSTED = Seen("POST", "/", b"hello")
LONG = b"z" * 100
LONG_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + LONG


GIVE = Settings((h2.INITIAL_WINDOW_SIZE, 65535))


def row(name, source, section, octets, seen=SEEN, answer=None):
    return served(name, source, octets, seen, answer, h2spec="generic/" + section)


def coded(name, piece, seen=SEES_X):
    """A request with one field in some representation."""
    return row(name, "RFC 7541 section 6", "5", headers(1, *asking(piece)), seen)


def slowly(name, source, section, *steps, settings=((h2.INITIAL_WINDOW_SIZE, 0),)):
    """The answer's body waits for window while `steps` happen."""
    return Row(name, source, client=[get(1), Head(), *steps, Answer(1, 200, LONG), GIVE, Alive()],
               origin=[[Request(), LONG_ANSWER]], sees=(SEEN, ASKED_AGAIN), h2spec=section, settings=settings)


table(
    "generic",

    Row("A preface with SETTINGS is answered with SETTINGS and an acknowledgement", "RFC 9113 section 3.4",
        client=[Preface(), Alive()], sees=(ASKED_AGAIN,), begun=False, h2spec="generic/1"),
    Row("A request may follow the preface at once", "RFC 9113 section 3.4",
        client=[Sends(lambda client: h2.PREFACE + client.settings() + get(1)), Answer(), Alive()],
        sees=(SEEN, ASKED_AGAIN), begun=False),
    Row("SETTINGS of the client hold for the request behind them", "RFC 9113 section 3.4",
        client=[Sends(lambda client: h2.PREFACE + client.settings((h2.INITIAL_WINDOW_SIZE, 7)) + get(1)), Keep(), Received(7),
                GIVE, Answer(1, 200, LONG), Alive()],
        origin=[[Request(), LONG_ANSWER]], sees=(SEEN, ASKED_AGAIN), begun=False),

    # Streams.
    row("PRIORITY on an idle stream changes nothing", "RFC 9113 section 5.1", "2", priority(1) + get(1)),
    slowly("WINDOW_UPDATE is taken on a half-closed stream", "RFC 9113 section 5.1", "generic/2",
           Sends(lambda client: client.give(1, 100) or b"")),
    slowly("PRIORITY is taken on a half-closed stream", "RFC 9113 section 5.1", "generic/2", priority(1), GIVE),
    Row("RST_STREAM on a half-closed stream ends the request to the origin", "RFC 9113 section 5.1",
        client=[get(1), Await("asked"), Leaves(1), Alive()],
        origin=[[Request(), Signal("asked"), Gone()]], sees=(SEEN, ASKED_AGAIN), connections=2, h2spec="generic/2"),
    Row("PRIORITY on a closed stream changes nothing", "RFC 9113 section 5.1",
        client=[get(1), Answer(), priority(1), Alive()], sees=(SEEN, ASKED_AGAIN), h2spec="generic/2"),
    Row("WINDOW_UPDATE on a closed stream changes nothing", "RFC 9113 section 5.1",
        client=[get(1), Answer(), h2.window_update(1, 100), Alive()], sees=(SEEN, ASKED_AGAIN)),
    Row("RST_STREAM on a closed stream changes nothing", "RFC 9113 section 5.1",
        client=[get(1), Answer(), h2.rst(1), Alive()], sees=(SEEN, ASKED_AGAIN)),
    Row("Streams are answered side by side, whichever is ready first", "RFC 9113 section 5",
        client=[get(1, "/1"), Await("first"), get(3, "/3"), Answer(3, 200, b"GET /3\n"), Signal("go"),
                Answer(1, 200, b"ok")],
        origin=[[Request(), Signal("first"), Await("go"), OK]], sees=(Seen("GET", "/1"), Seen("GET", "/3")),
        connections=2),
    Row("Stream identifiers may leave gaps", "RFC 9113 section 5.1.1",
        client=[get(7, "/7"), Answer(7, 200, b"GET /7\n"), get(101, "/101"), Answer(101, 200, b"GET /101\n"), Alive()],
        sees=(Seen("GET", "/7"), Seen("GET", "/101"), ASKED_AGAIN), reused=True),
    Row("The largest stream identifier is one", "RFC 9113 section 5.1.1",
        client=[get(2**31 - 1), Answer(2**31 - 1, 200, b"GET /\n")], sees=(SEEN,)),

    # Frames.
    row("A request has its body in one DATA frame", "RFC 9113 section 6.1", "3.1", post(1) + data(1, b"hello", end=True),
        POSTED, Answer(1, 200, b"POST /\nhello")),
    row("... or in many", "RFC 9113 section 6.1", "3.1",
        post(1) + data(1, b"he") + data(1, b"ll") + data(1, b"o", end=True), POSTED, Answer(1, 200, b"POST /\nhello")),
    row("Padding of DATA is no body", "RFC 9113 section 6.1", "3.1", post(1) + data(1, b"hello", end=True, pad=255), POSTED,
        Answer(1, 200, b"POST /\nhello")),
    row("A frame of padding alone is no body", "RFC 9113 section 6.1", "3.1",
        post(1) + data(1, b"", pad=9) + data(1, b"hello", pad=0) + data(1, end=True), POSTED,
        Answer(1, 200, b"POST /\nhello")),
    row("A request may be one HEADERS frame", "RFC 9113 section 6.2", "3.2", get(1)),
    row("Padding of HEADERS is no field", "RFC 9113 section 6.2", "3.2", headers(1, *asking(), pad=200)),
    row("Priority within HEADERS is read over", "RFC 9113 section 6.2", "3.2",
        headers(1, *asking(), depends=0, weight=256, exclusive=True)),
    row("Padding and priority may come together", "RFC 9113 section 6.2", "3.2",
        headers(1, *asking(), depends=3, pad=3)),
    row("PRIORITY of weight 1 changes nothing", "RFC 9113 section 6.3", "3.3", priority(1, weight=1) + get(1)),
    row("PRIORITY of weight 256 changes nothing", "RFC 9113 section 6.3", "3.3", priority(1, weight=256) + get(1)),
    row("PRIORITY that depends on another stream changes nothing", "RFC 9113 section 6.3", "3.3",
        priority(1, depends=5) + get(1)),
    row("Exclusive PRIORITY changes nothing", "RFC 9113 section 6.3", "3.3", priority(1, exclusive=True) + get(1)),
    row("PRIORITY of a higher idle stream opens nothing", "RFC 9113 section 6.3", "3.3", priority(5) + get(1)),
    Row("RST_STREAM ends a stream, and no other", "RFC 9113 section 6.4",
        client=[get(1, "/1"), Await("asked"), get(3, "/3"), Leaves(1), Answer(3, 200, b"GET /3\n"), Alive()],
        origin=[[Request(), Signal("asked"), Gone()]], sees=(Seen("GET", "/1"), Seen("GET", "/3"), ASKED_AGAIN),
        h2spec="generic/3.4"),
    Row("SETTINGS may come at any time and are acknowledged", "RFC 9113 section 6.5",
        client=[Settings((h2.MAX_CONCURRENT_STREAMS, 10)), Settings(), Alive()], sees=(ASKED_AGAIN,),
        h2spec="generic/3.5"),
    Row("A PING is acknowledged with its octets", "RFC 9113 section 6.7", client=[h2.ping(b"\x00\xff pong!"),
                                                                               Pong(b"\x00\xff pong!"), Alive()],
        sees=(ASKED_AGAIN,), h2spec="generic/3.7"),
    Row("A GOAWAY of the client ends no stream that it has opened", "RFC 9113 section 6.8",
        client=[get(1), Await("asked"), h2.goaway(0), Signal("go"), Answer(1, 200, b"ok")],
        origin=[[Request(), Signal("asked"), Await("go"), OK]], sees=(SEEN,), h2spec="generic/3.8"),
    harmless("WINDOW_UPDATE of the connection is taken", "RFC 9113 section 6.9", h2.window_update(0, 1),
             h2spec="generic/3.9"),
    row("WINDOW_UPDATE of a stream is taken", "RFC 9113 section 6.9", "3.9", post(1) + h2.window_update(1, 1)
        + data(1, b"hello", end=True), POSTED),
    row("A block may be cut into HEADERS and CONTINUATION", "RFC 9113 section 6.10", "3.10",
        headers(1, *asking(), whole=False) + continuation(1, X), SEES_X),
    row("... and into many, within a field as well", "RFC 9113 section 6.10", "3.10",
        headers(1, *asking(), whole=False) + continuation(1, hpack.block(X)[:3], whole=False)
        + continuation(1, whole=False) + continuation(1, hpack.block(X)[3:]), SEES_X),
    Row("... each of which comes in single octets", "RFC 9113 section 6.10",
        client=[headers(1, *asking(), whole=False), Drip(continuation(1, whole=False) * 4 + continuation(1, X)), Answer(),
                Alive()], sees=(SEES_X, ASKED_AGAIN), together=True),
    row("A HEADERS frame may be empty, with the whole block behind it", "RFC 9113 section 6.10", "3.10",
        headers(1, whole=False) + continuation(1, *asking(X)), SEES_X),

    # Exchanges.
    row("GET", "RFC 9113 section 8.1", "4", get(1, "/a?b=c", X), Seen("GET", "/a?b=c", has={"x-a": "b", "host": "test"},
                                                                    framing="none"), Answer(1, 200, b"GET /a?b=c\n")),
    row("HEAD", "RFC 9113 section 8.1", "4", get(1, method="HEAD"), Seen("HEAD", "/"),
        Answer(1, 200, b"", to="HEAD", has={"content-length": "7"})),
    row("POST", "RFC 9113 section 8.1", "4", post(1, "/", ("content-length", "5")) + data(1, b"hello", end=True),
        Seen("POST", "/", b"hello", framing="length", has={"content-length": "5"}), Answer(1, 200, b"POST /\nhello")),
    row("POST with trailers", "RFC 9113 section 8.1", "4", post(1) + data(1, b"hello") + headers(1, ("x-sum", "7")),
        Seen("POST", "/", b"hello", framing="chunked", trailers=[("x-sum", "7")]), Answer(1, 200, b"POST /\nhello")),
    row("POST without a body", "RFC 9113 section 8.1", "4", get(1, method="POST"),
        Seen("POST", "/", b"", lacks=("transfer-encoding",))),
    row("POST whose body is an empty DATA frame", "RFC 9113 section 8.1", "4", post(1) + data(1, end=True),
        Seen("POST", "/", b"")),
    row("POST whose length is zero", "RFC 9113 section 8.1", "4", get(1, "/", ("content-length", "0"), method="POST"),
        Seen("POST", "/", b"", has={"content-length": "0"})),

    # HPACK.
    row("A field of the static table", "RFC 7541 section 6.1", "5",
        headers(1, *[hpack.indexed(one) for one in (2, 6, 4)], hpack.literal(1, "test"), hpack.indexed(16)),
        Seen("GET", "/", has={"accept-encoding": "gzip, deflate"})),
    coded("A literal that is added, with an indexed name and Huffman codes", hpack.added(19, "a/b", True),
          Seen("GET", "/", has={"accept": "a/b"})),
    coded("A literal that is added, with an indexed name", hpack.added(19, "a/b"), Seen("GET", "/", has={"accept": "a/b"})),
    coded("A literal that is added, with a new name and Huffman codes", hpack.added("x-a", "b", True)),
    coded("A literal that is added, with a new name", hpack.added("x-a", "b")),
    coded("A literal that is not added, with an indexed name and Huffman codes", hpack.literal(19, "a/b", True),
          Seen("GET", "/", has={"accept": "a/b"})),
    coded("A literal that is not added, with an indexed name", hpack.literal(19, "a/b"),
          Seen("GET", "/", has={"accept": "a/b"})),
    coded("A literal that is not added, with a new name and Huffman codes", hpack.literal("x-a", "b", True)),
    coded("A literal that is not added, with a new name", hpack.literal("x-a", "b")),
    coded("A literal that is never added, with an indexed name and Huffman codes", hpack.never(19, "a/b", True),
          Seen("GET", "/", has={"accept": "a/b"})),
    coded("A literal that is never added, with an indexed name", hpack.never(19, "a/b"),
          Seen("GET", "/", has={"accept": "a/b"})),
    coded("A literal that is never added, with a new name and Huffman codes", hpack.never("x-a", "b", True)),
    coded("A literal that is never added, with a new name", hpack.never("x-a", "b")),
    row("A change of the table size before the first field", "RFC 7541 section 6.3", "5",
        headers(1, hpack.table_size(128), *asking())),
    row("Two changes of the table size", "RFC 7541 section 6.3", "5",
        headers(1, hpack.table_size(0), hpack.table_size(4096), *asking())),
    Row("What one request has added the next may name", "RFC 7541 section 2.3.2",
        client=[headers(1, *asking(hpack.added("x-a", "b"))), Answer(), headers(3, *asking(hpack.indexed(62), path="/3")),
                Answer(3, 200), headers(5, *asking(hpack.literal(62, "c"), path="/5")), Answer(5, 200), Alive()],
        sees=(SEES_X, Seen("GET", "/3", has={"x-a": "b"}), Seen("GET", "/5", has={"x-a": "c"}), ASKED_AGAIN)),
    Row("What a refused request has added the next may name", "RFC 9113 section 4.3",
        client=[headers(1, *asking(("Bad", "x"), hpack.added("x-a", "b"))), headers(3, *asking(hpack.indexed(62))),
                Answer(3, 200), Alive((1,))],
        sees=(SEES_X, ASKED_AGAIN)),
    Row("What comes on a stream that the server has reset is decoded all the same", "RFC 9113 section 5.1",
        client=[post(1, "/1", ("content-length", "1")) + data(1, b"hello") + headers(1, hpack.added("x-a", "b"))
                + headers(3, *asking(hpack.indexed(62))), Answer(3, 200), Alive((1,))],
        sees=(Seen("POST", "/1", cut=True, perhaps=True), SEES_X, ASKED_AGAIN), together=True),
)
